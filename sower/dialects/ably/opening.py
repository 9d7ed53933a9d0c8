"""How Ably's sockets are opened: who is taken, and what those are told who are not."""

from __future__ import annotations

from collections.abc import Sequence

from sower.config import AblySettings, App
from sower.dialects.ably import codes
from sower.dialects.ably.channels import ChannelWords
from sower.dialects.ably.credentials import key_name, read_credentials
from sower.dialects.ably.keys import key_names
from sower.dialects.ably.socket import AblyConversation, Manner
from sower.dialects.ably.wire import JSON, MSGPACK, Action, OutFrame, format_of
from sower.dialects.interface import HttpCall, Opened, Refusal, SocketRoute
from sower.errors import SowerError


class Sockets:
    """The sockets of these apps."""

    def __init__(self, apps: Sequence[App], epoch: str, ping_every: float) -> None:
        settings = {name: app.ably for app in apps for name in key_names(app)}
        self._words = {wire: ChannelWords(wire, epoch) for wire in (JSON, MSGPACK)}
        self._manners = {
            (wire, name): Manner(wire, words, epoch, of_app, ping_every)
            for wire, words in self._words.items()
            for name, of_app in {**settings, "": AblySettings()}.items()
        }

    def open(self, call: HttpCall) -> Opened:
        """Take a socket. Raises NotAuthorised, BadParameter, UserMismatch."""
        wire = format_of(call.query.get("format"))
        shown = read_credentials(call.headers, call.query)
        manner = self._manners.get((wire, key_name(shown) or ""), self._manners[wire, ""])
        return Opened(shown, AblyConversation(manner, call.query), self._words[wire])


def refuse(call: HttpCall, error: SowerError) -> Refusal:
    """ERROR, or DISCONNECTED where the client may come back: a refused handshake would be tried for ever."""
    wire = format_of(call.query.get("format"))
    comes_back = error.retry  # an expired token is an ERROR here, upon which an SDK gets a new one
    code = codes.at_connect(error)
    frame = OutFrame(Action.DISCONNECTED if comes_back else Action.ERROR, error=codes.info(error, code))
    return Refusal(wire.encode(frame), error.close, is_text=not wire.binary)


def socket_routes(apps: Sequence[App], epoch: str, ping_every: float) -> tuple[SocketRoute, ...]:
    """The one route."""
    return (SocketRoute("/", Sockets(apps, epoch, ping_every).open, refuse),)
