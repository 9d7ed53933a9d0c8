"""How Ably's REST is worded: formats by header, errors in body and headers, pages by Link."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from sower.core.message import Position
from sower.dialects.ably import codes
from sower.dialects.ably.serials import TICKS
from sower.dialects.ably.wire import JSON, MSGPACK, Format
from sower.dialects.interface import HttpCall, Reply
from sower.errors import BadJson, BadParameter, SowerError

MAX_PAGE = 1000
"""Items in a page."""

PAGE = 100
"""Items in a page where nothing is said."""

TO_PAGES = (
    ("Access-Control-Expose-Headers", "Link, X-Ably-ErrorCode, X-Ably-ErrorMessage"),
    ("Access-Control-Allow-Credentials", "true"),
)
"""What pages of other origins may read of an answer; ably-js asks with credentials."""


def is_ably(call: HttpCall) -> bool:
    """Whether a call at a path that other protocols have too is Ably's: SDKs say their version, servers show a key."""
    if "x-ably-version" in call.headers or "v" in call.query or "access_token" in call.query:
        return True
    return ":" in call.query.get("key", "")


def of_sdk(call: HttpCall) -> bool:
    """Whether a call is evidently one of Ably's SDKs, wherever it goes."""
    return "x-ably-version" in call.headers


def answers_in(call: HttpCall) -> Format:
    """The format that the client would rather have."""
    if call.query.get("format") == "msgpack":
        return MSGPACK
    accepted = call.headers.get("accept", "")
    binary, text = accepted.find("msgpack"), accepted.find("json")
    return MSGPACK if binary >= 0 and (text < 0 or binary < text) else JSON


def read_body(call: HttpCall, kind: Any) -> Any:
    """The body, in the format that it says it is in. Raises BadJson."""
    wire = MSGPACK if "msgpack" in call.headers.get("content-type", "") else JSON
    try:
        return wire.decoder(kind)(call.body)
    except (ValueError, RecursionError) as error:
        raise BadJson(f"The body cannot be read: {error}.") from error


def reply(call: HttpCall, value: Any, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Reply:
    """An answer."""
    wire = answers_in(call)
    return Reply(wire.encode(value), status, (("Content-Type", wire.content_type), *TO_PAGES, *headers))


def refuse(call: HttpCall, error: SowerError) -> Reply:
    """An error, in the body and in headers, because SDKs read either."""
    info = codes.info(error)
    said = info.message.encode("ascii", "replace").decode()
    printable = "".join(letter if letter.isprintable() else " " for letter in said)
    headers = (("X-Ably-ErrorCode", str(info.code)), ("X-Ably-ErrorMessage", printable))
    if error.retry_after is not None:
        headers = (*headers, ("Retry-After", str(max(1, round(error.retry_after)))))
    return reply(call, {"error": info}, info.statusCode, headers)


def limit_of(query: Mapping[str, str], default: int = PAGE) -> int:
    """How many items a page has. Raises BadParameter."""
    text = query.get("limit") or str(default)
    limit = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
    if not 1 <= limit <= MAX_PAGE:
        raise BadParameter(f"limit is a number from 1 to {MAX_PAGE}, not {text[:20]!r}.")
    return limit


def directed(query: Mapping[str, str], default: str) -> str:
    """backwards or forwards. Raises BadParameter."""
    direction = query.get("direction") or default
    if direction not in ("backwards", "forwards"):
        raise BadParameter(f"direction is backwards or forwards, not {direction[:20]!r}.")
    return direction


def bound(text: str | None, beyond: int) -> Position | None:
    """The exclusive serial for an inclusive time in milliseconds. Raises BadParameter."""
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 13):
        raise BadParameter(f"A time is milliseconds since 1970, not {text[:20]!r}.")
    return Position("", max(0, int(text) * TICKS + beyond))


def links(word: str, query: Mapping[str, str], following: str | None) -> tuple[tuple[str, str], ...]:
    """The Link headers of a page: one each, relative to the path's last word, commas escaped.

    following: the cursor of the next page, None on the last one
    """
    first = {name: value for name, value in query.items() if name not in ("cursor", "key", "access_token")}
    pages = [("first", first), ("current", {**first, **({"cursor": query["cursor"]} if "cursor" in query else {})})]
    if following is not None:
        pages.append(("next", {**first, "cursor": following}))
    return tuple(
        ("Link", f'<./{word}?{urlencode(params, quote_via=quote, safe="")}>; rel="{rel}"') for rel, params in pages
    )
