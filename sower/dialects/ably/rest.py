"""Ably's REST: publish, history, presence, status, tokens. Requests into commands, answers into Ably's words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar, cast

import msgspec

from sower.core import appearances
from sower.core.answer import Answers, ChannelList, HistoryPage, HttpAnswer, Issued, Members, Occupancy, Published, Time
from sower.core.command import (
    Batch,
    Complain,
    Credentials,
    ListChannels,
    PublishAll,
    ReadHistory,
    ReadOccupancy,
    ReadPresence,
    ReadTime,
)
from sower.core.message import Position, check_count
from sower.dialects.ably import codes, messages, serials, tokens
from sower.dialects.ably.channels import metrics_of, read_name
from sower.dialects.ably.credentials import read_credentials
from sower.dialects.ably.editing import editing_routes
from sower.dialects.ably.http import answers_in, bound, directed, is_ably, limit_of, links, read_body, refuse, reply
from sower.dialects.ably.revoking import REVOKE_ROUTE
from sower.dialects.ably.wire import InMessage, OutMessage, OutPresence
from sower.dialects.interface import Asked, HttpCall, HttpRoute, Reply
from sower.errors import BadChannelName, BadParameter, BadRequest, SowerError, UserMismatch

CREATED = 201

MOST_ASKED = 100
"""Channels whose members one request reads, the vendor's limit: a short query may name one channel very often."""

T = TypeVar("T")


def asked(call: HttpCall, command: Any, encode: Callable[[HttpAnswer], Reply]) -> Asked:
    """A command with what was shown for it."""
    return Asked(read_credentials(call.headers, call.query), command, encode)


def decode_time(call: HttpCall) -> Asked:
    """GET /time. Answers [milliseconds]; needs no credential."""

    def encode(answer: HttpAnswer) -> Reply:
        return reply(call, [int(answer.now * 1000) if isinstance(answer, Time) else 0])

    return Asked(Credentials(), ReadTime(), encode)


# Publishing


def decode_publish(epoch: str, call: HttpCall) -> Asked:
    """POST /channels/{channel}/messages: one message or several. Raises BadJson and what a message may raise.

    Answers 201 {"channel", "messageId", "serials"}.
    """
    shown = read_credentials(call.headers, call.query)
    sent: list[InMessage] = _listed(read_body(call, InMessage | list[InMessage]))
    command = publishes(read_name(call.params["channel"]).name, sent, shown.user)

    def encode(answer: HttpAnswer) -> Reply:
        return reply(call, told(command, answer, epoch), CREATED) if isinstance(answer, Published) else reply(call, {})

    return Asked(shown, command, encode)


def publishes(channel: str, sent: Sequence[InMessage], user: str | None) -> PublishAll:
    """Messages for one channel. user: who the client said it is. Raises BadRequest, UserMismatch, MessageTooLarge."""
    if not sent:
        raise BadRequest("There is nothing to publish.")
    check_count(len(sent))
    commands = [messages.publish(message, channel, message_id=None, connection=None) for message in sent]
    for command in commands:
        if user is not None and command.user not in (None, user):
            raise UserMismatch(f"The client is {user[:64]!r} and does not speak for {str(command.user)[:64]!r}.")
    messages.check_size(list(sent), commands)
    return PublishAll(tuple(commands))


def told(command: PublishAll, published: Published, epoch: str) -> dict[str, Any]:
    """What became of a publish."""
    written = [serials.write(receipt.serial, epoch) for receipt in published.receipts]
    first, own = command.publishes[0], serials.message_id(published.receipts[0].serial)
    return {"channel": first.channel, "messageId": first.id or own, "serials": written}


class Specification(msgspec.Struct):
    """One entry of a batch."""

    channels: str | list[str]
    messages: InMessage | list[InMessage]


def decode_batch(epoch: str, call: HttpCall) -> Asked:
    """POST /messages: messages for several channels. Each channel may fail alone.

    Answers [{"successCount", "failureCount", "results"}], one for each entry.
    """
    shown = read_credentials(call.headers, call.query)
    body = read_body(call, Specification | list[Specification])
    entries: list[Specification] = _listed(body)
    check_count(sum(len(_listed(entry.channels)) * len(_listed(entry.messages)) for entry in entries))
    commands = [command for entry in entries for command in _of_entry(entry, shown.user)]

    def encode(answer: HttpAnswer) -> Reply:
        outcomes = answer.answers if isinstance(answer, Answers) else ()
        results = [_one(command, outcome, epoch) for command, outcome in zip(commands, outcomes, strict=True)]
        reports: list[dict[str, Any]] = []
        for entry in entries:
            count = len(_listed(entry.channels))
            reports.append(_report(results[:count]))
            results = results[count:]
        return reply(call, reports if isinstance(body, list) else reports[0], CREATED)

    return Asked(shown, Batch(tuple(commands)), encode)


