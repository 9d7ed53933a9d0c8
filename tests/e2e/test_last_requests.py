"""A daemon that stops answers what is under way: a client that was told to go on is not cut off in its next request."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import trio

from tests.e2e.daemon import PATIENCE, running
from tests.sdk.pubnub.world import CONFIG, KEYSET

POLL = "/v2/subscribe/{subscribeKey}/room/0?tt={tt}&uuid=bob"


async def ask(stream: trio.SocketStream, path: str) -> None:
    await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: sower\r\n\r\n".encode())


async def test_a_poll_that_is_asked_anew_while_the_daemon_stops_is_answered_and_told_to_end(tmp_path: Path) -> None:
    async with running(tmp_path, CONFIG) as daemon:
        bob = await trio.open_tcp_stream("127.0.0.1", daemon.port)
        ada = await trio.open_tcp_stream("127.0.0.1", daemon.port)
        await ask(bob, POLL.format(tt=0, **KEYSET))
        head, _, body = (await bob.receive_some()).partition(b"\r\n\r\n")
        await ask(bob, POLL.format(tt=json.loads(body)["t"]["t"], **KEYSET))
        await ask(ada, "/publish/{publishKey}/{subscribeKey}/0/room/0/%22hello%22?uuid=ada".format(**KEYSET))
        assert b'"Sent"' in await ada.receive_some()
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGTERM)
        heard: list[str] = []
        with trio.fail_after(PATIENCE):
            while b"Connection: close" not in head:
                answer = await bob.receive_some()
                assert answer, "the connection ended without an answer"
                head, _, body = answer.partition(b"\r\n\r\n")
                said = json.loads(body)
                heard += [message["d"] for message in said["m"]]
                if b"Connection: close" not in head:
                    await ask(bob, POLL.format(tt=said["t"]["t"], **KEYSET))
            assert await bob.receive_some() == b""
        assert heard == ["hello"]
