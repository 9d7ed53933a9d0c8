"""Ably's REST about one message: how it is now, changing it, its versions, its annotations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from sower.core.answer import HttpAnswer, Published
from sower.core.command import PublishAll
from sower.core.message import Annotation, Message, check_count
from sower.core.revising import Found, ReadMessage, ReadVersions, RevisingAnswer, Versions
from sower.dialects.ably import annotating, messages, revisions, serials
from sower.dialects.ably.channels import read_name
from sower.dialects.ably.credentials import read_credentials
from sower.dialects.ably.http import answers_in, bound, directed, limit_of, links, read_body, refuse, reply
from sower.dialects.ably.wire import InAnnotation, InMessage, InVersion
from sower.dialects.interface import Asked, HttpCall, HttpRoute, Reply
from sower.errors import BadRequest, UserMismatch

UPDATE = 1
"""What a PATCH does that does not say it."""

FOREVER = 10**17

CREATED = 201


def _asked(call: HttpCall) -> tuple[str, int]:
    """The channel and the message that a path names."""
    return read_name(call.params["channel"]).name, serials.read(call.params["serial"]).serial


def decode_message(epoch: str, call: HttpCall) -> Asked:
    """GET /channels/{channel}/messages/{serial}. Answers the message as it is now."""

    def encode(answer: RevisingAnswer) -> Reply:
        found = answer.message if isinstance(answer, Found) else None
        return reply(call, {} if found is None else messages.out(found, epoch, answers_in(call)))

    return Asked(read_credentials(call.headers, call.query), ReadMessage(*_asked(call)), encode)


def decode_change(epoch: str, call: HttpCall) -> Asked:
    """PATCH /channels/{channel}/messages/{serial}: an update, a delete or an append.

    Answers {"versionSerial"}. Raises BadJson, BadParameter, BadData, UserMismatch, MessageTooLarge.
    """
    shown = read_credentials(call.headers, call.query)
    sent: InMessage = read_body(call, InMessage)
    sent.serial, sent.action = call.params["serial"], sent.action or UPDATE
    user = messages.checked_user((sent.version or InVersion()).clientId)
    if shown.user is not None and user not in (None, shown.user):
        raise UserMismatch(f"The client is {shown.user[:64]!r} and does not speak for {str(user)[:64]!r}.")
    command = revisions.change(sent, read_name(call.params["channel"]).name, user)
    messages.check_size([sent], [command])

    def encode(answer: HttpAnswer) -> Reply:
        serial = answer.receipts[0].serial if isinstance(answer, Published) else 0
        return reply(call, {"versionSerial": serials.write(serial, epoch)})

    return Asked(shown, PublishAll((command,)), encode)


def decode_annotate(call: HttpCall) -> Asked:
    """POST /channels/{channel}/messages/{serial}/annotations: one annotation or several. Answers 201.

    Raises BadJson, BadParameter, BadData, UserMismatch, MessageTooLarge.
    """
    shown = read_credentials(call.headers, call.query)
    sent: InAnnotation | list[InAnnotation] = read_body(call, InAnnotation | list[InAnnotation])
    listed = sent if isinstance(sent, list) else [sent]
    if not listed:
        raise BadRequest("There is no annotation.")
    check_count(len(listed))
    channel = read_name(call.params["channel"]).name
    commands = [annotating.annotate(one, channel, message=call.params["serial"]) for one in listed]
    for command in commands:
        if shown.user is not None and command.user not in (None, shown.user):
            raise UserMismatch(f"The client is {shown.user[:64]!r} and does not speak for {str(command.user)[:64]!r}.")

    def encode(answer: HttpAnswer) -> Reply:
        return reply(call, {}, CREATED)

    return Asked(shown, PublishAll(tuple(commands)), encode)


def decode_versions(epoch: str, call: HttpCall) -> Asked:
    """GET /channels/{channel}/messages/{serial}/versions. Answers them from the first on, the pages by Link."""
    wire = answers_in(call)
    return _listing(call, "versions", lambda found: messages.out(found, epoch, wire))


def decode_annotations(epoch: str, call: HttpCall) -> Asked:
    """GET /channels/{channel}/messages/{serial}/annotations. Answers them from the first on, the pages by Link."""
    wire = answers_in(call)

    def out(found: Message) -> Any:
        return annotating.out(found, found.about, epoch, wire) if isinstance(found.about, Annotation) else None

    return _listing(call, "annotations", out)


def _listing(call: HttpCall, word: str, out: Callable[[Message], Any]) -> Asked:
    query = call.query
    newest_first = directed(query, "forwards") == "backwards"
    since, before = bound(query.get("start"), -1), bound(query.get("end"), serials.TICKS)
    low, high = 0 if since is None else since.serial, FOREVER if before is None else before.serial
    cursor = query.get("cursor", "")
    if cursor.isascii() and cursor.isdigit() and len(cursor) <= 17:
        low, high = (low, int(cursor)) if newest_first else (int(cursor), high)
    channel, message = _asked(call)
    command = ReadVersions(
        channel, message, word == "annotations", low, high, limit_of(query), newest_first=newest_first
    )

    def encode(answer: RevisingAnswer) -> Reply:
        if not isinstance(answer, Versions):
            return reply(call, [])
        following = None if answer.next is None else str(answer.next)
        return reply(call, [out(found) for found in answer.messages], 200, links(word, query, following))

    return Asked(read_credentials(call.headers, query), command, encode)


def editing_routes(epoch: str) -> tuple[HttpRoute, ...]:
    """The routes, for a node whose positions have this epoch."""
    message = "/channels/{channel}/messages/{serial}"
    return (
        HttpRoute("GET", message, partial(decode_message, epoch), refuse),
        HttpRoute("PATCH", message, partial(decode_change, epoch), refuse),
        HttpRoute("GET", f"{message}/versions", partial(decode_versions, epoch), refuse),
        HttpRoute("GET", f"{message}/annotations", partial(decode_annotations, epoch), refuse),
        HttpRoute("POST", f"{message}/annotations", decode_annotate, refuse),
    )
