"""dialects/pubnub: what is read of a request, in the odd cases that no SDK brings about by itself."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping
from urllib.parse import parse_qsl

import msgspec
import pytest

from sower.config import App
from sower.core.command import PublishAll
from sower.core.message import DEEPEST, Joined, Kind, Left, Message, Position
from sower.core.polling import CountMessages, DeleteHistory, Reach, ReadHistories, ReadReactions, Source
from sower.dialects.interface import Asked, HttpCall, Turnover
from sower.dialects.pubnub import pubnub, subscribe
from sower.dialects.pubnub.asking import MAX_INFLATED, parse_list, read_body, read_list
from sower.dialects.pubnub.envelopes import MOST_NAMED, Envelopes
from sower.dialects.pubnub.subscribe import decode_subscribe
from sower.dialects.pubnub.words import refuse_publish, refuse_subscribe
from sower.errors import (
    BadChannelName,
    BadJson,
    BadRequest,
    Draining,
    MessageTooLarge,
    NamesForbidden,
    NotAuthorised,
    RateLimited,
    UnknownKey,
)
from sower.net.http import Request
from sower.net.routing import Router

APP = App(id="1", key="k", secret="s" * 16)
KEYS = {"sub-k": "pub-k"}
DIALECT = pubnub([APP])
ROUTES = {(route.method, route.pattern): route for route in DIALECT.http}


def call(target: str, method: str = "GET", body: bytes = b"", headers: Mapping[str, str] | None = None) -> HttpCall:
    """A request as the router hands it on."""
    router = Router()
    for route in DIALECT.http:
        router.add(route.method, route.pattern, route)  # type: ignore[arg-type]
    for route in DIALECT.polls:
        router.add("GET", route.pattern, route)  # type: ignore[arg-type]
    request = Request(method, target, headers or {}, body, address="")
    path, _, search = target.partition("?")
    params = router.match(request).params
    return HttpCall(method, path, params, dict(parse_qsl(search, keep_blank_values=True)), headers or {}, body, search)


def asked(target: str, method: str = "GET", body: bytes = b"") -> Asked:
    router = Router()
    for route in DIALECT.http:
        router.add(route.method, route.pattern, route)  # type: ignore[arg-type]
    found = router.match(Request(method, target, {}, body, address="")).endpoint
    return found.decode(call(target, method, body))  # type: ignore[union-attr]


def test_lists_are_split_before_they_are_decoded() -> None:
    made = call("/v2/presence/sub-key/sub-k/channel/a%2Cb,c%2Fd,,%C3%A9/heartbeat")
    assert read_list(made, -2) == ("a,b", "c/d", "é")
    assert read_list(call("/v2/presence/sub-key/sub-k/channel/,/heartbeat"), -2) == ()
    for bad in ("%", "%zz", "%ff"):
        with pytest.raises(BadRequest, match="percent"):
            parse_list(bad)


@pytest.mark.parametrize("segment", ["%22a%2Fb%22", "%22a/b%22"])
def test_a_message_in_the_path_may_hold_slashes_encoded_or_not(segment: str) -> None:
    command = asked(f"/publish/pub-k/sub-k/0/ch/0/{segment}").command
    assert isinstance(command, PublishAll)
    assert command.publishes[0].data == b'"a/b"'


@pytest.mark.parametrize("kind", ["publish", "signal"])
@pytest.mark.parametrize(
    ("channel", "segment"), [("publish", "%22a%22"), ("signal", "%22a%22"), ("ch", "%22a/publish/%22")]
)
def test_a_channel_and_a_message_may_be_called_as_what_is_done(kind: str, channel: str, segment: str) -> None:
    command = asked(f"/{kind}/pub-k/sub-k/0/{channel}/0/{segment}").command
    assert isinstance(command, PublishAll)
    assert (command.publishes[0].channel, command.publishes[0].data[:2]) == (channel, b'"a')


def test_a_timetoken_above_every_serial_is_brought_down_to_what_the_journal_can_be_asked() -> None:
    most, forever = "9" * 19, 10**18
    read = asked(f"/v3/history/sub-key/sub-k/channel/a?start={most}&end={most}").command
    assert isinstance(read, ReadHistories)
    assert (read.asked[0].since, read.asked[0].before) == (Position("", forever - 1), Position("", forever))
    listed = asked(f"/v1/message-actions/sub-k/channel/a?start={most}&end={most}").command
    assert listed == ReadReactions("a", forever - 1, forever, 100)
    for query in (f"timetoken={most}", f"channelsTimetoken={most}"):
        counted = asked(f"/v3/history/sub-key/sub-k/message-counts/a?{query}").command
        assert counted == CountMessages((("a", forever),))


@pytest.mark.parametrize(
    ("target", "error"),
    [
        ("/publish/pub-k/sub-k/0/ch/0/nothing", BadJson),
        ("/v2/history/sub-key/sub-k/channel/" + "n" * 257, BadChannelName),
        ("/publish/pub-k/sub-k/0/ch/0/%22%ff%22", BadRequest),
        ("/publish/pub-k/sub-k/0/ch/0/1?meta=5", BadJson),
        (f'/publish/pub-k/sub-k/0/ch/0/1?meta={{"a":{DEEPEST * "["}{DEEPEST * "]"}}}', BadJson),
        ("/publish/pub-k/sub-k/0/ch/0/1?custom_message_type=a", BadRequest),
        ("/publish/pub-k/sub-k/0/ch/0/1?uuid=" + "u" * 93, BadRequest),
        ("/publish/pub-x/sub-k/0/ch/0/1", UnknownKey),
        ("/publish/pub-k/sub-k/0/a.*/0/1", BadChannelName),
        ("/publish/pub-k/sub-k/0/a%2Cb/0/1", BadChannelName),
        ("/signal/pub-k/sub-k/0/ch/0/%22" + "s" * 63 + "%22", MessageTooLarge),
        ("/v2/presence/sub-key/sub-k/channel/ch/heartbeat", BadRequest),
        ("/v2/presence/sub-key/sub-k/channel/ch/uuid/u/data?state=5", BadRequest),
        ("/v2/presence/sub-key/sub-k/channel/ch/heartbeat?uuid=u&state=%7B%22ch%22:1%7D", BadRequest),
        ("/v3/history/sub-key/sub-k/message-counts/a,b?channelsTimetoken=1,2,3", BadRequest),
        ("/v3/history/sub-key/sub-k/message-counts/a,b", BadRequest),
        ("/v3/history/sub-key/sub-k/channel/a?start=x", BadRequest),
        ("/v1/channel-registration/sub-key/sub-k/channel-group/g?add=a.*", BadChannelName),
    ],
)
def test_what_is_wrong_is_said(target: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        asked(target)


def test_a_body_is_inflated_whatever_it_calls_itself_and_never_without_a_bound() -> None:
    raw = zlib.compressobj(9, zlib.DEFLATED, -15)
    for packed in (zlib.compress(b"{}"), gzip.compress(b"{}"), raw.compress(b"{}") + raw.flush()):
        assert read_body(HttpCall("POST", "/", {}, {}, {"content-encoding": "gzip"}, packed)) == b"{}"
    assert read_body(HttpCall("POST", "/", {}, {}, {}, b"{}")) == b"{}"
    bomb = zlib.compress(b"x" * (MAX_INFLATED + 1))
    with pytest.raises(MessageTooLarge):
        read_body(HttpCall("POST", "/", {}, {}, {"content-encoding": "deflate"}, bomb))
    for broken in (b"\x01nonsense", zlib.compress(b"x" * 1000)[:-6]):
        with pytest.raises(BadRequest):
            read_body(HttpCall("POST", "/", {}, {}, {"content-encoding": "deflate"}, broken))


def test_a_poll_names_what_it_follows_each_once() -> None:
    made = call(
        "/v2/subscribe/sub-k/a,a-pnpres,news.*,news.*-pnpres,a/0?channel-group=g,g-pnpres&tt=5&uuid=u&heartbeat=5"
    )
    poll = decode_subscribe(KEYS, made).poll
    assert poll.sources == (
        Source(Reach.CHANNEL, "a"),
        Source(Reach.CHANNEL, "a", True),
        Source(Reach.PREFIX, "news."),
        Source(Reach.PREFIX, "news.", True),
        Source(Reach.GROUP, "g"),
        Source(Reach.GROUP, "g", True),
    )
    assert (poll.cursor, poll.user, poll.seconds) == (5, "u", 20.0)
    for bad in ("/v2/subscribe/sub-k/a.b.c.*/0", "/v2/subscribe/sub-k/,/0", "/v2/subscribe/sub-k/a/0?tt=x"):
        with pytest.raises(BadRequest):
            decode_subscribe(KEYS, call(bad))


@pytest.mark.parametrize(
    ("query", "since", "before"),
    [
        ("", 0, 10**18),
        ("start=9", 0, 9),
        ("end=5", 4, 10**18),
        ("start=9&end=5", 4, 9),
        ("start=5&end=9", 5, 10),
        ("start=5&end=5", 0, 0),
    ],
)
def test_deleting_takes_the_range_that_the_vendor_documents(query: str, since: int, before: int) -> None:
    command = asked(f"/v3/history/sub-key/sub-k/channel/a?{query}", "DELETE").command
    assert command == DeleteHistory("a", since, before)


@pytest.mark.parametrize(
    ("query", "since", "before", "newest_first"),
    [
        ("", 0, 10**18, True),
        ("start=9", 0, 9, True),
        ("end=5", 4, 10**18, True),
        ("reverse=true&start=5", 5, 10**18, False),
        ("reverse=true&end=9", 0, 10, False),
    ],
)
def test_the_old_history_takes_the_range_that_the_vendor_documents(
    query: str, since: int, before: int, newest_first: bool
) -> None:
    command = asked(f"/v2/history/sub-key/sub-k/channel/a?{query}").command
    assert isinstance(command, ReadHistories)
    read = command.asked[0]
    assert read.since is not None
    assert read.before is not None
    assert (read.since.serial, read.before.serial, read.newest_first) == (since, before, newest_first)


def test_envelopes_have_what_each_sdk_fails_without() -> None:
    words = Envelopes("sub-k")
    direct = words.reached(Source(Reach.CHANNEL, "a"))
    plain = msgspec.json.decode(
        words.envelope("a", Message(17, "message", b'{"n": 12345678901234567890}', user="u")) + direct
    )
    assert "e" not in plain
    assert plain == {
        "a": "1",
        "f": 0,
        "p": {"t": "17", "r": 1},
        "k": "sub-k",
        "c": "a",
        "d": {"n": 12345678901234567890},
        "i": "u",
    }
    signal = msgspec.json.decode(words.envelope("a", Message(17, "signal", b"1", extra=b'{"kind":"signal"}')) + direct)
    assert signal["e"] == 1
    for kind, data, said in ((Kind.TEXT, b"t\xc3\xa9", "té"), (Kind.BINARY, b"\xff", "/w==")):
        assert msgspec.json.decode(words.envelope("a", Message(17, "shipped", data, kind)) + direct)["d"] == said
    assert msgspec.json.decode(words.envelope("a", Message(17, "shipped", b"1")) + direct)["cmt"] == "shipped"
    group = words.reached(Source(Reach.GROUP, 'g"', True))
    told = msgspec.json.decode(words.presence("a", Left("u", b"null", lost=True), 170_000_000, 3) + group)
    assert (told["c"], told["b"]) == ("a-pnpres", 'g"-pnpres')
    assert told["d"] == {"action": "timeout", "timestamp": 17, "uuid": "u", "occupancy": 3}
    assert words.presence("a", Joined("u"), 1, 1)
    crowd = Turnover(tuple(f"user-{n}" for n in range(MOST_NAMED // 5)), (), ())
    told = msgspec.json.decode(words.crowd("a", 170_000_000, 9, crowd) + direct)
    assert told["d"] == {"action": "interval", "timestamp": 17, "occupancy": 9, "here_now_refresh": True}


def test_errors_have_the_vendors_status_and_shape() -> None:
    made = call("/publish/pub-k/sub-k/0/ch/0/1")
    assert (refuse_publish(made, UnknownKey()).status, refuse_publish(made, UnknownKey()).body) == (
        400,
        b'[0,"Invalid Key","0"]',
    )
    assert refuse_publish(made, NotAuthorised()).status == 403
    refused = refuse_subscribe(made, NamesForbidden(channels=["a"], groups=["g"]))
    assert msgspec.json.decode(refused.body)["payload"] == {"channels": ["a"], "channel-groups": ["g"]}
    for error in (RateLimited(retry_after=2.5), Draining()):
        reply = refuse_subscribe(made, error)
        assert "Retry-After" in dict(reply.headers)
        assert msgspec.json.decode(reply.body)["status"] == reply.status


def test_a_list_of_channels_is_read_once_where_it_is_short_and_a_long_one_is_not_kept() -> None:
    before = subscribe._shared.cache_info().currsize
    long = ",".join(f"channel-{n}" for n in range(2000))
    assert len(subscribe._sources_in(long, "")) == 2000
    assert subscribe._shared.cache_info().currsize == before
    assert subscribe._sources_in("one,two", "") is subscribe._sources_in("one,two", "")
