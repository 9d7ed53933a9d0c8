"""Ably's error codes for the errors of the tree. They carry policy: what an SDK does next depends on them.

Rule 1: 40140 to 40149 make an SDK get a new token and try again, so they are for tokens alone.
Rule 2: a connection that may come back is told DISCONNECTED; after ERROR the SDK gives up for good, but for tokens.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from sower import errors
from sower.core.command import Appear, SocketCommand, Subscribe
from sower.errors import SowerError


class Code(NamedTuple):
    """A code of Ably's registry and its HTTP status."""

    code: int
    status: int


class ErrorInfo(msgspec.Struct, frozen=True):
    """An error as SDKs read it: they fail themselves where one of the three is missing."""

    message: str
    code: int
    statusCode: int


CODES: dict[type[SowerError], Code] = {
    errors.SowerError: Code(50000, 500),
    errors.BadRequest: Code(40000, 400),
    errors.BadParameter: Code(40003, 400),
    errors.BadPosition: Code(40003, 400),
    errors.BadChannelName: Code(40010, 400),
    errors.BadData: Code(40013, 400),
    errors.NotAuthorised: Code(40101, 401),
    errors.UnknownKey: Code(40400, 404),
    errors.BadToken: Code(40144, 401),
    errors.StaleRequest: Code(40104, 401),
    errors.RequestRepeated: Code(40105, 401),
    errors.TokenExpired: Code(40142, 401),
    errors.TokenRevoked: Code(40141, 401),
    errors.Forbidden: Code(40160, 401),
    errors.ModeNotAsked: Code(40165, 401),
    errors.UserMismatch: Code(40012, 400),
    errors.NoUser: Code(91000, 400),
    errors.NotIdentified: Code(40161, 401),
    errors.OwnsNothing: Code(40166, 401),
    errors.NeedsKey: Code(40162, 401),
    errors.AppDisabled: Code(40300, 403),
    errors.OriginRefused: Code(40300, 403),
    errors.UserTerminated: Code(40300, 403),
    errors.HistoryOff: Code(40300, 403),
    errors.ChangesOff: Code(93002, 400),
    errors.PresenceOff: Code(91001, 400),
    errors.NotFound: Code(40400, 404),
    errors.MethodNotAllowed: Code(40400, 404),
    errors.TooLarge: Code(40009, 413),
    errors.TooMany: Code(42910, 429),
    errors.RateLimited: Code(42911, 429),
    errors.ChannelBusy: Code(42922, 429),
    errors.TooSlow: Code(80003, 400),
    errors.Unavailable: Code(50003, 500),
    errors.Draining: Code(80003, 503),
}
"""By class; one that is not here has the code of the nearest class above it."""

ON_A_CHANNEL: dict[tuple[type[SowerError], type], Code] = {
    (errors.TooMany, Subscribe): Code(90010, 400),
    (errors.TooMany, Appear): Code(91003, 400),
}
"""What another code says better, by what was asked."""

NOT_THIS_CLIENT = Code(40102, 401)
NOT_CONTINUED = Code(80018, 400)
NO_CONTINUITY = ErrorInfo(
    "Messages after this position are gone, or it is unknown: continuity is not guaranteed.", 90003, 400
)


def code_of(error: SowerError, command: SocketCommand | None = None) -> Code:
    """The code for an error; for some it depends on what was asked."""
    particular = ON_A_CHANNEL.get((type(error), type(command)))
    return particular or next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)


def at_connect(error: SowerError) -> Code:
    """The code for who is not let in at all."""
    return NOT_THIS_CLIENT if isinstance(error, errors.UserMismatch) else code_of(error)


def info(error: SowerError, code: Code | None = None) -> ErrorInfo:
    """An error in Ably's words, with what to do about it."""
    found = code or code_of(error)
    return ErrorInfo(f"{error.message} {error.hint}", found.code, found.status)


def may_come_back(error: SowerError) -> bool:
    """Whether a client is to connect again by itself."""
    return error.retry or isinstance(error, errors.TokenExpired | errors.TokenRevoked)
