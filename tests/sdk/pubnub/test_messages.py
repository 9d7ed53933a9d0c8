"""pubnub for JavaScript as it is, against a real daemon: publishing, subscribing, catching up, filters, history."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.pubnub.world import CONFIG, World, until, world

LOOPS = pytest.mark.parametrize("engine", [True, False], ids=["event engine", "legacy loop"])


@LOOPS
async def test_what_is_published_in_any_way_arrives_once_and_in_order(tmp_path: Path, engine: bool) -> None:
    sent: list[Any] = [{"a": [1, None, "é"]}, "a/b, c?d%20e+f&g=h", 12, True, "", ["x"], "😀 \\ \" '"]
    async with world(tmp_path, enableEventEngine=engine) as w:
        await w.make("ada", "bob")
        await w.subscribe("bob", "room one", "other:room")
        tokens: list[str] = []
        for number, message in enumerate(sent):
            if message == "":
                continue  # JavaScript's SDK refuses falsy ones itself
            how = [{}, {"sendByPost": True}, {"storeInHistory": False}][number % 3]
            tokens.append(await w.publish("ada", ["room one", "other:room"][number % 2], message, **how))
        assert tokens == sorted(tokens)
        assert await w.messages("bob", len(tokens)) == [message for message in sent if message != ""]
        assert w.sdk.told("crashed") == []


@LOOPS
async def test_an_event_says_who_when_what_for_and_what_kind(tmp_path: Path, engine: bool) -> None:
    async with world(tmp_path, enableEventEngine=engine) as w:
        await w.make("ada", "bob")
        await w.subscribe("bob", "room")
        token = await w.publish("ada", "room", {"n": 1}, meta={"region": "east"}, customMessageType="chat-line")
        event = await w.sdk.hear("message")
        assert (event["publisher"], event["channel"], event["timetoken"]) == ("ada", "room", token)
        assert event["userMetadata"] == {"region": "east"}
        assert event["customMessageType"] == "chat-line"
        await w.call("ada", "signal", {"channel": "room", "message": "typing"})
        assert (await w.sdk.hear("signal"))["signal"] == "typing"
        await w.call("ada", "fire", {"channel": "room", "message": "for functions only"})
        await w.publish("ada", "room", "last")
        assert (await w.sdk.hear("message"))["message"] == "last"
        assert await w.fetched("bob", "room") == [{"n": 1}, "last"]


@LOOPS
async def test_a_large_message_passes_in_the_path_and_a_larger_one_in_the_body(tmp_path: Path, engine: bool) -> None:
    async with world(tmp_path, enableEventEngine=engine) as w:
        await w.make("ada", "bob")
        await w.subscribe("bob", "room")
        await w.publish("ada", "room", "x" * 30_000)
        await w.publish("ada", "room", '"' * 30_000, sendByPost=True)
        assert await w.messages("bob", 2) == ["x" * 30_000, '"' * 30_000]
        failed = await w.fail("ada", "publish", {"channel": "room", "message": "y" * 40_000})
        assert failed["statusCode"] == 414
        failed = await w.fail("ada", "publish", {"channel": "room", "message": "y" * 70_000, "sendByPost": True})
        assert failed["statusCode"] == 413
        assert "Message Too Large" in failed["errorData"]


@LOOPS
async def test_a_client_that_was_away_gets_what_it_missed_from_the_journal_also_over_a_restart(
    tmp_path: Path, engine: bool
) -> None:
    async with world(tmp_path, enableEventEngine=engine) as w:
        await w.make("ada", "bob")
        first = await w.publish("ada", "room", "m-0")
        for channel, odd in (("room", 0), ("second", 1)):
            await w.sdk.do("burst", client="ada", channel=channel, count=125, word=str(odd))
            await w.sdk.hear("burst")
        await w.daemon.stop(signal.SIGKILL)
        await w.daemon.start()
        await w.subscribe("bob", "room", "second", timetoken=first)
        assert await w.messages("bob", 250) == [f"{odd}-{n}" for odd in (0, 1) for n in range(125)]
        await w.publish("ada", "room", "live")
        assert await w.messages("bob", 1) == ["live"]


async def polls_held(w: World) -> bool:
    return "sower_held_requests 1.0" in (await w.daemon.request("GET", "/metrics")).text


@LOOPS
async def test_a_client_is_not_stopped_by_a_restart_and_misses_nothing(tmp_path: Path, engine: bool) -> None:
    async with world(tmp_path, enableEventEngine=engine) as w:
        await w.make("ada", "bob")
        await w.subscribe("bob", "room")
        for how in (signal.SIGTERM, signal.SIGKILL):
            await w.publish("ada", "room", f"before {how.name}")
            assert await w.messages("bob", 1) == [f"before {how.name}"]
            # A request that a killed process was reading ends without an answer, and that stops the legacy loop.
            await until(lambda: polls_held(w))
            await w.daemon.stop(how)
            await w.daemon.start()
            await w.sdk.do("burst", client="ada", channel="room", count=3, word=how.name)
            await w.sdk.hear("burst")
            assert await w.messages("bob", 3) == [f"{how.name}-{n}" for n in range(3)]


@LOOPS
async def test_a_channel_without_history_loses_nothing_between_two_polls(tmp_path: Path, engine: bool) -> None:
    async with world(tmp_path, enableEventEngine=engine) as w:
        await w.make("ada", "bob")
        await w.subscribe("bob", "fleeting")
        await w.sdk.do("burst", client="ada", channel="fleeting", count=60, word="w")
        assert await w.messages("bob", 60) == [f"w-{n}" for n in range(60)]


@LOOPS
async def test_wildcards_and_groups_bring_their_channels_under_their_own_name(tmp_path: Path, engine: bool) -> None:
    async with world(tmp_path, enableEventEngine=engine) as w:
        await w.make("ada", "bob")
        add = {"channelGroup": "family", "channels": ["kitchen", "garden"]}
        await w.call("ada", "channelGroups.addChannels", add)
        assert (await w.call("ada", "channelGroups.listChannels", {"channelGroup": "family"}))["channels"] == add[
            "channels"
        ]
        await w.sdk.do("subscribe", client="bob", channels=["news.*"], channelGroups=["family"])
        await w.sdk.hear("status", client="bob", status="PNConnectedCategory")
        for channel in ("news.sport", "garden", "news.sport.tennis", "elsewhere"):
            await w.publish("ada", channel, channel)
        for channel, through in (("news.sport", "news.*"), ("garden", "family"), ("news.sport.tennis", "news.*")):
            event = await w.sdk.hear("message", client="bob")
            assert (event["channel"], event["subscription"]) == (channel, through)
        # a change acts on the poll that is held
        await w.call("ada", "channelGroups.addChannels", {"channelGroup": "family", "channels": ["attic"]})
        await w.publish("ada", "attic", "up here")
        assert (await w.sdk.hear("message", client="bob"))["message"] == "up here"
        await w.call("ada", "channelGroups.removeChannels", {"channelGroup": "family", "channels": ["attic", "garden"]})
        await w.publish("ada", "attic", "nobody hears")
        await w.publish("ada", "kitchen", "dinner")
        assert (await w.sdk.hear("message", client="bob"))["message"] == "dinner"
        await w.daemon.stop()
        await w.daemon.start()
        assert (await w.call("ada", "channelGroups.listChannels", {"channelGroup": "family"}))["channels"] == [
            "kitchen"
        ]
        await w.call("ada", "channelGroups.deleteGroup", {"channelGroup": "family"})
        assert (await w.call("ada", "channelGroups.listChannels", {"channelGroup": "family"}))["channels"] == []


@LOOPS
async def test_a_filter_lets_pass_what_it_says_and_the_cursor_goes_on(tmp_path: Path, engine: bool) -> None:
    async with world(tmp_path, enableEventEngine=engine) as w:
        await w.make("ada")
        await w.make("bob", filterExpression="meta.region == 'east' && data.n > 1")
        await w.subscribe("bob", "room")
        for number in range(4):
            for region in ("east", "west"):
                await w.publish("ada", "room", {"n": number, "from": region}, meta={"region": region})
        assert await w.messages("bob", 2) == [{"n": 2, "from": "east"}, {"n": 3, "from": "east"}]
        await w.make("cy", filterExpression="meta.region ==")
        await w.sdk.do("subscribe", client="cy", channels=["room"])
        assert (await w.sdk.hear("status", client="cy"))["status"] != "PNConnectedCategory"


async def test_history_is_paged_counted_and_deleted_as_the_vendor_says(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.make("ada")
        await w.make("boss", secretKey="sec-c-0123456789abcdef")
        tokens = [await w.publish("ada", "room", n, meta={"n": n} if n == 2 else None) for n in range(1, 8)]
        assert await w.fetched("ada", "room", count=3) == [5, 6, 7]
        assert await w.fetched("ada", "room", count=2, start=tokens[4]) == [3, 4]
        assert await w.fetched("ada", "room", end=tokens[4]) == [5, 6, 7]
        assert await w.fetched("ada", "room", start=tokens[4], end=tokens[1]) == [2, 3, 4]
        page = await w.call("ada", "fetchMessages", {"channels": ["room"], "includeMeta": True, "count": 6})
        item = page["channels"]["room"][0]
        assert (item["meta"], item["uuid"], item["timetoken"]) == ({"n": 2}, "ada", tokens[1])
        old = await w.call("ada", "history", {"channel": "room", "count": 3, "stringifiedTimeToken": True})
        assert [m["entry"] for m in old["messages"]] == [5, 6, 7]
        assert old["messages"][0]["timetoken"] == tokens[4]
        old = await w.call("ada", "history", {"channel": "room", "count": 2, "reverse": True, "start": tokens[1]})
        assert [m["entry"] for m in old["messages"]] == [3, 4]
        counts = {"channels": ["room", "empty"], "channelTimetokens": [tokens[4], tokens[0]]}
        assert (await w.call("ada", "messageCounts", counts))["channels"] == {"room": 2, "empty": 0}
        assert (await w.fail("ada", "deleteMessages", {"channel": "room"}))["statusCode"] == 403
        await w.call("boss", "deleteMessages", {"channel": "room", "start": tokens[3], "end": tokens[1]})
        assert await w.fetched("ada", "room") == [1, 4, 5, 6, 7]
        await w.call("boss", "deleteMessages", {"channel": "room"})
        assert await w.fetched("ada", "room") == []


async def test_a_last_event_that_was_deleted_greets_no_newcomer(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.make("boss", secretKey="sec-c-0123456789abcdef")
        await w.publish("boss", "cache-room", "secret")
        async with w.daemon.socket("cache-room") as early:
            await early.expect("welcome")
            assert await early.events(1) == ["secret"]
            await w.call("boss", "deleteMessages", {"channel": "cache-room"})
            async with w.daemon.socket("cache-room") as late:
                await late.expect("welcome")
                await w.publish("boss", "cache-room", "next")
                assert await late.events(1) == ["next"]


async def test_a_reaction_is_told_live_and_comes_with_the_history(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.make("ada", "bob")
        await w.subscribe("bob", "room")
        token = await w.publish("ada", "room", "hello")
        about = {"channel": "room", "messageTimetoken": token}
        added = await w.call("ada", "addMessageAction", {**about, "action": {"type": "reaction", "value": "smile"}})
        event = await w.sdk.hear("action")
        assert event["action"] == "added"
        assert event["data"] == {**added["data"], "uuid": "ada"}
        again = {**about, "action": {"type": "reaction", "value": "smile"}}
        assert (await w.fail("ada", "addMessageAction", again))["statusCode"] == 409
        page = await w.call("bob", "fetchMessages", {"channels": ["room"], "includeMessageActions": True})
        at = added["data"]["actionTimetoken"]
        assert page["channels"]["room"][0]["actions"] == {
            "reaction": {"smile": [{"uuid": "ada", "actionTimetoken": at}]}
        }
        assert len((await w.call("bob", "getMessageActions", {"channel": "room"}))["data"]) == 1
        await w.make("boss", secretKey="sec-c-0123456789abcdef")
        await w.call("boss", "removeMessageAction", {**about, "actionTimetoken": at})
        assert (await w.sdk.hear("action"))["action"] == "removed"
        assert (await w.call("bob", "getMessageActions", {"channel": "room"}))["data"] == []


async def test_reactions_count_among_what_a_key_publishes(tmp_path: Path) -> None:
    async with world(tmp_path, CONFIG + '[limits]\npublishes = "1/m burst 3"\n') as w:
        await w.make("ada")
        said = await w.publish("ada", "room", "cake?")
        action = {"channel": "room", "messageTimetoken": said, "action": {"type": "reaction", "value": "yes"}}
        await w.call("ada", "addMessageAction", action)
        await w.publish("ada", "room", "tea?")
        failed = await w.fail("ada", "addMessageAction", {**action, "action": {"type": "reaction", "value": "no"}})
        assert failed["statusCode"] == 429


async def test_what_is_declined_fails_at_once(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.make("ada")
        for method, args in (
            ("listFiles", {"channel": "room"}),
            ("objects.getAllChannelMetadata", {}),
            ("push.listChannels", {"device": "d", "pushGateway": "gcm"}),
        ):
            assert (await w.fail("ada", method, args))["statusCode"] == 404
