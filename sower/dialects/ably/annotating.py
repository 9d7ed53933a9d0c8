"""Annotations between Ably's shapes and the core's: an event that is about a message."""

from __future__ import annotations

from sower.core import summaries
from sower.core.command import Publish
from sower.core.message import Annotation, Message
from sower.dialects.ably import messages, payload, serials
from sower.dialects.ably.wire import Format, InAnnotation, InMessage, OutAnnotation
from sower.errors import BadParameter

CREATE, DELETE = 0, 1


def annotate(
    sent: InAnnotation,
    channel: str,
    *,
    message: str | None = None,
    annotation_id: str | None = None,
    connection: str | None = None,
    echo: bool = True,
) -> Publish:
    """An annotation of a client, or one that it takes back. message: the serial of what it is about.

    Raises BadData, BadParameter, UserMismatch, MessageTooLarge.
    """
    about = message or sent.messageSerial
    if not about:
        raise BadParameter("An annotation names what it is about by `messageSerial`, and there is none.")
    if sent.action not in (None, CREATE, DELETE):
        raise BadParameter(f"{sent.action} is no action of annotations: 0 create, 1 delete.")
    annotation = Annotation(serials.read(about).serial, sent.type, sent.action == DELETE, sent.count)
    event = InMessage(sent.id, sent.name, sent.data, sent.encoding, sent.clientId, sent.extras)
    command = messages.publish(
        event,
        channel,
        message_id=annotation_id,
        connection=connection,
        echo=echo,
        about=summaries.check(annotation, sent.name or ""),
    )
    messages.check_size([event], [command])
    return command


def out(message: Message, about: Annotation, epoch: str, wire: Format) -> OutAnnotation:
    """An annotation for a client."""
    extra = messages.read_extra(message)
    data, encoding = payload.write(payload.Content(message.data, message.kind, extra.encoding), binary=wire.binary)
    serial = serials.write(message.serial, epoch)
    return OutAnnotation(
        messages.called(message),
        DELETE if about.withdrawn else CREATE,
        serial,
        serials.write(about.of, epoch),
        about.type,
        message.time_ms,
        message.event or None,
        about.count,
        message.user,
        extra.connection,
        data,
        encoding,
        wire.json(extra.extras),
    )
