"""Apps that are added while the daemon runs, as a provisioner of a test suite adds them, and ably-js on them."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.shell import sower
from tests.sdk.ably.world import connected, heard, ok, refused, world


async def test_an_app_is_provisioned_and_each_of_its_keys_does_what_its_capability_says(tmp_path: Path) -> None:
    async with world(tmp_path) as (daemon, script):
        capabilities = ('{"*":["*"]}', '{"canpublish:*":["publish"],"cansubscribe:*":["subscribe"]}')
        words = [word for capability in capabilities for word in ("--allow", capability)]
        first = json.loads((await sower(tmp_path, "app", "add", "--json", *words)).out)
        second = json.loads((await sower(tmp_path, "app", "add", "--json")).out)
        assert first["url"] == daemon.url
        _, everything, limited = (one["key"] for one in first["ably"])
        await connected(script, "all", key=everything, disconnectedRetryTimeout=200)
        await connected(script, "some", key=limited, disconnectedRetryTimeout=200)
        await connected(script, "other", key=second["ably"][0]["key"], disconnectedRetryTimeout=200)
        for client in ("all", "other"):
            await ok(script, "attach", client=client, channel="canpublish:room")
        sent = [{"name": "e", "data": "x"}]
        await ok(script, "publish", client="some", channel="canpublish:room", messages=sent)
        assert (await heard(script, "all", "canpublish:room"))["name"] == "e"
        assert script.told("message", client="other") == []
        assert await refused(script, "publish", client="some", channel="cansubscribe:room", messages=sent) == 40160
        await ok(script, "attach", client="some", channel="cansubscribe:room")
        assert await refused(script, "attach", client="some", channel="elsewhere") == 40160
        await ok(script, "rest", client="server", key=limited)
        got = await ok(script, "token", client="server", params={"clientId": "ada"})
        assert json.loads(got["capability"]) == json.loads(capabilities[1])
        assert await refused(script, "history", client="server", channel="canpublish:room") == 40160

        await daemon.stop()
        await daemon.start(keep_config=True)
        for client in ("all", "some", "other"):
            await script.hear("state", client=client, state="disconnected")
            await script.hear("state", client=client, state="connected")
        await sower(tmp_path, "app", "remove", first["id"])
        for client in ("all", "some"):
            gone = await script.hear("state", client=client, state="failed")
            assert gone["error"]["code"] == 40400
        await ok(script, "ping", client="other")
