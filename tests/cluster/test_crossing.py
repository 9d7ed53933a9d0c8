"""The four protocols' clients on one channel, each on another node: one order, each message once, the same members."""

from __future__ import annotations

from pathlib import Path

from tests.cluster.conftest import Redis, cluster
from tests.sdk.crossing.test_crossing import CONFIG, EVERYBODY, agree, all_heard, clients_of, history

EACH = 50


async def test_four_protocols_on_four_nodes_are_one_channel(tmp_path: Path, redis: Redis) -> None:
    async with cluster(tmp_path, redis, 4, config=CONFIG) as nodes, clients_of(nodes) as sdk:
        await agree(sdk, *EVERYBODY)
        await sdk.do("say", count=EACH)
        await sdk.hear("said")
        heard = await all_heard(sdk, *EVERYBODY, count=4 * EACH)
        kept = [await history(node) for node in nodes]
        assert kept[0] == kept[1] == kept[2] == kept[3]
        assert set(kept[0]) == {f"{who}-{n}" for who in EVERYBODY for n in range(EACH)}
        assert len(kept[0]) == 4 * EACH
        for who in EVERYBODY:
            assert heard[who] == kept[0], who
        await sdk.do("leave", who="pusher")
        await sdk.hear("left")
        await agree(sdk, "ably", "native", "pubnub")
