"""What a connection is called, and the statement with which a client continues one over a new socket.

Rule 1: the name is public and tells nothing of the session's id, which is nobody's to know.
Rule 2: the statement is signed with the key's secret, so that no table of connections is kept: it outlives its
        socket and the daemon. It names the key and the user whose it is, and is worth nothing to anybody else.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import NamedTuple, Protocol

from sower.core.grants import Credential, check_signature, sign
from sower.errors import BadSignature

NAME_BYTES = 9
"""Twelve characters of base64url."""

_ID = re.compile(r"([\w-]{12}):\d+:\d+\Z", re.ASCII)
"""How the messages of a connection are called: by its name, and two numbers."""

_OTHERS = "\x1f"
"""Before what somebody else calls so. It is kept, and shown to nobody."""


class Speaker(Protocol):
    """Who publishes over a socket."""

    @property
    def connection(self) -> str:
        """What its connection is called."""
        ...


class Continued(NamedTuple):
    """What a statement says. session: the socket that the connection had last."""

    connection: str
    session: str


def name_of(session: str) -> str:
    """What a new connection over this session is called."""
    return base64.urlsafe_b64encode(hashlib.blake2b(session.encode(), digest_size=NAME_BYTES).digest()).decode()


def told_apart(given: str, speaker: Speaker | None) -> str:
    """By what a message is known again. given: what it is called. speaker: who says it over a socket.

    A connection's name is no secret, and what it says next would be taken for a repetition of what others call so. They
    may: a message that is passed on to another channel keeps its id, and an id may look so by chance.
    """
    named = _ID.match(given)
    return given if named is None or (speaker and speaker.connection == named[1]) else _OTHERS + given


def as_given(known: str) -> str:
    """What a message is called that is known by this."""
    return known.removeprefix(_OTHERS)


def state(credential: Credential, connection: str, session: str, user: str | None) -> str:
    """The statement that this connection, over this session, is of this key and user."""
    signature = sign(credential.secret, _signed(credential.key, connection, session, user))
    return f"{connection}!{session}!{base64.urlsafe_b64encode(bytes.fromhex(signature)).decode().rstrip('=')}"


def read(credential: Credential, statement: str, user: str | None) -> Continued:
    """What a statement says. Raises BadSignature where it is none, or another key's or user's."""
    connection, _, rest = statement.partition("!")
    session, _, signature = rest.partition("!")
    try:
        digits = base64.urlsafe_b64decode(signature + "=").hex()
    except (binascii.Error, ValueError) as error:
        raise BadSignature("This is not the key of a connection.") from error
    check_signature(credential, (_signed(credential.key, connection, session, user),), digits)
    return Continued(connection, session)


def _signed(key: str, connection: str, session: str, user: str | None) -> str:
    return "\n".join(("connection", key, connection, session, user or ""))
