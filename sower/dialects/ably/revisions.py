"""Changes of messages between Ably's shapes and the core's: updates, deletes and appends, and the versions they make.

Rule 1: what a client sends with a change is the message as it has it, so all but name, data and extras is the old
        message's: its id, its clientId. Who makes the change is in `version`.
Rule 2: `serial` is the message's, in every version; a version has one of its own.
"""

from __future__ import annotations

import msgspec

from sower.core import summaries
from sower.core.command import Publish
from sower.core.message import Act, Message, Revision
from sower.dialects.ably import payload, serials
from sower.dialects.ably.wire import Format, InMessage, OutVersion
from sower.errors import BadData, BadParameter

CREATE = 0

ACTS = {1: Act.UPDATED, 2: Act.DELETED, 5: Act.APPENDED}
"""What clients may do to a message, by action."""

ACTIONS = {Act.CREATED: CREATE, Act.UPDATED: 1, Act.DELETED: 2, Act.SUMMARISED: 4, Act.APPENDED: 5}

MAX_NOTE = 4096
"""Bytes of a change's description and metadata."""

NOTHING = msgspec.Raw()


class Note(msgspec.Struct, omit_defaults=True):
    """What is said of a change."""

    description: str | None = None
    metadata: msgspec.Raw = NOTHING


_decode_note = msgspec.json.Decoder(Note).decode


def change(
    message: InMessage, channel: str, user: str | None, *, change_id: str | None = None, echo: bool = True
) -> Publish:
    """A change of a message. user: who makes it, where the client says so. Raises BadData, BadParameter."""
    act = ACTS.get(message.action or 0)
    if act is None:
        raise BadParameter(f"{message.action} is no action of clients: 0 create, 1 update, 2 delete, 5 append.")
    if not message.serial:
        raise BadParameter("What is to be changed is named by its `serial`, and there is none.")
    content = payload.read(message.data, message.encoding)
    patch: dict[str, object] = {}
    if message.data is not None and act is not Act.APPENDED:
        patch["encoding"] = content.encoding
    elif content.encoding is not None:
        raise BadData(f"Only text and bytes are appended, nothing that is encoded as {content.encoding[:64]!r}.")
    if message.extras is not None:
        patch["extras"] = payload.portable(message.extras)
    return Publish(
        channel,
        message.name or "",
        content.data,
        content.kind,
        user=user,
        id=change_id,
        echo=echo,
        extra=payload.as_json(patch) if patch else None,
        about=Revision(serials.read(message.serial).serial, act, note=_note(message)),
    )


def _note(message: InMessage) -> bytes | None:
    said = message.version
    if said is None or (said.description is None and said.metadata is None):
        return None
    metadata = NOTHING if said.metadata is None else msgspec.Raw(payload.as_json(payload.portable(said.metadata)))
    note = payload.as_json(Note(said.description, metadata))
    if len(note) > MAX_NOTE:
        raise BadParameter(f"What is said of the change has {len(note)} bytes; {MAX_NOTE} are allowed.")
    return note


def version(about: Revision, epoch: str, wire: Format) -> OutVersion:
    """Which version of a message it is."""
    note = Note() if about.note is None else _decode_note(about.note)
    return OutVersion(
        serials.write(about.version, epoch),
        about.version // serials.TICKS,
        about.by,
        note.description,
        wire.json(note.metadata),
    )


def summary(about: Revision, wire: Format) -> dict[str, object] | None:
    """How a message is annotated; None where that is not told."""
    if about.summary is None:
        return {"summary": {}} if about.act is Act.SUMMARISED else None
    return {"summary": wire.json(msgspec.Raw(summaries.clipped(about.summary)))}


def own_serial(message: Message) -> int:
    """The serial that a message has in all its versions."""
    return message.serial if message.about is None else message.about.of
