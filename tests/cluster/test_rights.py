"""What Redis lets in, and what `sower doctor` says of it: TLS, a user with few rights, settings that lose messages."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.certificates import make_certificate
from tests.cluster.conftest import Redis, cluster, made, redis_cluster, servers
from tests.cluster.test_faults import publish
from tests.e2e.daemon import CONFIG, Daemon

MANUAL = Path(__file__).parents[2] / "man" / "sower-cluster.7"

USER, PASSWORD = "sower", "pass%word"


async def doctor(node: Daemon) -> dict[str, tuple[str, str, str]]:
    """What it says of Redis: state, text and remedy, by name and number."""
    run = [sys.executable, "-m", "sower", "doctor", "--json", "--config", str(node.config)]
    answer = await trio.run_process(run, capture_stdout=True, check=False, env=None)
    found = [f for f in json.loads(answer.stdout) if f["name"].startswith("redis")]
    return {f"{f['name']} {number}": (f["state"], f["text"], f["remedy"]) for number, f in enumerate(found)}


def rights_of_the_manual(prefix: str) -> list[str]:
    """The rules that it tells for ACL SETUSER."""
    line = next(line for line in MANUAL.read_text().splitlines() if line.startswith("ACL SETUSER"))
    return line.replace("\\-", "-").replace("sower:*", f"{prefix}:*").replace(">PASSWORD", f">{PASSWORD}").split()[3:]


class Guarded(Redis):
    """A Redis with one user besides its own."""

    @property
    def url(self) -> str:
        return f"redis://{USER}:{PASSWORD.replace('%', '%25')}@127.0.0.1:{self.port}/0"


async def test_a_user_with_the_rights_that_the_manual_names_is_enough(tmp_path: Path) -> None:
    server = Guarded(tmp_path)
    with servers(server):
        server.start()
        assert server.command("ACL", "SETUSER", USER, *rights_of_the_manual("mine")) == "OK"
        async with cluster(tmp_path, server, prefix="mine") as (one, two), two.socket("kept-news") as client:
            await client.expect("welcome")
            await one.publish("kept-news", 1, id="a")
            assert await client.events(1) == [1]
            assert (await two.request("GET", "/history/kept-news")).json()["events"]
            assert server.command("ACL", "LOG") == ""
            said = await doctor(one)
            assert {state for state, _, _ in said.values()} <= {"good", "unsure"}, said
            server.command("ACL", "SETUSER", USER, "-subscribe")
            state, text, remedy = list((await doctor(one)).values())[-1]
            assert (state, "permission" in text, "ACL SETUSER" in remedy) == ("bad", True, True), text


class Encrypted(Redis):
    """A Redis that speaks TLS alone."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.certificate, self._key = make_certificate(folder)

    @property
    def url(self) -> str:
        return f"rediss://localhost:{self.port}/0"

    def options(self, *more: str) -> tuple[str, ...]:
        return super().options(
            "--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no",
            "--tls-cert-file", str(self.certificate), "--tls-key-file", str(self._key),
            "--tls-ca-cert-file", str(self.certificate), *more,
        )  # fmt: skip

    def command(self, *words: str) -> str:
        return super().command("--tls", "--cacert", str(self.certificate), *words)


async def test_daemons_share_a_redis_over_tls_whose_certificate_is_checked(tmp_path: Path) -> None:
    server = Encrypted(tmp_path)
    with servers(server):
        server.start()
        (daemon,) = made(tmp_path, server, 1, CONFIG, "2s", "tls")
        with pytest.raises(AssertionError, match="Redis cannot be reached"):
            await daemon.start()
        daemon.environment = {"SSL_CERT_FILE": str(server.certificate)}
        await daemon.start()
        try:
            async with daemon.socket("kept-news") as client:
                await client.expect("welcome")
                await daemon.publish("kept-news", 1)
                assert await client.events(1) == [1]
        finally:
            await daemon.stop()


async def test_replicas_that_are_asked_for_and_missing_refuse_publishes(tmp_path: Path, redis: Redis) -> None:
    async with cluster(tmp_path, redis, 1, more="replicas = 1\n") as (one,):
        refused = (await publish(one, "kept-news", 1)).json()["error"]
        assert (refused["code"], refused["retry"]) == ("cluster_failed", True)
        assert "cluster.replicas asks for 1" in refused["message"]
        state, text, _ = (await doctor(one))["redis 3"]
        assert (state, text) == ("bad", "0 replicas are connected, cluster.replicas is 1")


async def test_doctor_says_what_to_change_in_a_redis_that_forgets(tmp_path: Path) -> None:
    server = Redis(tmp_path)
    with servers(server):
        server.start("--maxmemory-policy", "allkeys-lru", "--appendonly", "no")
        async with cluster(tmp_path, server, 1) as (one,):
            said: dict[str, Any] = await doctor(one)
            assert said["redis 0"][0] == "good"
            assert said["redis 1"] == (
                "bad",
                "maxmemory-policy is allkeys-lru",
                "maxmemory-policy noeviction: it would forget what it acknowledged, and not say so",
            )
            assert said["redis 2"][0] == "bad"
            assert "appendonly yes" in said["redis 2"][2]
            assert said["redis 3"][:2] == ("unsure", "it has no replica")
            assert said["redis rights 4"][0] in ("good", "unsure")
            server.command("CONFIG", "SET", "appendonly", "yes")
            server.command("CONFIG", "SET", "appendfsync", "no")
            server.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
            server.command("CONFIG", "SET", "maxmemory", "1mb")
            said = await doctor(one)
            assert (said["redis 1"][0], "raise maxmemory" in said["redis 1"][2]) == ("bad", True)
            assert said["redis 2"][1] == "appendfsync is no"
            assert said["redis rights 4"][0] == "bad"
            assert "maxmemory" in said["redis rights 4"][1]
            server.kill()
            state, text, remedy = (await doctor(one))["redis 0"]
            assert (state, text[:15], "cluster.url" in remedy) == ("bad", "cannot be asked", True)


async def test_doctor_looks_at_each_master_of_a_redis_cluster(tmp_path: Path) -> None:
    with redis_cluster(tmp_path) as masters:
        async with cluster(tmp_path, masters, 1) as (one,):
            said = await doctor(one)
            names = {name.rpartition(" ")[0] for name in said}
            assert names == {"redis rights"} | {f"redis 127.0.0.1:{master.port}" for master in masters.masters}
            assert not [remedy for _, _, remedy in said.values() if "full-coverage" in remedy]
            masters.masters[1].command("CONFIG", "SET", "cluster-require-full-coverage", "yes")
            told = [remedy for _, _, remedy in (await doctor(one)).values()]
            assert len([remedy for remedy in told if "cluster-require-full-coverage no" in remedy]) == 1
            assert {state for state, _, _ in said.values()} <= {"good", "unsure"}
