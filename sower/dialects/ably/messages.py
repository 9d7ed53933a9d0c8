"""Messages and members between Ably's shapes and the core's.

What the core has no place for goes into `extra`: what remains of the encoding, the extras, and the connection that
published. Nothing there is needed to read a message in another protocol.
"""

from __future__ import annotations

import base64

import msgspec

from sower.core.command import Appear, Publish
from sower.core.connection import as_given
from sower.core.message import Annotation, Appearance, Did, Kind, Message, Revision
from sower.dialects.ably import payload, revisions, serials
from sower.dialects.ably.payload import NULL, Content
from sower.dialects.ably.wire import (
    Announcement,
    Format,
    InMessage,
    InPresence,
    OutMessage,
    OutPresence,
    PresenceAction,
)
from sower.errors import BadParameter, MessageTooLarge, UserMismatch

MAX_MESSAGE = 65536
"""Bytes of one publish: names, client ids, extras and data of all its messages."""

MAX_ID = 256
"""Characters of a message's id, or a member's."""

NOBODY = "*"
"""What stands for any client id in a token, and is none itself."""

_to_json = msgspec.json.Encoder().encode

DID = {PresenceAction.ENTER: Did.ENTERED, PresenceAction.UPDATE: Did.UPDATED, PresenceAction.LEAVE: Did.LEFT}
ACTIONS = {did: action for action, did in DID.items()}


META = 3
"""The action of a message that is about the channel itself."""

NO_EXTRAS = msgspec.Raw()


class Extra(msgspec.Struct, omit_defaults=True):
    """What a message or a member says besides. binary: a member's data is bytes, kept as base64."""

    encoding: str | None = None
    extras: msgspec.Raw = NO_EXTRAS
    connection: str | None = None
    binary: bool = False


_decode_extra = msgspec.json.Decoder(Extra).decode
NOTHING = Extra()


def publish(
    message: InMessage,
    channel: str,
    *,
    message_id: str | None,
    connection: str | None,
    echo: bool = True,
    about: Annotation | None = None,
) -> Publish:
    """One message of a client, or a change of an earlier one. about: what makes it an annotation.

    Raises BadData, BadParameter, UserMismatch.
    """
    if message.action and about is None:
        user = None if message.version is None else checked_user(message.version.clientId)
        return revisions.change(message, channel, user, change_id=message_id, echo=echo)
    content = payload.read(message.data, message.encoding)
    extras = NO_EXTRAS if message.extras is None else msgspec.Raw(payload.as_json(payload.portable(message.extras)))
    extra = Extra(content.encoding, extras, connection)
    check_id(message.id)
    return Publish(
        channel,
        message.name or "",
        content.data,
        content.kind,
        user=checked_user(message.clientId),
        id=message.id or message_id,
        echo=echo,
        extra=_to_json(extra) if extra != NOTHING else None,
        stored=about is not None or not _ephemeral(message.extras),
        about=about,
    )


def check_id(given: str | None) -> None:
    """Whether a client's own id is short enough. Raises BadParameter."""
    if given is not None and not 0 < len(given) <= MAX_ID:
        raise BadParameter(f"An id has 1 to {MAX_ID} characters, this one {len(given)}.")


def check_size(messages: list[InMessage], publishes: list[Publish]) -> None:
    """Whether one publish is small enough. Raises MessageTooLarge."""
    size = 0
    for message, command in zip(messages, publishes, strict=True):
        extras = 0 if message.extras is None else len(_to_json(message.extras))
        data = 0 if command.data == NULL else len(command.data)
        note = command.about.note if isinstance(command.about, Revision) else None
        size += len(note or b"")
        size += len(command.event.encode()) + len((command.user or "").encode()) + extras + data
    if size > MAX_MESSAGE:
        raise MessageTooLarge(f"The publish has {size} bytes; {MAX_MESSAGE} are allowed.")


