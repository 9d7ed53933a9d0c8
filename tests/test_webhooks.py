"""webhooks.py and webhook_sender.py: what reaches a real receiver, in which order, after which failures."""

from __future__ import annotations

import hmac
import json
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest
import trio

from sower import webhook_sender, webhooks
from sower.config import App, Duration, Webhook
from sower.core.happening import Fact, Happening
from sower.core.message import Kind
from sower.dialects.pusher.webhooks import body, event
from sower.errors import JournalFailed
from sower.store import audit as audit_record
from sower.store.audit import Audit
from sower.store.outbox import Notice, Outbox, waiting
from sower.webhooks import Webhooks
from tests.receiver import PATIENCE, Receiver, receiving
from tests.store.opened import opened

SECRET = "a-secret-of-the-app"
SESSION = "00000000007b1c8"
DATABASE = "sower.db"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends are told at once, and attempts follow each other quickly."""
    monkeypatch.setattr(webhooks, "HELD_BACK", 0.0)
    monkeypatch.setattr(webhooks, "BACK_WITHIN", 0.0)
    monkeypatch.setattr(webhook_sender, "FIRST_RETRY", 0.01)
    monkeypatch.setattr(webhook_sender, "LAST_RETRY", 0.05)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


@asynccontextmanager
async def hooked(folder: Path, *tables: Webhook, now: Callable[[], float] = time.time) -> AsyncIterator[Webhooks]:
    """The webhooks of one app, on a real journal, for as long as the block runs."""
    app = App(id="1", key="app-key", secret=SECRET, webhooks=tables)
    async with opened(folder, now=now) as journal:
        hooks = Webhooks([app], Outbox(journal), Audit(journal), now=now, ages=now)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hooks.run)
            yield hooks
            nursery.cancel_scope.cancel()


def table(receiver: Receiver, *events: Fact, **more: Any) -> Webhook:
    return Webhook(url=receiver.url, events=events or tuple(Fact), **more)


def tell(hooks: Webhooks, fact: Fact, channel: str = "c", **more: Any) -> None:
    assert hooks.hears("1", fact)
    hooks.happened("1", Happening(fact, channel, **more))


async def nothing_waits(folder: Path) -> None:
    """Wait until what was accepted or given up is no longer in the database."""
    with trio.fail_after(PATIENCE):
        while waiting(str(folder / DATABASE)):
            await trio.testing.wait_all_tasks_blocked(0.01)


def names(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(event["name"], event["channel"]) for event in events]


# What is sent


@pytest.mark.parametrize(
    ("happening", "expected"),
    [
        (Happening(Fact.OCCUPIED, "c"), {"name": "channel_occupied", "channel": "c"}),
        (Happening(Fact.VACATED, "c"), {"name": "channel_vacated", "channel": "c"}),
        (Happening(Fact.MEMBER_ADDED, "c", user="7"), {"name": "member_added", "channel": "c", "user_id": "7"}),
        (Happening(Fact.MEMBER_REMOVED, "c", user="7"), {"name": "member_removed", "channel": "c", "user_id": "7"}),
        (Happening(Fact.CACHE_MISS, "cache-c"), {"name": "cache_miss", "channel": "cache-c"}),
        (
            Happening(Fact.COUNTED, "c", count=0),
            {"name": "subscription_count", "channel": "c", "subscription_count": 0},
        ),
        (
            Happening(Fact.CLIENT_EVENT, "presence-c", "7", "client-e", b'{"big":9007199254740993}', SESSION),
            {
                "name": "client_event",
                "channel": "presence-c",
                "event": "client-e",
                "data": {"big": 9007199254740993},
                "socket_id": "123.456",
                "user_id": "7",
            },
        ),
        (
            Happening(Fact.CLIENT_EVENT, "private-c", "7", "client-e", b"text", SESSION, kind=Kind.TEXT),
            {
                "name": "client_event",
                "channel": "private-c",
                "event": "client-e",
                "data": "text",
                "socket_id": "123.456",
            },
        ),
        (
            Happening(Fact.CLIENT_EVENT, "private-c", None, "e", b"\xff", SESSION, kind=Kind.BINARY),
            {"name": "client_event", "channel": "private-c", "event": "e", "data": "/w==", "socket_id": "123.456"},
        ),
    ],
    ids=lambda value: value.fact if isinstance(value, Happening) else "",
)
def test_each_kind_has_the_fields_that_the_vendor_documents(happening: Happening, expected: dict[str, Any]) -> None:
    assert json.loads(event(happening)) == expected
    assert json.loads(body(1_327_078_148.132, [event(happening)])) == {
        "time_ms": 1_327_078_148_132,
        "events": [expected],
    }


async def test_a_post_is_signed_and_carries_the_exact_content_type_and_own_headers(
    tmp_path: Path, receiver: Receiver
) -> None:
    async with hooked(tmp_path, table(receiver, headers={"Authorization": "Bearer t"})) as hooks:
        before = time.time() * 1000
        tell(hooks, Fact.OCCUPIED)
        await receiver.accept(1)
    [post] = receiver.posts
    assert before - 1 <= json.loads(post.body)["time_ms"] <= time.time() * 1000
    assert post.headers["content-type"] == "application/json"
    assert post.headers["x-pusher-key"] == "app-key"
    assert post.headers["x-pusher-signature"] == hmac.new(SECRET.encode(), post.body, "sha256").hexdigest()
    assert post.headers["authorization"] == "Bearer t"


async def test_each_event_is_one_post_unless_a_batch_is_asked_for(tmp_path: Path, receiver: Receiver) -> None:
    async with hooked(tmp_path, table(receiver)) as hooks:
        for n in range(5):
            tell(hooks, Fact.OCCUPIED, f"c{n}")
        await receiver.accept(5)
        assert len(receiver.posts) == 5


async def test_a_batch_holds_what_gathered_up_to_its_size_in_order(tmp_path: Path, receiver: Receiver) -> None:
    async with hooked(tmp_path, table(receiver, batch=4)) as hooks:
        for n in range(10):
            tell(hooks, Fact.COUNTED, count=n)
        await receiver.accept(10)
    assert [e["subscription_count"] for e in receiver.accepted] == list(range(10))
    assert [len(post.events) for post in receiver.posts] == [4, 4, 2]


async def test_a_batch_is_full_before_its_body_is_one_that_receivers_refuse(tmp_path: Path, receiver: Receiver) -> None:
    async with hooked(tmp_path, table(receiver, batch=100)) as hooks:
        for n in range(10):
            tell(hooks, Fact.CLIENT_EVENT, event=str(n), data=json.dumps("x" * 20_000).encode(), session=SESSION)
        await receiver.accept(10)
    assert [event["event"] for event in receiver.accepted] == [str(n) for n in range(10)]
    assert [len(post.events) for post in receiver.posts] == [3, 3, 3, 1]


async def test_a_webhook_is_told_the_kinds_and_channels_that_it_asked_for(tmp_path: Path, receiver: Receiver) -> None:
    async with receiving() as other:
        tables = (table(receiver, Fact.OCCUPIED, match="private-*-eu"), table(other, Fact.VACATED))
        async with hooked(tmp_path, *tables) as hooks:
            for channel in ("private-a", "private-a-eu", "b"):
                tell(hooks, Fact.OCCUPIED, channel)
                tell(hooks, Fact.VACATED, channel)
            await receiver.accept(1)
            await other.accept(3)
            assert not hooks.hears("1", Fact.CLIENT_EVENT)
            assert not hooks.hears("2", Fact.OCCUPIED)
        assert names(receiver.accepted) == [("channel_occupied", "private-a-eu")]
        assert sorted(names(other.accepted)) == [("channel_vacated", c) for c in ("b", "private-a", "private-a-eu")]


async def test_no_cookie_of_a_receiver_is_kept_and_the_daemon_says_its_name(tmp_path: Path, receiver: Receiver) -> None:
    async with hooked(tmp_path, table(receiver)) as hooks:
        for n in range(3):
            tell(hooks, Fact.COUNTED, count=n)
        await receiver.accept(3)
    assert [post.headers.get("cookie") for post in receiver.posts] == [None] * 3
    assert receiver.posts[0].headers["user-agent"].startswith("Sower/")


# Pairs


async def test_begins_come_before_their_ends_and_members_within_their_channels_time(
    tmp_path: Path, receiver: Receiver
) -> None:
    async with hooked(tmp_path, table(receiver)) as hooks:
        tell(hooks, Fact.OCCUPIED)
        tell(hooks, Fact.MEMBER_ADDED, user="ada")
        tell(hooks, Fact.MEMBER_REMOVED, user="ada")
        tell(hooks, Fact.VACATED)
        await receiver.accept(4)
    assert [e["name"] for e in receiver.accepted] == [
        "channel_occupied",
        "member_added",
        "member_removed",
        "channel_vacated",
    ]


async def test_a_return_in_time_tells_nothing_at_all(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "HELD_BACK", 3600.0)
    async with hooked(tmp_path, table(receiver)) as hooks:
        for _ in range(3):
            tell(hooks, Fact.OCCUPIED)
            tell(hooks, Fact.MEMBER_ADDED, user="ada")
            tell(hooks, Fact.MEMBER_REMOVED, user="ada")
            tell(hooks, Fact.VACATED)
        tell(hooks, Fact.COUNTED, count=1)
        await receiver.accept(3)
    assert [e["name"] for e in receiver.accepted] == ["channel_occupied", "member_added", "subscription_count"]


async def test_an_end_is_told_three_seconds_later(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, mock_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(webhooks, "HELD_BACK", 3.0)
    monkeypatch.setattr(webhooks, "GATHERED_FOR", 0.0)
    async with hooked(tmp_path, table(receiver)) as hooks:
        tell(hooks, Fact.OCCUPIED)
        tell(hooks, Fact.VACATED)
        await receiver.accept(1)
        mock_clock.jump(2.99)
        tell(hooks, Fact.COUNTED, count=1)
        await receiver.accept(2)
        mock_clock.jump(0.02)
        await receiver.accept(3)
    assert [e["name"] for e in receiver.accepted] == ["channel_occupied", "subscription_count", "channel_vacated"]


async def test_after_a_restart_what_does_not_come_back_is_ended_and_what_does_is_not_mentioned(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hooked(tmp_path, table(receiver)) as hooks:
        for channel in ("stays", "goes"):
            tell(hooks, Fact.OCCUPIED, channel)
            tell(hooks, Fact.MEMBER_ADDED, channel, user="ada")
        await receiver.accept(4)
        await nothing_waits(tmp_path)
        killed = shutil.copytree(tmp_path, tmp_path / "killed")
    receiver.accepted.clear()
    monkeypatch.setattr(webhooks, "BACK_WITHIN", 0.5)
    async with hooked(killed, table(receiver)) as hooks:
        tell(hooks, Fact.OCCUPIED, "stays")
        tell(hooks, Fact.MEMBER_ADDED, "stays", user="ada")
        await receiver.accept(2)
        tell(hooks, Fact.COUNTED, "stays", count=1)
        await receiver.accept(3)
    assert names(receiver.accepted) == [
        ("member_removed", "goes"),
        ("channel_vacated", "goes"),
        ("subscription_count", "stays"),
    ]


async def test_a_drain_ends_nothing_because_the_clients_come_back_to_the_next_daemon(
    tmp_path: Path, receiver: Receiver
) -> None:
    async with hooked(tmp_path, table(receiver)) as hooks:
        tell(hooks, Fact.OCCUPIED)
        await receiver.accept(1)
        hooks.drain()
        tell(hooks, Fact.VACATED)
        tell(hooks, Fact.COUNTED, count=0)
        await receiver.accept(2)
    async with hooked(tmp_path, table(receiver)):
        await receiver.accept(3)
    assert [e["name"] for e in receiver.accepted] == ["channel_occupied", "subscription_count", "channel_vacated"]


# Failures


async def test_what_is_refused_is_sent_again_with_the_same_body_and_signature(
    tmp_path: Path, receiver: Receiver
) -> None:
    answers = iter([500, 301, 404, 204])
    receiver.answer = lambda _: next(answers)
    async with hooked(tmp_path, table(receiver)) as hooks:
        tell(hooks, Fact.OCCUPIED)
        await receiver.accept(1)
    assert len(receiver.posts) == 4, "a redirect is no acceptance"
    assert len({(post.body, post.headers["x-pusher-signature"]) for post in receiver.posts}) == 1


async def test_one_that_fails_holds_back_its_channels_later_ones_and_no_other_channels(
    tmp_path: Path, receiver: Receiver
) -> None:
    mended = False
    receiver.answer = lambda post: 500 if post.events[0]["channel"] == "bad" and not mended else 200
    async with hooked(tmp_path, table(receiver)) as hooks:
        for n in range(20):
            tell(hooks, Fact.COUNTED, "bad", count=n)
            tell(hooks, Fact.COUNTED, "good", count=n)
        await receiver.accept(20)
        assert names(receiver.accepted) == [("subscription_count", "good")] * 20
        assert {p.events[0]["subscription_count"] for p in receiver.posts if p.events[0]["channel"] == "bad"} == {0}
        mended = True
        await receiver.accept(40)
    for channel in ("good", "bad"):
        told = [e["subscription_count"] for e in receiver.accepted if e["channel"] == channel]
        assert told == list(range(20)), channel


async def test_a_receiver_that_hangs_on_one_channel_is_given_up_in_time_and_others_go_on(
    tmp_path: Path, receiver: Receiver
) -> None:
    hang = True
    quick = {("channel_occupied", f"c{n}") for n in range(10)}
    slow = ("channel_occupied", "slow")
    receiver.answer = lambda post: None if post.events[0]["channel"] == "slow" and hang else 200
    async with hooked(tmp_path, table(receiver, timeout=Duration(0.5))) as hooks:
        tell(hooks, Fact.OCCUPIED, "slow")
        for _, channel in sorted(quick):
            tell(hooks, Fact.OCCUPIED, channel)
        await receiver.until(lambda: quick <= set(names(receiver.accepted)))
        await receiver.until(lambda: [names(post.events) for post in receiver.posts].count([slow]) >= 2)
        errors = {notice.error for notice in waiting(str(tmp_path / DATABASE)) if "slow" in notice.channels}
        assert errors == {"no answer within 0.5 s"}
        assert slow not in names(receiver.accepted)
        hang = False
        await receiver.until(lambda: slow in names(receiver.accepted))


async def test_a_receiver_that_is_gone_and_comes_back_gets_all_in_order(tmp_path: Path) -> None:
    async with receiving() as receiver:
        port = receiver.port
    async with hooked(tmp_path, Webhook(url=receiver.url, events=tuple(Fact))) as hooks:
        for n in range(10):
            tell(hooks, Fact.COUNTED, count=n)
        with trio.fail_after(PATIENCE):
            while not (left := waiting(str(tmp_path / DATABASE))) or not left[0].attempts:
                await trio.testing.wait_all_tasks_blocked(0.01)
        assert "connect" in left[0].error.lower()
        async with receiving(port) as receiver:
            await receiver.accept(10)
            assert [e["subscription_count"] for e in receiver.accepted] == list(range(10))


@pytest.mark.parametrize("url", ["http://xn--/", f"http://{'a' * 70}/", "http://127.0.0.1:1/", "http://no.invalid/"])
async def test_a_url_that_leads_nowhere_is_a_failure_like_any_other(tmp_path: Path, url: str) -> None:
    async with hooked(tmp_path, Webhook(url=url)) as hooks:
        tell(hooks, Fact.OCCUPIED)
        with trio.fail_after(PATIENCE):
            while not (left := waiting(str(tmp_path / DATABASE))) or left[0].attempts < 2:
                await trio.testing.wait_all_tasks_blocked(0.01)
    assert left[0].error


async def test_what_waits_survives_a_kill_and_is_sent_by_the_next_daemon_in_order(
    tmp_path: Path, receiver: Receiver
) -> None:
    receiver.answer = lambda _: 503
    async with hooked(tmp_path, table(receiver)) as hooks:
        for n in range(10):
            tell(hooks, Fact.COUNTED, count=n)
        await receiver.until(lambda: len(receiver.posts) >= 3)
        killed = shutil.copytree(tmp_path, tmp_path / "killed")
    receiver.answer = lambda _: 200
    async with hooked(killed, table(receiver)):
        await receiver.accept(10)
    assert [e["subscription_count"] for e in receiver.accepted] == list(range(10))
    assert receiver.posts[0].body == receiver.posts[-10].body
    assert waiting(str(killed / DATABASE)) == []


async def test_what_was_noted_before_a_stop_is_sent_by_the_next_daemon(tmp_path: Path, receiver: Receiver) -> None:
    async with hooked(tmp_path, table(receiver, batch=10)) as hooks:
        tell(hooks, Fact.COUNTED, count=1)
        await receiver.accept(1)
        tell(hooks, Fact.COUNTED, count=2)
    async with hooked(tmp_path, table(receiver, batch=10)):
        await receiver.until(lambda: receiver.accepted[-1]["subscription_count"] == 2)


async def test_what_is_never_accepted_is_given_up_after_retry_for_and_that_is_on_record(
    tmp_path: Path, receiver: Receiver
) -> None:
    clock = [1_800_000_000.0]
    receiver.answer = lambda post: 200 if post.events[0]["subscription_count"] else 410
    async with hooked(tmp_path, table(receiver, retry_for=Duration(300)), now=lambda: clock[0]) as hooks:
        tell(hooks, Fact.COUNTED, count=0)
        tell(hooks, Fact.COUNTED, count=1)
        await receiver.until(lambda: len(receiver.posts) >= 3)
        assert receiver.accepted == []
        clock[0] += 299.0
        before = len(receiver.posts)
        await receiver.until(lambda: len(receiver.posts) >= before + 2)
        assert receiver.accepted == []
        clock[0] += 2.0
        await receiver.accept(1)
        await nothing_waits(tmp_path)
        [sender] = hooks.senders.values()
        assert (sender.accepted, sender.given_up, sender.refused) == (1, 1, len(receiver.posts) - 1)
    [record] = audit_record.read(str(tmp_path / DATABASE), kinds=("webhook_given_up",))
    assert (record.app, record.channel, record.count) == ("1", "c", 1)
    assert f"{receiver.url}: answered 410, {sender.refused} attempts" == record.detail
    assert waiting(str(tmp_path / DATABASE)) == []


async def test_what_is_old_after_a_long_stop_is_tried_once_before_it_is_given_up(
    tmp_path: Path, receiver: Receiver
) -> None:
    clock = [1_800_000_000.0]
    receiver.answer = lambda _: 500
    async with hooked(tmp_path, table(receiver), now=lambda: clock[0]) as hooks:
        tell(hooks, Fact.OCCUPIED)
        await receiver.until(lambda: len(receiver.posts) >= 1)
    clock[0] += 86_400.0
    receiver.answer = lambda _: 200
    async with hooked(tmp_path, table(receiver), now=lambda: clock[0]):
        await receiver.accept(1)


async def test_one_that_was_refused_for_days_is_tried_again_as_before(tmp_path: Path, receiver: Receiver) -> None:
    days = 3 * 86400.0
    refused = Notice(1, "1", receiver.url, ("c",), time.time() - days, attempts=5000)
    async with opened(tmp_path) as journal:
        await Outbox(journal).store([(refused, body(0.0, [event(Happening(Fact.COUNTED, "c", count=0))]))], (), ())
    receiver.answer = lambda post: 200 if len(receiver.posts) > 2 else 500
    async with hooked(tmp_path, table(receiver, retry_for=Duration(2 * days))):
        await receiver.accept(1)


async def test_past_its_bound_a_queue_takes_no_more_and_that_is_on_record(tmp_path: Path, receiver: Receiver) -> None:
    receiver.answer = lambda _: 503
    async with hooked(tmp_path, table(receiver, queue=3)) as hooks:
        for n in range(10):
            tell(hooks, Fact.COUNTED, count=n)
        await receiver.until(lambda: len(receiver.posts) >= 1)
        receiver.answer = lambda _: 200
        await receiver.accept(3)
        assert hooks.dropped == 7
    size = sum(len(body) for body in {post.body for post in receiver.posts})
    assert [e["subscription_count"] for e in receiver.accepted] == [0, 1, 2]
    [record] = audit_record.read(str(tmp_path / DATABASE), kinds=("webhook_given_up",))
    assert (record.count, record.detail) == (7, f"{receiver.url}: 3 POSTs of {size} bytes wait already")


async def test_the_bound_counts_bytes_too_also_those_that_an_earlier_daemon_left(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "MOST_BYTES", 1000)
    receiver.answer = lambda _: 503
    for _ in range(2):
        async with hooked(tmp_path, table(receiver)) as hooks:
            for n in range(40):
                tell(hooks, Fact.COUNTED, count=n)
            await receiver.until(lambda: len(receiver.posts) >= 1)
        sizes = [notice.size for notice in waiting(str(tmp_path / DATABASE))]
        assert sum(sizes[:-1]) < 1000 <= sum(sizes)


async def test_what_the_journal_cannot_store_is_stored_later(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "STORE_AGAIN", 0.01)
    failures = iter([True, True])
    store = Outbox.store

    async def fail(self: Outbox, *what: Any) -> None:
        if next(failures, False):
            raise JournalFailed("the disk is full")
        await store(self, *what)

    monkeypatch.setattr(Outbox, "store", fail)
    async with hooked(tmp_path, table(receiver)) as hooks:
        for n in range(3):
            tell(hooks, Fact.COUNTED, count=n)
        await receiver.accept(3)
    assert [e["subscription_count"] for e in receiver.accepted] == [0, 1, 2]


async def test_what_waits_for_a_url_that_the_config_lost_waits_a_day_in_case_it_comes_back(
    tmp_path: Path, receiver: Receiver
) -> None:
    clock = [1_800_000_000.0]
    receiver.answer = lambda _: 500
    async with hooked(tmp_path, table(receiver), now=lambda: clock[0]) as hooks:
        tell(hooks, Fact.COUNTED, count=1)
        await receiver.until(lambda: len(receiver.posts) >= 1)
    async with hooked(tmp_path, now=lambda: clock[0]):
        await trio.testing.wait_all_tasks_blocked()
    assert len(waiting(str(tmp_path / DATABASE))) == 1
    clock[0] += 86_401.0
    async with hooked(tmp_path, now=lambda: clock[0]):
        await nothing_waits(tmp_path)
    [record] = audit_record.read(str(tmp_path / DATABASE), kinds=("webhook_given_up",))
    assert "no webhook of the config has its url" in record.detail


async def test_a_great_storm_reaches_the_receiver_whole(tmp_path: Path, receiver: Receiver) -> None:
    receiver.answer = lambda _: 500 if len(receiver.posts) % 7 == 1 else 200
    async with hooked(tmp_path, table(receiver, batch=50)) as hooks:
        for n in range(3_000):
            tell(hooks, Fact.COUNTED, f"c{n % 30}", count=n)
        await receiver.accept(3_000)
    for channel in range(30):
        told = [e["subscription_count"] for e in receiver.accepted if e["channel"] == f"c{channel}"]
        assert told == list(range(channel, 3_000, 30))
    assert apsw.Connection(str(tmp_path / DATABASE)).execute("SELECT count(*) FROM outbox").get == 0
