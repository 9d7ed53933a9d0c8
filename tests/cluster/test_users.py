"""Users and their connections over all nodes: who is signed in, who is told so, and whom a server ends."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import trio

from sower.cluster.users import ClusterUsers
from sower.core.answer import Watched
from tests.abuse.credentials import asking_for_a_token, request_token
from tests.cluster.conftest import Redis, cluster, made
from tests.cluster.test_model import node_of
from tests.cluster.test_workers import until
from tests.e2e.daemon import KEY, SECRET, Daemon
from tests.sdk.ably.test_auth import token as ably_token
from tests.sdk.ably.world import ABLY_KEY, ok
from tests.sdk.ably.world import HERE as ABLY
from tests.sdk.ably.world import connected as ably_connected
from tests.sdk.pusher.test_users import sign_in
from tests.sdk.pusher.world import HERE as PUSHER
from tests.sdk.script import Script
from tests.sdk.script import running as script

CONFIG = f"""
[[apps]]
id = "1001"
key = "{KEY}"
secret = "{SECRET}"

[apps.ably]
key = "{ABLY_KEY}"
"""


@asynccontextmanager
async def scripts(path: Path, daemons: list[Daemon], *words: str) -> AsyncIterator[list[Script]]:
    """One process with an SDK for each daemon."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(script(path, str(daemon.port), *words)) for daemon in daemons]


async def until_known_to_each_other(nodes: list[Daemon]) -> None:
    """Each node sees at its next heartbeat that another has come."""
    for there in nodes:
        async with there.socket("open-there") as client:
            await client.expect("welcome")

            async def seen() -> bool:
                answers = [await node.request("GET", "/channels") for node in nodes]
                return all("open-there" in answer.text for answer in answers)

            await until(seen)


async def test_a_watchlist_tells_of_users_on_all_nodes(tmp_path: Path, redis: Redis) -> None:
    async with cluster(tmp_path, redis, 3, CONFIG, prefix="watching") as nodes:
        async with scripts(PUSHER / "sdk.cjs", nodes, KEY, SECRET) as (one, two, three):
            await sign_in(two, "bob", id="bob")

            async def known() -> bool:
                boards = redis.command("KEYS", "watching:*signed_in*").splitlines()
                return any(redis.command("HEXISTS", board, "bob") == "1" for board in boards)

            await until(known)
            await until_known_to_each_other(nodes)
            await sign_in(one, "ada", id="ada", watchlist=["bob", "cy"])
            assert (await one.hear("watched", client="ada", watched="online"))["user_ids"] == ["bob"]
            assert (await one.hear("watched", client="ada", watched="offline"))["user_ids"] == ["cy"]
            await sign_in(two, "cy", id="cy")
            assert (await one.hear("watched", client="ada", watched="online"))["user_ids"] == ["cy"]
            await sign_in(three, "cy2", id="cy")
            await sign_in(one, "cy3", id="cy")
            await two.do("disconnect", client="cy")
            await one.do("disconnect", client="cy3")
            await two.do("disconnect", client="bob")
            assert (await one.hear("watched", client="ada"))["user_ids"] == ["bob"], "cy is on another node too"
            began = trio.current_time()
            await nodes[2].stop(signal.SIGKILL)
            assert (await one.hear("watched", client="ada", watched="offline"))["user_ids"] == ["cy"]
            assert trio.current_time() - began < 15  # the lease of 2 s and a look each second, when it is quiet


async def test_a_server_reaches_and_ends_a_user_on_whatever_nodes_it_is(tmp_path: Path, redis: Redis) -> None:
    async with cluster(tmp_path, redis, 2, CONFIG) as nodes:
        async with scripts(PUSHER / "sdk.cjs", nodes, KEY, SECRET) as (one, two):
            for sdk, client, user in ((one, "tab1", "ada"), (two, "tab2", "ada"), (two, "bob", "bob")):
                await sign_in(sdk, client, id=user)
            for user in ("bob", "ada"):
                await one.do("server", call="sendToUser", args=[user, "note", {"for": user}])
                assert (await one.hear("server"))["body"] == {}
            for sdk, client in ((one, "tab1"), (two, "tab2")):
                assert (await sdk.hear("of_user", client=client, of_user="note"))["data"] == {"for": "ada"}
            assert (await two.hear("of_user", client="bob", of_user="note"))["data"] == {"for": "bob"}
            await one.do("server", call="terminateUserConnections", args=["ada"])
            assert (await one.hear("server"))["body"] == {}
            for sdk, client in ((one, "tab1"), (two, "tab2")):
                assert (await sdk.hear("error", client=client))["error"]["code"] == 4009
                await sdk.hear("state", client=client, state="disconnected")
            await one.do("server", call="sendToUser", args=["bob", "note", {"still": "there"}])
            assert (await two.hear("of_user", client="bob", of_user="note"))["data"] == {"still": "there"}


