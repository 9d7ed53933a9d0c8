"""What a change makes of the message that it is about.

    published  change              the message is then      subscribers are told
    hello      UPDATED  hi         hi                       hi
    hello      DELETED             hello, marked            hello, marked
    hello      APPENDED  , you     hello, you               , you

Rule 1: a change has a place of its own in the channel's order, and the message keeps its own: it stands in the
        history where it was published, as its last version left it.
Rule 2: what a change does not say stays as it was: a name that is empty, data that is null, what `extra` lacks. A null
        in `extra` takes what it names away (RFC 7396, at the first level).
Rule 3: who published a message stays its user, whoever changes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, cast

import msgspec

from sower.core import summaries
from sower.core.grants import Can, Grant
from sower.core.message import Act, Annotation, Kind, Message, Revision
from sower.core.rules import Rules
from sower.errors import BadData, ChangesOff, Forbidden, MessageTooLarge, OwnsNothing, TooMany

MOST_CHANGES = 10_000
"""Changes and annotations of one message. A model's long answer that is appended token by token has some thousand."""

RIGHTS = {
    Act.UPDATED: (Can.UPDATE_ANY, Can.UPDATE_OWN),
    Act.APPENDED: (Can.UPDATE_ANY, Can.UPDATE_OWN),
    Act.DELETED: (Can.DELETE_ANY, Can.DELETE_OWN),
}
"""What a change needs: to make it to any message, or to one's own."""

NULL = b"null"

_to_json = msgspec.json.Encoder().encode
_from_json = msgspec.json.Decoder().decode


def demand(
    grant: Grant, about: Revision | Annotation, user: str | None, channel: str, rules: Rules, client_events: bool
) -> Revision | Annotation:
    """What may be done to the message, as it is allowed: where it may only be one's own, that is noted in it.

    Raises ChangesOff, Forbidden, NotAuthorised, OwnsNothing, and as summaries.check_user.
    """
    if rules.history is None:
        raise ChangesOff(f"Messages of {channel!r} are not kept, so none can be changed or annotated.")
    if isinstance(about, Annotation):
        grant.demand(Can.ANNOTATE, channel, rules, client_events)
        summaries.check_user(about, user)
        return about
    any_message, own = RIGHTS[about.act]
    if grant.allows(any_message, channel, rules, client_events):
        return about
    if not grant.allows(own, channel, rules, client_events):
        grant.demand(any_message, channel, rules, client_events)
    if user is None:
        raise OwnsNothing(f"On {channel!r} this client may change its own messages, and does not say who it is.")
    return msgspec.structs.replace(about, own=True)


def numbered(about: Revision | Annotation, serial: int, following: Callable[[], int]) -> Revision | Annotation:
    """A change is a version with a serial of its own; an annotation makes a summary, which stands behind it."""
    if isinstance(about, Revision):
        return msgspec.structs.replace(about, version=serial)
    return msgspec.structs.replace(about, next=following())


class Decided(NamedTuple):
    """What comes of a change or an annotation.

    now:  the message, in its place
    told: what is told of it, at its own place and, of a summary, at the next
    """

    now: Message
    told: tuple[Message, ...]


def decide(now: Message, changes: int, message: Message, largest: int) -> Decided:
    """What a change or an annotation makes of a message, in its place. changes: how many it had before.

    largest: bytes of data. Raises TooMany, Forbidden, BadData, MessageTooLarge, TooLarge.
    """
    if changes >= MOST_CHANGES:
        raise TooMany(f"The message was changed and annotated {changes} times; {MOST_CHANGES} are allowed.")
    if not isinstance(message.about, Annotation):
        revised = revise(now, message, largest)
        return Decided(revised, (as_told(revised, message),))
    before = summary_of(now)
    summary = summaries.summed_up(before, message)
    after = annotated(now, summary)
    if summary == before:
        return Decided(after, (message,))
    version = msgspec.structs.replace(version_of(after), act=Act.SUMMARISED)
    return Decided(after, (message, Message(message.about.next, now.event, NULL, user=now.user, about=version)))


