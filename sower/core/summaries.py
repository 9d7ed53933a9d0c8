"""How the annotations of a message are summed up. A type is NAMESPACE:METHOD, and the method says what is counted.

    total.v1     how many annotations there are
    flag.v1      which clients have one
    distinct.v1  which clients have one of each name
    unique.v1    the same, and each client is at one name: its next one takes it from the last
    multiple.v1  how much each client's count for each name; those of nobody in particular come together

Rule 1: a type whose method is none of these is told and kept, and not summed up.
Rule 2: taking back an annotation takes back all that its client has of this name; of total.v1, one.
Rule 3: what nobody has any more is not in the summary.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from sower.core.message import Annotation, Message
from sower.errors import BadParameter, NotIdentified, TooLarge

Entry = dict[str, Any]
Summary = dict[str, Entry]
"""By type; as Ably's SDKs read it, but for `clipped`."""

METHODS = ("total.v1", "flag.v1", "distinct.v1", "unique.v1", "multiple.v1")
NAMED = ("distinct.v1", "unique.v1", "multiple.v1")
BY_CLIENT = ("flag.v1", "distinct.v1", "unique.v1")

MAX_TYPE = 256
"""Characters of a type."""

MAX_COUNT = 1_000_000
"""What one annotation may count for."""

LARGEST = 256 * 1024
"""Bytes of a summary: some ten thousand clients."""

LARGEST_TOLD = 48 * 1024
"""Bytes of a summary that clients are told; of a larger one they are told fewer names of clients, and all counts."""

_to_json = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Summary).decode


def method_of(kind: str) -> str:
    """How annotations of a type are summed up; empty where they are not."""
    method = kind.rpartition(":")[2]
    return method if method in METHODS and ":" in kind else ""


def check(about: Annotation, name: str) -> Annotation:
    """Return what makes sense as an annotation of this name. Raises BadParameter."""
    if not 0 < len(about.type) <= MAX_TYPE or not about.type.isprintable():
        raise BadParameter(f"An annotation's type has 1 to {MAX_TYPE} characters, such as reactions:unique.v1.")
    if about.count is not None and not 0 < about.count <= MAX_COUNT:
        raise BadParameter(f"An annotation counts for 1 to {MAX_COUNT}, not {about.count}.")
    if method_of(about.type) in NAMED and not name:
        raise BadParameter(f"Annotations of type {about.type!r} have a name.")
    return about


def check_user(about: Annotation, user: str | None) -> None:
    """Whether it says by whom it is, where that is what is counted. Raises NotIdentified."""
    method = method_of(about.type)
    if user is None and (method in BY_CLIENT or (method == "multiple.v1" and about.withdrawn)):
        raise NotIdentified(f"Annotations of type {about.type!r} are counted by client, and this one does not say who.")


def summed_up(summary: bytes | None, annotation: Message) -> bytes | None:
    """The summary with one more annotation in it; None where nothing is annotated. Raises TooLarge."""
    about = annotation.about
    method = method_of(about.type) if isinstance(about, Annotation) else ""
    if not method or not isinstance(about, Annotation):
        return summary
    whole = read(summary)
    entry = whole.setdefault(about.type, {})
    name, user = annotation.event, annotation.user
    if method == "total.v1":
        _count(entry, -1 if about.withdrawn else 1)
    elif method == "multiple.v1":
        _count_of(entry.setdefault(name, {}), user, about)
    elif method == "flag.v1":
        _list(entry, user, listed=not about.withdrawn)
    else:
        if method == "unique.v1" and not about.withdrawn:
            for other in entry.keys() - {name}:
                _list(entry[other], user, listed=False)
        _list(entry.setdefault(name, {}), user, listed=not about.withdrawn)
    if method in NAMED:
        whole[about.type] = {named: one for named, one in entry.items() if one.get("total")}
    whole = {kind: one for kind, one in whole.items() if one.get("total") or (method_of(kind) in NAMED and one)}
    written = _to_json(whole) if whole else None
    if written is not None and len(written) > LARGEST:
        raise TooLarge(f"The message's annotations come to {len(written)} bytes of summary; {LARGEST} are allowed.")
    return written


def read(summary: bytes | None) -> Summary:
    """A summary as it is kept."""
    return {} if summary is None else _decode(summary)


def _count(entry: Entry, by: int) -> None:
    entry["total"] = max(0, entry.get("total", 0) + by)


def _list(entry: Entry, user: str | None, *, listed: bool) -> None:
    users = cast(list[str | None], entry.setdefault("clientIds", []))
    if listed and user not in users:
        users.append(user)
    elif not listed and user in users:
        users.remove(user)
    entry["total"] = len(users)


def _count_of(entry: Entry, user: str | None, about: Annotation) -> None:
    users = cast(dict[str, int], entry.setdefault("clientIds", {}))
    entry.setdefault("totalUnidentified", 0)
    count = about.count or 1
    if user is None:
        entry["totalUnidentified"] += count
    elif about.withdrawn:
        users.pop(user, None)
    else:
        users[user] = users.get(user, 0) + count
    entry["total"] = sum(users.values()) + entry["totalUnidentified"]
    entry["totalClientIds"] = len(users)


def clipped(summary: bytes, most: int = LARGEST_TOLD) -> bytes:
    """A summary of at most so many bytes where clients' names can be left out for it; then it says that they were."""
    if len(summary) <= most:
        return summary
    longest = 1000
    while True:
        short = _to_json({kind: _clip(kind, one, longest) for kind, one in read(summary).items()})
        if len(short) <= most or not longest:
            return short
        longest //= 2


def _clip(kind: str, entry: Entry, longest: int) -> Entry:
    if method_of(kind) in NAMED:
        return {name: _clip_one(one, longest) for name, one in entry.items()}
    return _clip_one(entry, longest)


def _clip_one(entry: Entry, longest: int) -> Entry:
    users = entry.get("clientIds", [])
    if len(users) <= longest:
        return entry
    some = dict(list(users.items())[:longest]) if isinstance(users, dict) else users[:longest]  # pyright: ignore
    return {**entry, "clientIds": some, "clipped": True}
