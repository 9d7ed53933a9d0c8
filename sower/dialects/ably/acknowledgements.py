"""What a connection published and was not answered yet.

Rule 1: answers go out in the order of the client's serials, each once, because the SDK resolves what it sent from
        the head of its queue; channels may be done in another order.
Rule 2: neighbours that succeeded are acknowledged together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from sower.core.command import SocketCommand
from sower.dialects.ably.codes import ErrorInfo
from sower.dialects.ably.wire import Action, OutFrame, Result


class _Sent:
    """One frame of the client. left: commands of it that are not answered yet."""

    __slots__ = ("commands", "error", "left", "serial", "serials")

    def __init__(self, serial: int, commands: Sequence[SocketCommand]) -> None:
        self.serial = serial
        self.commands = commands
        self.left = len(commands)
        self.serials: list[str] = []
        self.error: ErrorInfo | None = None


class Acknowledgements:
    """The frames of one connection in their order."""

    __slots__ = ("_sent",)

    def __init__(self) -> None:
        self._sent: deque[_Sent] = deque()

    def __len__(self) -> int:
        return len(self._sent)

    def expect(self, serial: int, commands: Sequence[SocketCommand]) -> None:
        """A frame came that asks for these commands."""
        self._sent.append(_Sent(serial, commands))

    def settle(
        self, command: SocketCommand, *, serials: Sequence[str] = (), error: ErrorInfo | None = None
    ) -> list[OutFrame]:
        """One of the commands is answered: what can be told now."""
        for sent in self._sent:
            if any(one is command for one in sent.commands):
                sent.left -= 1
                sent.serials.extend(serials)
                sent.error = sent.error or error
                break
        return self._ready()

    def _ready(self) -> list[OutFrame]:
        frames: list[OutFrame] = []
        while self._sent and not self._sent[0].left:
            sent = self._sent.popleft()
            last = frames[-1] if frames else None
            if sent.error is not None:
                frames.append(OutFrame(Action.NACK, msgSerial=sent.serial, count=1, error=sent.error))
            elif last is not None and last.res is not None and _follows(last, sent.serial):
                last.res.append(Result(sent.serials))
                last.count = len(last.res)
            else:
                frames.append(OutFrame(Action.ACK, msgSerial=sent.serial, count=1, res=[Result(sent.serials)]))
        return frames


def _follows(frame: OutFrame, serial: int) -> bool:
    return serial == (frame.msgSerial or 0) + (frame.count or 0)
