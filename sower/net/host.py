"""What connections ask of where they live."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from sower.net.held import Held
from sower.net.routing import Opening
from sower.net.wire import Wire

if TYPE_CHECKING:
    from sower.net.connection import Connection


class Host(Protocol):
    """Where connections live.

    closing: whether no requests are to follow those that are being answered
    holding: all requests that are held
    now:     trio's clock, at its last tick
    """

    closing: bool
    holding: set[Held]

    @property
    def now(self) -> float: ...

    def watch(self, connection: Connection, events: int) -> None:
        """Tell it of these events of its socket, and of no others."""
        ...

    def look_again(self, connection: Connection, after: float) -> None:
        """Have it tended within so many seconds."""
        ...

    def soon(self, connection: Connection) -> None:
        """Have it go on when others had their turn."""
        ...

    def send_soon(self, connection: Connection) -> None:
        """Have it send its answers when others have theirs, before the next turn."""
        ...

    def start(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a task."""
        ...

    def give(self, wire: Wire, open_socket: Opening) -> None:
        """Give a socket to who opens it."""
        ...

    def leave(self, connection: Connection) -> None:
        """Forget a connection."""
        ...
