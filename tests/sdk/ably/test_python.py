"""ably-python in both formats: what the other files show with ably-js alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sdk.ably.world import LIMITED_KEY, connected, heard, ok, refused, world

WIRES = pytest.mark.parametrize("wire", ["json", "msgpack"])


@WIRES
async def test_its_rest_client_publishes_and_pages_through_history_in_both_directions(
    tmp_path: Path, wire: str
) -> None:
    async with world(tmp_path, wire, sdk="sdk.py") as (_, script):
        await ok(script, "rest", client="server", clientId="ada")
        values = ["text", {"a": [1, None]}, {"bytes": "AAH/"}, ["x"], "last"]
        for n, value in enumerate(values):
            sent = [{"name": str(n), "data": value}]
            await ok(script, "publish", client="server", channel="a room/of:one", messages=sent)

        async def read(**params: object) -> list[list[str]]:
            pages = await ok(script, "history", client="server", channel="a room/of:one", params=params)
            return [[item["name"] for item in page] for page in pages]

        assert await read(limit=2) == [["4", "3"], ["2", "1"], ["0"]]
        assert await read(limit=2, direction="forwards") == [["0", "1"], ["2", "3"], ["4"]]
        [page] = await ok(script, "history", client="server", channel="a room/of:one", params={"direction": "forwards"})
        assert [(item["data"], item["user"]) for item in page] == [(value, "ada") for value in values]


@WIRES
async def test_it_rewinds_attaches_with_modes_hears_no_echo_and_is_held_to_its_key(tmp_path: Path, wire: str) -> None:
    async with world(tmp_path, wire, sdk="sdk.py") as (_, script):
        await connected(script, "ada", clientId="ada", transport_params={"echo": "false"})
        await ok(script, "attach", client="ada", channel="chat")
        for n in range(4):
            await ok(script, "publish", client="ada", channel="chat", messages=[{"name": str(n)}])
        await connected(script, "late", key=LIMITED_KEY)
        options = {"params": {"rewind": "2"}, "modes": ["subscribe"]}
        assert (await ok(script, "attach", client="late", channel="chat", options=options))["params"] == {"rewind": "2"}
        assert [(await heard(script, "late", "chat"))["name"] for _ in range(2)] == ["2", "3"]
        assert await refused(script, "publish", client="late", channel="chat", messages=[{"name": "x"}]) == 40165
        assert await refused(script, "publish", client="late", channel="news:a", messages=[{"name": "x"}]) == 40160
        await ok(script, "detach", client="late", channel="chat")
        await ok(script, "attach", client="late", channel="chat")
        await connected(script, "bob", clientId="bob")
        await ok(script, "publish", client="bob", channel="chat", messages=[{"name": "bob"}])
        assert (await heard(script, "ada", "chat"))["name"] == "bob", "and none of its own before it"


@WIRES
async def test_it_enters_for_many_reads_them_live_and_over_rest_and_their_history_is_kept(
    tmp_path: Path, wire: str
) -> None:
    async with world(tmp_path, wire, sdk="sdk.py") as (_, script):
        await connected(script, "gate", clientId=None)
        await ok(script, "attach", client="gate", channel="room")
        users = [f"user-{n}" for n in range(5)]
        for user in users:
            await ok(script, "enter", client="gate", channel="room", user=user, data={"of": user})
        await connected(script, "bob", clientId="bob")
        await ok(script, "attach", client="bob", channel="room")
        seen = await ok(script, "members", client="bob", channel="room")
        assert sorted(m["user"] for m in seen) == users
        await ok(script, "rest", client="server")
        read = await ok(script, "members", client="server", channel="room")
        assert sorted((m["user"], m["data"]["of"]) for m in read) == [(user, user) for user in users]
        asked = {"limit": 2, "direction": "forwards"}
        pages = await ok(script, "presence_history", client="server", channel="room", params=asked)
        assert [[m["user"] for m in page] for page in pages] == [users[:2], users[2:4], users[4:]]