def revise(current: Message, change: Message, largest: int) -> Message:
    """The message, in its place, after a change. largest: bytes that its data may have.

    Raises Forbidden, BadData, MessageTooLarge.
    """
    about = change.about
    if not isinstance(about, Revision):
        raise TypeError("what changes a message is a revision")
    if about.own and current.user != change.user:
        whose = f"of {current.user!r}" if current.user is not None else "of nobody in particular"
        raise Forbidden(f"The message is {whose}, and {change.user!r} may change its own ones alone.")
    data, kind = (current.data, current.kind) if _says_nothing(change) else (change.data, change.kind)
    if about.act is Act.APPENDED:
        data, kind = joined(current, change)
        if len(data) > largest:
            raise MessageTooLarge(f"With what is appended the data has {len(data)} bytes; limits.message is {largest}.")
    return msgspec.structs.replace(
        current,
        event=change.event or current.event,
        data=data,
        kind=kind,
        extra=patched(current.extra, change.extra),
        about=Revision(
            current.serial,
            Act.UPDATED if about.act is Act.APPENDED else about.act,
            change.serial,
            change.user,
            about.note,
            summary_of(current),
        ),
    )


def as_told(revised: Message, change: Message) -> Message:
    """A change as it stands in the channel's order: the whole message after it, or only what was appended."""
    version = msgspec.structs.replace(revised, serial=change.serial, id=change.id, sender=change.sender)
    if not (isinstance(change.about, Revision) and isinstance(revised.about, Revision)):
        return version
    if change.about.act is not Act.APPENDED:
        return version
    about = msgspec.structs.replace(revised.about, act=Act.APPENDED)
    return msgspec.structs.replace(version, data=change.data, kind=change.kind, about=about)


def as_of(first: Message, versions: Iterable[Message]) -> Message:
    """The message, in its place, as its versions left it. first: as published. versions: as they were told."""
    current = first
    for version in versions:
        about = version.about
        if isinstance(about, Revision) and about.act is Act.SUMMARISED:
            current = annotated(current, about.summary)
            continue
        if isinstance(about, Revision) and about.act is Act.APPENDED:
            data, kind = joined(current, version)
            about = msgspec.structs.replace(about, act=Act.UPDATED)
            version = msgspec.structs.replace(version, data=data, kind=kind)
        current = msgspec.structs.replace(version, serial=first.serial, id=first.id, about=about)
    return current


def version_of(message: Message) -> Revision:
    """Which version of a message it is, in its place."""
    return (
        message.about if isinstance(message.about, Revision) else Revision(message.serial, Act.CREATED, message.serial)
    )


def annotated(message: Message, summary: bytes | None) -> Message:
    """A message, in its place, with how it is annotated now."""
    return msgspec.structs.replace(message, about=msgspec.structs.replace(version_of(message), summary=summary))


def summary_of(message: Message) -> bytes | None:
    """How it is annotated, None where it is not."""
    return message.about.summary if isinstance(message.about, Revision) else None


def joined(current: Message, appended: Message) -> tuple[bytes, Kind]:
    """Data with what is appended to it: text to text, bytes to bytes, anything to nothing. Raises BadData."""
    if _says_nothing(appended):
        return current.data, current.kind
    if _says_nothing(current):
        return appended.data, appended.kind
    data, kind = current.data, current.kind
    if kind is Kind.JSON and data[:1] == b'"':
        data, kind = _from_json(data).encode(), Kind.TEXT
    if kind is not appended.kind or kind is Kind.JSON:
        raise BadData("Text is appended to text and bytes to bytes; a JSON value takes nothing.")
    return data + appended.data, kind


def _says_nothing(message: Message) -> bool:
    return message.data == NULL and message.kind is Kind.JSON


def patched(extra: bytes | None, patch: bytes | None) -> bytes | None:
    """An `extra` with what a change says in it."""
    if patch is None:
        return extra
    merged = {**_object(extra), **_object(patch)}
    kept = {name: value for name, value in merged.items() if value is not None}
    return _to_json(kept) if kept else None


def _object(extra: bytes | None) -> dict[str, Any]:
    value = None if extra is None else _from_json(extra)
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}
