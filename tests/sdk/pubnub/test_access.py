"""pubnub for JavaScript as it is: tokens, revocation, signatures, and how refusals reach the SDK."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sdk.pubnub.world import SIGNING, world

SECRET = SIGNING["secretKey"]
LOOPS = pytest.mark.parametrize("engine", [True, False], ids=["event engine", "legacy loop"])


def allowing(channel: str, **more: object) -> dict[str, object]:
    return {"ttl": 15, "resources": {"channels": {channel: {"read": True, "write": True}}}, **more}


@LOOPS
async def test_a_token_opens_what_it_names_and_nothing_else(tmp_path: Path, engine: bool) -> None:
    async with world(tmp_path, enableEventEngine=engine) as w:
        await w.make("boss", secretKey=SECRET)
        await w.make("ada")
        assert (await w.fail("ada", "publish", {"channel": "private-a", "message": 1}))["statusCode"] == 403
        token = await w.call("boss", "grantToken", {**allowing("private-a", authorized_uuid="ada"), "meta": {"n": 1}})
        await w.sdk.do("parse", client="ada", token=token)
        parsed = (await w.sdk.hear("parsed"))["parsed"]
        assert parsed["authorized_uuid"] == "ada"
        assert parsed["resources"]["channels"]["private-a"]["read"] is True
        await w.sdk.do("token", client="ada", token=token)
        await w.subscribe("ada", "private-a")
        await w.publish("ada", "private-a", "in")
        assert await w.messages("ada", 1) == ["in"]
        # a token limits its bearer where the channel is open to others
        failed = await w.fail("ada", "publish", {"channel": "room", "message": 1})
        assert failed["category"] == "PNAccessDeniedCategory"
        failed = await w.fail("ada", "fetchMessages", {"channels": ["private-a", "private-b"]})
        assert failed["errorData"]["payload"]["channels"] == ["private-b"]
        # and is for the user that it names
        await w.make("mallory")
        await w.sdk.do("token", client="mallory", token=token)
        assert (await w.fail("mallory", "publish", {"channel": "private-a", "message": 1}))["statusCode"] == 403


async def test_patterns_groups_and_presence_are_granted_by_name(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.make("boss", secretKey=SECRET)
        await w.make("ada", "bob")
        resources = {"groups": {"all": {"read": True}}}
        patterns = {"channels": {"^private-[a-c]$": {"read": True}}}
        token = await w.call("boss", "grantToken", {"ttl": 1, "resources": resources, "patterns": patterns})
        await w.call("boss", "channelGroups.addChannels", {"channelGroup": "all", "channels": ["private-z"]})
        for client in ("ada", "bob"):
            await w.sdk.do("token", client=client, token=token)
        await w.sdk.do("subscribe", client="ada", channels=["private-b"], channelGroups=["all"])
        await w.sdk.hear("status", client="ada", status="PNConnectedCategory")
        for channel in ("private-b", "private-z"):
            await w.publish("boss", channel, channel)
        assert sorted(await w.messages("ada", 2)) == ["private-b", "private-z"]
        assert (await w.fail("bob", "channelGroups.addChannels", {"channelGroup": "all", "channels": ["x"]}))[
            "statusCode"
        ] == 403
        await w.sdk.do("subscribe", client="bob", channels=["private-d"])
        assert (await w.sdk.hear("status", client="bob"))["status"] != "PNConnectedCategory"
        failed = await w.fail("bob", "hereNow", {"channels": ["private-a-pnpres"]})
        assert failed["statusCode"] == 403


async def test_nobody_reaches_a_private_channel_through_a_group_or_a_wildcard(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.make("boss", secretKey=SECRET)
        await w.make("eve")
        add = {"channelGroup": "mine", "channels": ["private-x.y"]}
        assert (await w.fail("eve", "channelGroups.addChannels", add))["statusCode"] == 403
        await w.call("boss", "channelGroups.addChannels", {"channelGroup": "mine", "channels": ["private-x.y", "room"]})
        await w.sdk.do("subscribe", client="eve", channels=["private-x.*"], channelGroups=["mine"])
        await w.sdk.hear("status", client="eve", status="PNConnectedCategory")
        await w.publish("boss", "private-x.y", "secret")
        await w.publish("boss", "room", "open")
        assert await w.messages("eve", 1) == ["open"]
        assert w.sdk.told("message", client="eve") == []
        found = await w.call("boss", "hereNow", {"channelGroups": ["mine"]})
        assert list(found["channels"]) == ["room"]


async def test_a_token_for_a_group_alone_manages_it(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.make("boss", secretKey=SECRET)
        await w.make("ada")
        token = await w.call("boss", "grantToken", {"ttl": 1, "resources": {"groups": {"family": {"manage": True}}}})
        await w.sdk.do("token", client="ada", token=token)
        await w.call("ada", "channelGroups.addChannels", {"channelGroup": "family", "channels": ["home"]})
        assert (await w.call("boss", "channelGroups.listChannels", {"channelGroup": "family"}))["channels"] == ["home"]


async def test_a_revoked_token_is_refused_also_after_a_restart(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.make("boss", secretKey=SECRET)
        await w.make("ada")
        token = await w.call("boss", "grantToken", allowing("private-a"))
        await w.sdk.do("token", client="ada", token=token)
        await w.publish("ada", "private-a", 1)
        assert (await w.fail("ada", "revokeToken", token))["message"]
        await w.call("boss", "revokeToken", token)
        for _ in range(2):
            failed = await w.fail("ada", "publish", {"channel": "private-a", "message": 2})
            assert (failed["statusCode"], failed["errorData"]["message"]) == (403, "Token is revoked")
            await w.daemon.stop()
            await w.daemon.start()
        assert (await w.fail("boss", "revokeToken", "qEF2AkF0"))["statusCode"] in (400, 403)


async def test_who_listens_with_a_token_that_is_revoked_hears_nothing_more(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.make("boss", secretKey=SECRET)
        await w.make("ada")
        token = await w.call("boss", "grantToken", allowing("private-a"))
        await w.sdk.do("token", client="ada", token=token)
        await w.subscribe("ada", "private-a")
        await w.publish("boss", "private-a", "heard")
        assert await w.messages("ada", 1) == ["heard"]
        await w.call("boss", "revokeToken", token)
        await w.publish("boss", "private-a", "secret")
        await w.sdk.hear("status", client="ada", status="PNDisconnectedUnexpectedlyCategory")
        assert w.sdk.told("message", client="ada") == []


async def test_every_call_of_a_client_that_signs_is_believed_and_a_wrong_secret_never(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.make("boss", secretKey=SECRET)
        await w.make("thief", secretKey="not-the-secret-0123456")
        odd = "private-ü ~!'()"
        said = await w.publish("boss", odd, "look")
        calls: list[tuple[str, dict[str, object]]] = [
            ("publish", {"channel": odd, "message": {"a": "é/?&=+ !*'()~"}, "meta": {"k": "v w"}}),
            ("publish", {"channel": odd, "message": {"a": "é/?&=+ !*'()~"}, "sendByPost": True}),
            ("signal", {"channel": odd, "message": "s"}),
            ("fetchMessages", {"channels": [odd, "private-b"]}),
            ("history", {"channel": odd}),
            ("messageCounts", {"channels": [odd], "channelTimetokens": ["1"]}),
            ("hereNow", {"channels": [odd]}),
            ("whereNow", {"uuid": "boss"}),
            ("setState", {"channels": [odd], "state": {"a": "b c&d"}}),
            ("getState", {"channels": [odd]}),
            ("channelGroups.addChannels", {"channelGroup": "g", "channels": ["a", "b"]}),
            ("channelGroups.listChannels", {"channelGroup": "g"}),
            ("grantToken", allowing("x")),
            (
                "addMessageAction",
                {"channel": odd, "messageTimetoken": said, "action": {"type": "t", "value": "é"}},
            ),
            ("deleteMessages", {"channel": odd}),
        ]
        for method, args in calls:
            await w.call("boss", method, args)
            failed = await w.fail("thief", method, args)
            assert failed["statusCode"] == 403, (method, failed)
        await w.subscribe("boss", "private-a", "private-b")


async def test_a_wrong_key_and_a_wrong_grant_are_told_as_the_vendor_tells_them(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.make("lost", publishKey="pub-other")
        failed = await w.fail("lost", "publish", {"channel": "room", "message": 1})
        assert (failed["statusCode"], failed["errorData"]) == (400, "Invalid Key")
        await w.make("nowhere", subscribeKey="sub-other")
        assert (await w.fail("nowhere", "hereNow", {"channels": ["a"]}))["statusCode"] == 400
        await w.sdk.do("subscribe", client="nowhere", channels=["room"])
        assert (await w.sdk.hear("status", client="nowhere"))["status"] != "PNConnectedCategory"
        await w.make("boss", secretKey=SECRET)
        failed = await w.fail("boss", "grantToken", {**allowing("x"), "ttl": 50_000})
        assert failed["statusCode"] == 400
        assert "Range should be 1 to 43200" in str(failed)
        bad = {"ttl": 1, "patterns": {"channels": {"(": {"read": True}}}}
        assert "no regular expression" in str(await w.fail("boss", "grantToken", bad))