def out(message: Message, epoch: str, wire: Format, channel: str | None = None) -> OutMessage:
    """A message for a client, or a version of one."""
    extra = read_extra(message)
    data, encoding = payload.write(Content(message.data, message.kind, extra.encoding), binary=wire.binary)
    own, about = revisions.own_serial(message), message.about
    version = about if isinstance(about, Revision) else None
    return OutMessage(
        called(message),
        own // serials.TICKS,
        serials.write(own, epoch),
        revisions.CREATE if version is None else revisions.ACTIONS[version.act],
        message.event or None,
        data,
        encoding,
        message.user,
        extra.connection,
        wire.json(extra.extras),
        channel,
        None if version is None or not version.version else revisions.version(version, epoch, wire),
        None if version is None else revisions.summary(version, wire),
    )


def called(message: Message) -> str:
    """A message's id, also where it was given none."""
    return as_given(message.id) if message.id else serials.message_id(message.serial)


def announcement(serial: int, name: str, data: object) -> Announcement:
    """What the daemon says of a channel. serial: when."""
    return Announcement(f"{serial}:0", serial // 10_000, META, name, _to_json(data).decode(), "json")


def read_extra(message: Message) -> Extra:
    """What it says besides."""
    return NOTHING if message.extra is None else _decode_extra(message.extra)


def appear(presence: InPresence, channel: str, presence_id: str) -> Appear:
    """What a client says of a member. Raises BadData, BadParameter, UserMismatch."""
    try:
        did = DID[PresenceAction(presence.action)]
    except (ValueError, KeyError) as error:
        raise BadParameter(
            f"{presence.action} is no presence action of clients: 2 enter, 3 leave, 4 update."
        ) from error
    check_id(presence.id)
    content = payload.read(presence.data, presence.encoding)
    extras = NO_EXTRAS if presence.extras is None else msgspec.Raw(payload.as_json(payload.portable(presence.extras)))
    extra = Extra(content.encoding, extras, binary=content.kind == Kind.BINARY)
    meta = content.data
    if content.kind == Kind.TEXT:
        meta = _to_json(meta.decode())
    elif content.kind == Kind.BINARY:
        meta = _to_json(base64.b64encode(meta).decode())
    user, extra_json = checked_user(presence.clientId), _to_json(extra) if extra != NOTHING else None
    return Appear(channel, did, user, meta, presence.id or presence_id, extra_json)


def out_presence(seen: Appearance, wire: Format, *, sync: bool = False) -> OutPresence:
    """A member's connection for a client. sync: it is told because it is there, not because something happened."""
    extra = NOTHING if seen.extra is None else _decode_extra(seen.extra)
    data, encoding = payload.write(_content(seen.meta, extra), binary=wire.binary)
    return OutPresence(
        # An id that does not begin with the connection's name tells SDKs that the daemon made the event.
        seen.id or f"{seen.serial}:0:0",
        PresenceAction.PRESENT if sync else ACTIONS[seen.did],
        seen.user,
        seen.connection,
        seen.serial // 10_000,
        data,
        encoding,
        wire.json(extra.extras),
    )


def _content(meta: bytes, extra: Extra) -> Content:
    if extra.binary:
        return Content(base64.b64decode(msgspec.json.decode(meta, type=str)), Kind.BINARY, extra.encoding)
    if meta[:1] == b'"':
        return Content(msgspec.json.decode(meta, type=str).encode(), Kind.TEXT, extra.encoding)
    return Content(meta, Kind.JSON)


def checked_user(user: str | None) -> str | None:
    """A client id that may be shown to others. Raises UserMismatch, BadParameter."""
    if user is None:
        return None
    if user == NOBODY:
        raise UserMismatch("The client id * stands for any, and is nobody's own.")
    if not user.isprintable() or not 0 < len(user.encode()) <= MAX_ID:  # half a surrogate pair is not printable
        raise BadParameter(f"A client id is 1 to {MAX_ID} bytes without control characters.")
    return user


def _ephemeral(extras: object) -> bool:
    return isinstance(extras, dict) and extras.get("ephemeral") is True  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