async def test_a_session_is_ended_by_whatever_node_is_asked(nodes: list[Daemon]) -> None:
    one, two, three = nodes
    async with two.socket("open-kicked") as client, two.socket("open-kicked") as other:
        session = (await client.expect("welcome"))["session"]
        await other.expect("welcome")
        assert (await one.request("DELETE", f"/sessions/{session}")).status_code == 200
        assert (await client.closing())[1] == "kicked"
        assert (await three.request("DELETE", f"/sessions/{session}")).status_code == 404
        await one.publish("open-kicked", 1)
        assert await other.events(1) == [1]


async def refusal(daemon: Daemon, token: str) -> int:
    """Ably's code for who shows this token, 200 where it is good."""
    path = "/channels/room/presence"
    answer = await daemon.request("GET", path, auth=False, params={"access_token": token})
    return answer.json()["error"]["code"] if answer.status_code != 200 else 200


async def test_a_revoked_token_is_none_on_all_nodes_on_later_ones_and_where_redis_lost_it(
    tmp_path: Path, redis: Redis
) -> None:
    later = tmp_path / "later"
    later.mkdir()
    async with cluster(tmp_path, redis, 2, CONFIG, prefix="revoking") as nodes:
        async with scripts(ABLY / "sdk.cjs", nodes, ABLY_KEY, "json") as (one, two):
            theirs = ably_token(**{"x-ably-clientId": "ada", "x-ably-revocation-key": "team"})
            await ably_connected(two, "ada", token=theirs)
            await ok(one, "rest", client="server")
            await ok(one, "revoke", client="server", specifiers=[{"type": "revocationKey", "value": "team"}])
            assert (await two.hear("state", client="ada", state="failed"))["error"]["code"] in (40141, 40171)
            assert [await refusal(node, theirs) for node in nodes] == [40141, 40141]
        third, fourth = made(later, redis, 2, CONFIG, "2s", "revoking")
        try:
            await third.start()
            assert await refusal(third, theirs) == 40141
            redis.command("FLUSHALL")
            await trio.sleep(1.5)  # at least once a second it is seen that Redis lost its data
            await fourth.start()
            assert await refusal(fourth, theirs) == 40141
        finally:
            for daemon in (third, fourth):
                if daemon.alive:
                    await daemon.stop(signal.SIGKILL)


class Watcher:
    """A socket that watches."""

    grant = SimpleNamespace(app="1")

    def __init__(self) -> None:
        self.told: list[str] = []

    def tell(self, word: Watched) -> None:
        self.told += word.offline


async def test_a_signed_request_that_one_node_took_is_used_up_on_all(nodes: list[Daemon]) -> None:
    request = request_token()
    assert (await asking_for_a_token(nodes[0], request)).startswith("201 ")
    again = await asking_for_a_token(nodes[1], request)
    assert again.startswith("401 ")
    assert "40105" in again
    assert (await asking_for_a_token(nodes[1], request_token())).startswith("201 ")
    records: list[object] = []

    async def both_are_recorded() -> bool:
        records[:] = (await nodes[1].request("GET", "/audit?kind=token_minted")).json()["records"]
        return len(records) >= 2

    await until(both_are_recorded)
    assert len(records) == 2, "what was refused was not made"


async def test_who_is_watched_no_more_is_passed_over_while_others_are_looked_up(redis: Redis) -> None:
    async with node_of(redis, "watch"), node_of(redis, "watch") as node, trio.open_nursery() as nursery:
        users, ada, bob = ClusterUsers(node), Watcher(), Watcher()
        nursery.start_soon(users.run)
        users.came(ada, SimpleNamespace(user="ada", watchlist=("cy", "dan")))
        for _ in range(3):
            await trio.lowlevel.checkpoint()  # and now Redis is asked for the first
        users.went(ada)
        users.came(bob, SimpleNamespace(user="bob", watchlist=("eve",)))
        with trio.fail_after(5.0):
            while not bob.told:  # noqa: ASYNC110 - a socket has no event
                await trio.sleep(0.005)
        assert bob.told == ["eve"]
        nursery.cancel_scope.cancel()
