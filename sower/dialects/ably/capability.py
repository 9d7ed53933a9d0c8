"""What a key or a token allows, as Ably writes it: {resource: [operations]}.

Rule 1: `*` stands for one whole segment between colons, at the end of a resource for one or more of them;
        anywhere else it is a letter as any other.
Rule 2: a token never allows more than its key: what was asked for is cut down to what both allow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import msgspec

from sower.core.grants import Can, Claims, Names
from sower.errors import BadParameter, Forbidden

Capability = Mapping[str, Iterable[str]]

EVERY_CHANNEL = "*"

EVERYTHING = {EVERY_CHANNEL: ("*",)}

OPERATIONS: Mapping[str, Can] = {
    "subscribe": Can.SUBSCRIBE,
    "publish": Can.PUBLISH,
    "presence": Can.PRESENCE,
    "history": Can.HISTORY,
    "channel-metadata": Can.METADATA,
    "message-update-own": Can.UPDATE_OWN,
    "message-update-any": Can.UPDATE_ANY,
    "message-delete-own": Can.DELETE_OWN,
    "message-delete-any": Can.DELETE_ANY,
    "annotation-publish": Can.ANNOTATE,
    "annotation-subscribe": Can.ANNOTATIONS,
}
"""Operations that mean something here."""

OTHERS = frozenset(
    ("*", "stats", "object-subscribe", "object-publish", "push-subscribe", "push-admin", "privileged-headers")
)
"""The vendor's other ones: all of them; and those that may be granted, and allow nothing."""

SHARED = 1024
"""Claims that grants share."""


class Resource:
    """A set of channel names. text: as it is written. operations: what is allowed on them, in Ably's words."""

    __slots__ = ("_segments", "operations", "text")

    def __init__(self, text: str, operations: Iterable[str] = ()) -> None:
        self.text = text
        self.operations = tuple(sorted(operations))
        self._segments = text.split(":")

    def matches(self, name: str) -> bool:
        """Whether a channel is one of these. The daemon's own channels need [meta] or [*] in front."""
        if self.text == EVERY_CHANNEL and name[:1] != "[":  # most
            return True
        own, given = self._segments, name.split(":")
        scope, own_first = _scope(own[0])
        name_scope, name_first = _scope(given[0])
        if scope not in ("[*]", name_scope):
            return False
        return _fits([own_first, *own[1:]], [name_first, *given[1:]])


def _scope(first: str) -> tuple[str, str]:
    """A leading [meta] or [*], and the rest."""
    for scope in ("[*]", "[meta]"):
        if first.startswith(scope):
            return scope, first[len(scope) :]
    return "", first


def _fits(own: list[str], given: list[str]) -> bool:
    if own[-1] == "*":
        return len(given) >= len(own) and _same_segments(own[:-1], given)
    return len(given) == len(own) and _same_segments(own, given)


def _same_segments(own: list[str], given: list[str]) -> bool:
    return all(o in ("*", g) for o, g in zip(own, given, strict=False))


def claims_of(capability: Capability) -> Claims:
    """A capability as the core asks it."""
    return tuple(_claim(resource, frozenset(operations)) for resource, operations in capability.items())


@lru_cache(SHARED)
def _claim(resource: str, operations: frozenset[str]) -> tuple[Names, frozenset[Can]]:
    if "*" in operations:
        return Resource(resource, operations), frozenset(Can)
    return Resource(resource, operations), frozenset(can for name, can in OPERATIONS.items() if name in operations)


def of_claims(claims: Claims | None) -> Capability:
    """A capability as it was before `claims_of`."""
    if claims is None:
        return EVERYTHING
    return {names.text: names.operations for names, _ in claims if isinstance(names, Resource)}


def read(text: str) -> dict[str, list[str]]:
    """A capability from its JSON text. Raises BadParameter."""
    try:
        return msgspec.json.decode(text or "{}", type=dict[str, list[str]])
    except (ValueError, RecursionError) as error:  # no JSON, or half a surrogate pair in a token
        raise BadParameter(f"The capability is not JSON of resource -> operations: {error}.") from error


def check_operations(capability: Capability) -> None:
    """Whether there are all of these operations. Raises BadParameter."""
    for resource, operations in capability.items():
        unknown = next((name for name in operations if name not in OPERATIONS and name not in OTHERS), None)
        if unknown is not None:
            raise BadParameter(f"{unknown[:64]!r}, asked for on {resource[:64]!r}, is no operation.")


def requested(text: str) -> dict[str, list[str]]:
    """What a token is asked for with, where the vendor would give one. Raises BadParameter."""
    capability = read(text)
    check_operations(capability)
    for resource, operations in capability.items():
        if not operations or ("*" in operations and len(operations) > 1):
            raise BadParameter(f"On {resource[:64]!r} either * is asked for, or one operation at least.")
    return capability


def write(capability: Capability) -> str:
    """As canonical JSON: sorted, without spaces, as the vendor writes it."""
    return msgspec.json.encode({r: sorted(capability[r]) for r in sorted(capability)}).decode()


def cut(asked: Capability, allowed: Capability) -> dict[str, list[str]]:
    """What both allow. Raises Forbidden where that is nothing."""
    common: dict[str, set[str]] = {}
    for resource, operations in asked.items():
        for other, permitted in allowed.items():
            narrower = _narrower(resource, other)
            both = _both(set(operations), set(permitted))
            if narrower is not None and both:
                common.setdefault(narrower, set()).update(both)
    if not common:
        raise Forbidden("Nothing of the capability that was asked for is allowed to this key.")
    return {resource: ["*"] if "*" in operations else sorted(operations) for resource, operations in common.items()}


def _narrower(a: str, b: str) -> str | None:
    """The one of two resources whose channels are all in the other, None where neither is."""
    if a == b or Resource(b).matches(a):
        return a
    return b if Resource(a).matches(b) else None


def _both(a: set[str], b: set[str]) -> set[str]:
    if "*" in a:
        return b
    return a if "*" in b else a & b


def from_claim(value: Any) -> Capability | None:
    """A JWT's x-ably-capability: JSON text, or the object itself; None where there is none. Raises BadParameter."""
    if value is None or isinstance(value, str):
        return read(value) if value else None
    try:
        return msgspec.convert(value, dict[str, list[str]])
    except msgspec.ValidationError as error:
        raise BadParameter(f"x-ably-capability is not an object of resource -> operations: {error}.") from error
