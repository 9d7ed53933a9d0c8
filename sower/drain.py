"""The end of a daemon's life: its sessions are closed a batch at a time, so that they do not all come back at once.

Rule 1: each is closed with the code with which its protocol says "reconnect", and its client has time to answer.
Rule 2: few sessions are closed at once; many take half of the time that there is, the rest is for their answers.
"""

from __future__ import annotations

import math
import random

import trio

from sower.clients import Clients
from sower.errors import Draining

BATCH = 100
"""Sessions that are closed before other tasks run: a millisecond or two of close frames."""

LONGEST_PAUSE = 0.1
"""Seconds between two batches, at most: a thousand clients a second come back to whoever serves them next."""


def pauses(sessions: int, within: float) -> list[float]:
    """Seconds to wait before each batch, each of them off by up to a half at random. The first does not wait."""
    batches = math.ceil(sessions / BATCH)
    pause = min(LONGEST_PAUSE, within / 2 / max(batches, 1))
    return [0.0, *(pause * random.uniform(0.5, 1.5) for _ in range(batches - 1))][:batches]


async def drain(clients: Clients, *, within: float) -> None:
    """Close every session, and wait until all are gone. within: seconds until the caller cuts them off."""
    sessions = list(clients.reader)
    random.shuffle(sessions)
    for number, pause in enumerate(pauses(len(sessions), within)):
        await trio.sleep(pause)
        for session in sessions[number * BATCH : (number + 1) * BATCH]:
            session.end(Draining())
    await clients.gone()
