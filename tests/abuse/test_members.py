"""A channel that is flooded with members, as many as one connection cares to name."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import trio

from tests.abuse.credentials import ABLY
from tests.e2e.daemon import CONFIG, SECRET, running
from tests.e2e.followers import Follower, Socket
from tests.scenarios.leaks import memory
from tests.scenarios.stage import Server, token

MEMBERS, A_FRAME = 10_000, 100
HELD_UP = 10.0
"""Seconds in which a neighbour hears what is said to it, on a machine with much else to do."""

GROWTH = 32 * 1024 * 1024
"""Bytes that 10,000 members may cost, 3 KiB each, while they are there and everybody is told of them."""

ROOM = '[limits]\nframes = "100000/s burst 200000"\n'
"""By default one connection enters for 100 users a second, so this would take 100 s, or 100 connections."""

LIMITS = '[apps.ably]\npublishes = "100000/s burst 200000"\n'


async def test_a_channel_flooded_with_10000_members_takes_no_more_and_its_neighbours_go_on(tmp_path: Path) -> None:
    config = ROOM + CONFIG.replace("[[channels]]", LIMITS + "\n[[channels]]", 1)
    async with running(tmp_path, config) as daemon:
        assert daemon.process is not None
        neighbour, server, name = Follower(daemon.port, "room"), Server(daemon.port), "presence-crowd"
        await neighbour.connect()
        before = memory(daemon.process.pid)
        crowd = Socket(daemon.port)
        await crowd.open(f"/?key={quote(f'{ABLY}:{SECRET}')}&v=6&format=json")
        await crowd.hear()
        await crowd.say({"action": 10, "channel": name, "flags": 1 << 16})
        while (await crowd.hear())["action"] != 11:
            pass
        outcome: list[int] = []
        with trio.fail_after(240):
            for number in range(MEMBERS // A_FRAME + 2):
                entering = [
                    {"action": 2, "clientId": f"member-{number * A_FRAME + n}", "data": "x"} for n in range(A_FRAME)
                ]
                await crowd.say({"action": 14, "channel": name, "msgSerial": number, "presence": entering})
                while (answer := await crowd.hear())["action"] not in (1, 2):
                    pass
                outcome.append(answer["action"])
                if number % 20 == 0:
                    with trio.fail_after(HELD_UP):
                        await server.publish("room", number)
                        await neighbour.until(number // 20 + 1)
            assert outcome == [1] * (MEMBERS // A_FRAME) + [2, 2], "ACK while there is room, and NACK from then on"
            status, body = await server.ask("GET", f"/presence/{name}")
            assert status == 200
            assert body.count(b'"user"') == MEMBERS
            witness = Follower(daemon.port, name, f"&token={token(name, 'witness', 'subscribe')}")
            assert len((await witness.connect())["members"]) == MEMBERS
            during = memory(daemon.process.pid)
            assert during - before < GROWTH, f"{(during - before) / 2**20:.1f} MiB"
            await crowd.say({"action": 7})
            gone = 0
            while gone < MEMBERS:
                gone += (await witness.hear())["type"] == "leave"
            status, body = await server.ask("GET", f"/presence/{name}")
            assert body.count(b'"user"') == 0
        await server.publish("room", "after")
        await server.close()
