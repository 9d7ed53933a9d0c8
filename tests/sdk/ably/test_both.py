"""What sower-ably(7) says of running both sides for a week, with a second daemon in the vendor's place."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.daemon import running
from tests.sdk.ably.world import APP, RULES, connected, heard, ok, world


async def test_servers_publish_to_both_clients_move_one_by_one_and_the_old_side_ends_empty(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    async with running(tmp_path / "old", APP + RULES) as old, world(tmp_path / "new") as (_, script):
        await ok(script, "rest", client="to old", port=old.port)
        await ok(script, "rest", client="to new")
        for client, where in (("moves", {"port": old.port}), ("stays", {"port": old.port}), ("hears both", {})):
            await connected(script, client, clientId=client, **where)
            await ok(script, "attach", client=client, channel="room")
        await connected(script, "hears old", port=old.port)
        await ok(script, "attach", client="hears old", channel="room")
        await ok(script, "enter", client="moves", channel="room")

        async def publish(message_id: str) -> None:
            for server in ("to old", "to new"):
                sent = [{"id": message_id, "name": "e"}]
                await ok(script, "publish", client=server, channel="room", messages=sent)

        async def there(server: str, of: str) -> int:
            status = await ok(script, "status", client=server, channel="room")
            return status["status"]["occupancy"]["metrics"][of]

        await publish("one")
        ids = {(await heard(script, client, "room"))["id"] for client in ("hears both", "hears old", "moves", "stays")}
        assert ids == {"one"}, "by its id a client that listens to both tells which it has"

        await script.do("close", client="moves")
        await connected(script, "moved", clientId="moves")
        await ok(script, "attach", client="moved", channel="room")
        await ok(script, "enter", client="moved", channel="room")
        await publish("two")
        for client in ("moved", "stays"):
            assert (await heard(script, client, "room"))["id"] == "two", "wherever it is"
        (kept,) = await ok(script, "history", client="moved", channel="room")
        assert [message["id"] for message in kept] == ["two", "one"], "each side has it all"
        assert [await there(server, "presenceMembers") for server in ("to old", "to new")] == [0, 1]

        for client in ("stays", "hears old"):
            await script.do("close", client=client)
            await script.hear("state", client=client, state="closed")
        while await there("to old", "connections"):
            pass
        await ok(script, "publish", client="to new", channel="room", messages=[{"id": "three", "name": "e"}])
        for expected in ("two", "three"):
            assert (await heard(script, "hears both", "room"))["id"] == expected