def _of_entry(entry: Specification, user: str | None) -> list[PublishAll | Complain]:
    """An entry for each of its channels. What it publishes is read once: there may be many of them."""
    read = publishes("", _listed(entry.messages), user).publishes

    def on(name: str) -> PublishAll:
        return PublishAll(tuple(msgspec.structs.replace(one, channel=name) for one in read))

    return [_on(channel, on) for channel in _listed(entry.channels)]


def _on(written: str, make: Callable[[str], T]) -> T | Complain:
    """What is made for a channel of a batch; a name that is not allowed fails alone."""
    try:
        return make(read_name(written).name)
    except BadChannelName as error:
        return Complain(error, channel=written)


def _one(command: PublishAll | Complain, outcome: object, epoch: str) -> dict[str, Any]:
    if isinstance(command, Complain):
        return _failed(command.channel or "", outcome)
    if isinstance(outcome, Published):
        return told(command, outcome, epoch)
    return _failed(command.publishes[0].channel, outcome)


def _failed(channel: str, outcome: object) -> dict[str, Any]:
    error = outcome if isinstance(outcome, SowerError) else SowerError()
    return {"channel": channel, "error": codes.info(error)}


def _report(results: list[dict[str, Any]]) -> dict[str, Any]:
    failures = sum("error" in result for result in results)
    return {"successCount": len(results) - failures, "failureCount": failures, "results": results}


def _listed(value: Any) -> list[Any]:
    return cast(list[Any], value) if isinstance(value, list) else [value]


# Reading


def decode_history(call: HttpCall) -> Asked:
    """GET /channels/{channel}/messages. Raises BadParameter. Answers messages, the pages by Link."""
    return _history(call, presence=False)


def decode_presence_history(call: HttpCall) -> Asked:
    """GET /channels/{channel}/presence/history. Raises BadParameter. Answers presence messages, the pages by Link."""
    return _history(call, presence=True)


def _history(call: HttpCall, *, presence: bool) -> Asked:
    query, wire = call.query, answers_in(call)
    newest_first = directed(query, "backwards") == "backwards"
    since, before = bound(query.get("start"), -1), bound(query.get("end"), serials.TICKS)
    until = query.get("from_serial") or query.get("fromSerial")
    read_until = serials.read_moment if presence else serials.read
    last = read_until(until) if until else None
    if last is not None and (before is None or last.serial < before.serial):
        before = Position(last.epoch, last.serial + 1)
    if query.get("cursor"):
        cursor = Position.parse(query["cursor"])
        since, before = (since, cursor) if newest_first else (cursor, before)
    # With `untilAttach`, what was changed since is told live: it would be told twice.
    channel, limit = read_name(call.params["channel"]).name, limit_of(query)
    command = ReadHistory(channel, since, before, limit, newest_first, presence, as_of=last)

    def encode(answer: HttpAnswer) -> Reply:
        if not isinstance(answer, HistoryPage):
            return reply(call, [])
        following = None if answer.next is None else str(answer.next)
        epoch = answer.position.epoch
        word = call.path.rpartition("/")[2]
        found: list[OutMessage] | list[OutPresence]
        if presence:
            found = [messages.out_presence(appearances.read(message), wire) for message in answer.messages]
        else:
            found = [messages.out(message, epoch, wire) for message in answer.messages]
        return reply(call, found, 200, links(word, query, following))

    return asked(call, command, encode)


def decode_presence(call: HttpCall) -> Asked:
    """GET /channels/{channel}/presence?clientId=&connectionId=&limit=. Answers the members."""
    query, limit = call.query, limit_of(call.query)
    start = _offset(query.get("cursor"))

    def encode(answer: HttpAnswer) -> Reply:
        found = [
            member
            for member in (_members(call, answer) if isinstance(answer, Members) else [])
            if query.get("clientId") in (None, member.clientId)
            and query.get("connectionId") in (None, member.connectionId)
        ]
        following = str(start + limit) if start + limit < len(found) else None
        return reply(call, found[start : start + limit], 200, links("presence", query, following))

    return asked(call, ReadPresence(read_name(call.params["channel"]).name, seen=True), encode)


