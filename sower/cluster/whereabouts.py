"""On which channels users are present, on all nodes: each says it of its own clients."""

from __future__ import annotations

from collections.abc import Iterable

from sower.cluster.board import Board

BETWEEN = "\0"
"""Stands between the names of channels, which have no control characters."""


class Whereabouts:
    """Of each node's clients."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def set(self, app: str, user: str, channel: str, *, here: bool) -> None:
        """Whether a user is present on a channel with a client of this node."""
        known = self._board.own(app, user)
        channels = dict.fromkeys(known.decode().split(BETWEEN)) if known is not None else {}
        if here == (channel in channels):
            return
        if here:
            channels[channel] = None
        else:
            del channels[channel]
        self._board.say(app, user, BETWEEN.join(channels).encode() if channels else None)

    async def of(self, app: str, user: str, nodes: Iterable[str]) -> set[str]:
        """Where a user is. Raises ClusterFailed."""
        own = self._board.own(app, user)
        values = [*(await self._board.elsewhere_on(app, user, nodes)).values(), *([own] if own else [])]
        return _names(values)

    async def all(self, app: str, nodes: Iterable[str]) -> set[str]:
        """Every channel on which somebody is. Raises ClusterFailed."""
        answers = await self._board.elsewhere(app, nodes)
        return _names(value for fields in (*answers, self._board.own_fields(app)) for value in fields.values())


def _names(values: Iterable[bytes]) -> set[str]:
    return {name for value in values for name in value.decode().split(BETWEEN)}
