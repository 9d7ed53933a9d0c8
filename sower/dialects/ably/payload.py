"""The data of messages and members: what of Ably's `encoding` the daemon understands, and what it passes on.

    sent as                     kept as                              encoding kept
    text                        TEXT                                 what stands there
    text, encoding ends base64  BINARY, the bytes                    the rest
    bytes (MessagePack)         BINARY                               what stands there
    text, encoding json         JSON, the text as it came            none
    an object or a list         JSON                                 none
    nothing                     JSON null                            none

Rule 1: only the outermost step is undone, and only base64 and json: whatever is inside (utf-8, a cipher) is the
        clients' own, and comes out as it went in.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, NamedTuple, cast

import msgspec

from sower.core.message import DEEPEST, Kind, is_shallow
from sower.errors import BadData

NULL = b"null"

WHOLE = range(-(2**63), 2**64)
"""Whole numbers that MessagePack can say."""

_to_json = msgspec.json.Encoder().encode
_from_json = msgspec.json.Decoder().decode


class Content(NamedTuple):
    """Data as the core keeps it. encoding: what is left of Ably's."""

    data: bytes
    kind: Kind
    encoding: str | None = None


class Written(NamedTuple):
    """Data as it goes to a client."""

    data: str | bytes | None
    encoding: str | None


def read(data: Any, encoding: str | None) -> Content:
    """What a client sent. Raises BadData."""
    if data is None:
        return Content(NULL, Kind.JSON)
    if isinstance(data, bytes):
        return Content(data, Kind.BINARY, encoding or None)
    if not isinstance(data, str):
        return Content(as_json(data), Kind.JSON)
    inner, _, outer = (encoding or "").rpartition("/")
    if outer == "base64":
        try:
            return Content(base64.b64decode(data, validate=True), Kind.BINARY, inner or None)
        except (binascii.Error, ValueError) as error:
            raise BadData("The data is said to be base64 and is not.") from error
    if encoding == "json":
        return Content(_checked(data), Kind.JSON)
    return Content(data.encode(), Kind.TEXT, encoding or None)


def write(content: Content, *, binary: bool) -> Written:
    """Data for a client. binary: whether its format has bytes."""
    data, kind, encoding = content
    if kind == Kind.TEXT:
        return Written(data.decode(), encoding)
    if kind == Kind.BINARY:
        if binary:
            return Written(data, encoding)
        return Written(base64.b64encode(data).decode(), f"{encoding}/base64" if encoding else "base64")
    if data == NULL:
        return Written(None, None)
    if data[:1] == b'"':
        return Written(_from_json(data), None)
    return Written(data.decode(), "json")


def portable(value: Any) -> Any:
    """Extras and metadata as both formats can say them. JSON has whole numbers that MessagePack has not; they become
    what JavaScript reads. Raises BadData.
    """
    if not is_shallow(value):
        raise BadData(f"Extras and metadata are nested {DEEPEST} levels deep at most.")
    try:
        return _portable(value)
    except OverflowError as error:
        raise BadData("Extras and metadata hold a number that is out of range.") from error


def _portable(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _portable(one) for name, one in cast(dict[Any, Any], value).items()}
    if isinstance(value, list):
        return [_portable(one) for one in cast(list[Any], value)]
    return float(value) if isinstance(value, int) and value not in WHOLE else value


def as_json(data: Any) -> bytes:
    """A value of a client as JSON; MessagePack has some that JSON cannot say. Raises BadData."""
    try:
        return _to_json(data)
    except (ValueError, TypeError, RecursionError) as error:
        raise BadData(f"The data cannot be written as JSON: {error}.") from error


def _checked(text: str) -> bytes:
    try:
        data = text.encode()
        msgspec.json.decode(data, type=msgspec.Raw)
    except (ValueError, RecursionError) as error:
        raise BadData(f"The data is said to be JSON and is not: {error}.") from error
    return data.strip()