def _offset(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 9 else 0


def _members(call: HttpCall, answer: Members) -> list[OutPresence]:
    return [messages.out_presence(seen, answers_in(call), sync=True) for seen in answer.seen]


def decode_presences(call: HttpCall) -> Asked:
    """GET /presence?channels=a,b: the members of several channels, each of which may fail alone.

    Raises BadParameter.
    """
    names = call.query.get("channels", "").split(",")
    if len(names) > MOST_ASKED:
        raise BadParameter(f"The members of at most {MOST_ASKED} channels are read at once, not of {len(names)}.")

    def encode(answer: HttpAnswer) -> Reply:
        outcomes = answer.answers if isinstance(answer, Answers) else ()
        results = [
            {"channel": name, "presence": _members(call, outcome)}
            if isinstance(outcome, Members)
            else _failed(name, outcome)
            for name, outcome in zip(names, outcomes, strict=True)
        ]
        return reply(call, _report(results))

    return asked(call, Batch(tuple(_on(name, partial(ReadPresence, seen=True)) for name in names)), encode)


def decode_status(call: HttpCall) -> Asked:
    """GET /channels/{channel}: whether anybody is there, and how many."""

    def encode(answer: HttpAnswer) -> Reply:
        return reply(call, _status(answer)) if isinstance(answer, Occupancy) else reply(call, {})

    return asked(call, ReadOccupancy(read_name(call.params["channel"]).name), encode)


def _status(occupancy: Occupancy) -> dict[str, Any]:
    metrics = metrics_of(occupancy.attendance)
    active = any(metrics.values())
    return {"channelId": occupancy.channel, "status": {"isActive": active, "occupancy": {"metrics": metrics}}}


def decode_channels(call: HttpCall) -> Asked:
    """GET /channels?prefix=&limit=&by=. Answers names, or statuses by value."""
    query, limit = call.query, limit_of(call.query)
    by_value, start = query.get("by") == "value", _offset(query.get("cursor"))

    def encode(answer: HttpAnswer) -> Reply:
        found = answer.channels if isinstance(answer, ChannelList) else ()
        following = str(start + limit) if start + limit < len(found) else None
        page = found[start : start + limit]
        shown = [_status(channel) if by_value else channel.channel for channel in page]
        return reply(call, shown, 200, links("channels", query, following))

    return asked(call, ListChannels(query.get("prefix", ""), None), encode)


def decode_stats(call: HttpCall) -> Asked:
    """GET /stats: an empty page, because the daemon's numbers are in /metrics."""

    def encode(answer: HttpAnswer) -> Reply:
        return reply(call, [], 200, links("stats", call.query, None))

    return asked(call, ReadTime(), encode)


# Tokens


def decode_token(call: HttpCall) -> Asked:
    """POST /keys/{key}/requestToken, signed or with the key itself. Raises BadJson, BadParameter, UserMismatch.

    Answers TokenDetails.
    """
    request = read_body(call, tokens.TokenRequest)
    key = call.params["key"]
    if request.keyName not in (None, key):
        raise BadParameter(f"The request is for the key {str(request.keyName)[:64]!r}, the path for {key[:64]!r}.")
    shown = tokens.signed(request, key) if request.mac else read_credentials(call.headers, call.query)

    def encode(answer: HttpAnswer) -> Reply:
        return reply(call, tokens.details(answer.token) if isinstance(answer, Issued) else {}, CREATED)

    return Asked(shown, tokens.issue(request, key), encode)


def http_routes(epoch: str) -> tuple[HttpRoute, ...]:
    """The routes, for a node whose positions have this epoch."""
    return (
        HttpRoute("GET", "/time", decode_time, refuse),
        HttpRoute("POST", "/channels/{channel}/messages", partial(decode_publish, epoch), refuse),
        HttpRoute("GET", "/channels/{channel}/messages", decode_history, refuse),
        HttpRoute("GET", "/channels/{channel}/history", decode_history, refuse),
        HttpRoute("GET", "/channels/{channel}/presence", decode_presence, refuse),
        HttpRoute("GET", "/channels/{channel}/presence/history", decode_presence_history, refuse),
        HttpRoute("GET", "/channels/{channel}", decode_status, refuse),
        HttpRoute("GET", "/channels", decode_channels, refuse, is_ably),
        HttpRoute("POST", "/messages", partial(decode_batch, epoch), refuse),
        HttpRoute("GET", "/presence", decode_presences, refuse),
        HttpRoute("GET", "/stats", decode_stats, refuse, is_ably),
        HttpRoute("POST", "/keys/{key}/requestToken", decode_token, refuse),
        REVOKE_ROUTE,
        *editing_routes(epoch),
    )
