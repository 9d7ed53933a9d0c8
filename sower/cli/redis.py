"""What `sower doctor` looks at in the Redis of a cluster. Only it needs what is imported here."""

from __future__ import annotations

import time
from typing import Any

import trio
from coredis.exceptions import RedisError

from sower.cli import logs
from sower.cli.checkup import BAD, DIAL_WITHIN, GOOD, PROBE, UNSURE, Finding
from sower.cluster.entries import Spoken
from sower.cluster.keys import Keys
from sower.cluster.links import Links
from sower.cluster.node import Node
from sower.cluster.places import Place
from sower.config import Cluster
from sower.errors import ClusterFailed

OLDEST, OLDEST_CLUSTER = (6, 2), (7, 0)

SLOW = 0.01
"""Seconds from a publish to its broadcast; within one data centre it takes about one millisecond."""

PROBES = 5

Facts = dict[str, str]
"""What INFO says."""


async def examine_redis(cluster: Cluster) -> list[Finding]:
    """Each server that decides, and then what a daemon does with all of them."""
    logs.silence()
    place = Place.read(cluster.url)
    places = [place]
    if place.named and not place.service:
        owners = await Links(place, replicas=0, heard=_ignore).ask_owners()
        places = [place.at(where) for where in dict.fromkeys(where for _, _, where in owners)] or places
    findings: list[Finding] = []
    for one in places:
        name = f"redis {one.named[0]}" if len(places) > 1 else "redis"
        findings += await _server(name, one, cluster, oldest=OLDEST_CLUSTER if len(places) > 1 else OLDEST)
    return [*findings, await _rights(cluster)]


async def _server(name: str, place: Place, cluster: Cluster, oldest: tuple[int, int]) -> list[Finding]:
    async with place.pool(1) as pool:
        try:  # in here: what leaves the pool's nursery is a group
            async with pool.acquire() as connection:
                facts = _read(await connection.create_request(b"INFO"))
                fsync = await _ask(connection, "appendfsync")
                coverage = await _ask(connection, "cluster-require-full-coverage")
        except (RedisError, OSError, TimeoutError) as error:
            of_sentinels = ", its sentinel_password" if place.service else ""
            remedy = f"look at cluster.url{of_sentinels}, and whether Redis runs"
            return [Finding(name, BAD, f"cannot be asked: {error}", remedy)]
    return [
        _version(name, facts, oldest),
        _eviction(name, facts),
        _persistence(name, facts, fsync),
        _replicas(name, facts, cluster.replicas, needs_all=facts.get("cluster_enabled") == "1" and coverage == "yes"),
    ]


async def _ask(connection: Any, setting: str) -> str:
    """Empty where this user may not ask."""
    try:
        found: dict[bytes, bytes] = await connection.create_request(b"CONFIG GET", setting.encode())
    except RedisError:
        return ""
    return found.get(setting.encode(), b"").decode()


def _read(info: Any) -> Facts:
    lines = (line.partition(":") for line in bytes(info).decode(errors="replace").splitlines())
    return {key: value for key, _, value in lines}


def _version(name: str, facts: Facts, oldest: tuple[int, int]) -> Finding:
    version = facts.get("redis_version", "0.0")
    if tuple(int(part) for part in version.split(".")[:2]) < oldest:
        return Finding(name, BAD, f"version {version}", f"upgrade it to {oldest[0]}.{oldest[1]} or newer")
    product = "Valkey" if "valkey_version" in facts else "Redis"
    return Finding(name, GOOD, f"{product} {facts.get('valkey_version', version)}")


def _eviction(name: str, facts: Facts) -> Finding:
    policy, most = facts.get("maxmemory_policy", "unknown"), int(facts.get("maxmemory", "0"))
    if policy != "noeviction":
        remedy = "maxmemory-policy noeviction: it would forget what it acknowledged, and not say so"
        return Finding(name, BAD, f"maxmemory-policy is {policy}", remedy)
    used = int(facts.get("used_memory", "0"))
    text = f"{used / 2**20:,.0f} MiB are used" + (
        f" of {most / 2**20:,.0f} MiB" if most else ", and nothing is forgotten"
    )
    if most and used > most * 0.9:
        return Finding(name, BAD, text, "raise maxmemory, or keep less history: a full Redis refuses publishes")
    return Finding(name, GOOD, text)


def _persistence(name: str, facts: Facts, fsync: str) -> Finding:
    if facts.get("aof_enabled") != "1":
        remedy = "appendonly yes: a restart would forget all, and clients would be told of a gap"
        return Finding(name, BAD, "nothing is kept on disk (appendonly no)", remedy)
    if facts.get("aof_last_write_status", "ok") != "ok":
        return Finding(name, BAD, "its last write to disk failed", "look at its log and its disk")
    if fsync == "no":
        return Finding(name, BAD, "appendfsync is no", "appendfsync everysec: a power cut loses a second at most")
    if not fsync:
        return Finding(name, GOOD, "appendonly yes; appendfsync cannot be seen by this user")
    loses = "nothing" if fsync == "always" else "up to a second"
    return Finding(name, GOOD, f"appendfsync is {fsync}: a power cut loses {loses}")


def _replicas(name: str, facts: Facts, wanted: int, *, needs_all: bool) -> Finding:
    """needs_all: whether the other masters of a Redis Cluster refuse all while this one is away."""
    if facts.get("role") != "master":
        return Finding(name, BAD, "it is a replica, which decides nothing", "name its master in cluster.url")
    there = int(facts.get("connected_slaves", "0"))
    if there < wanted:
        remedy = "add replicas or lower cluster.replicas: until then every publish is refused"
        return Finding(name, BAD, f"{there} replicas are connected, cluster.replicas is {wanted}", remedy)
    if not there and needs_all:
        remedy = "a replica, or cluster-require-full-coverage no: while it is away no app goes on"
        return Finding(name, UNSURE, "it has no replica, and the cluster stops without it", remedy)
    if not there:
        remedy = "a replica and Sentinels have clients wait for seconds and not for a repair"
        return Finding(name, UNSURE, "it has no replica", remedy)
    return Finding(name, GOOD, f"{there} replicas are connected")


async def _rights(cluster: Cluster) -> Finding:
    """Do what a daemon does: join, follow a channel, publish there, and hear it."""
    try:
        with trio.fail_after(2 * DIAL_WITHIN):
            async with Node.open(cluster, lambda name: None, 1.0) as node:
                return await _heard(node)
    except ClusterFailed as error:
        return _refused(error)
    except trio.TooSlowError:
        return Finding("redis rights", BAD, "what is published is not broadcast", "is the ACL's &PREFIX* there?")


async def _heard(node: Node) -> Finding:
    try:
        took = sorted([await _round(node) for _ in range(PROBES)])[PROBES // 2]
    except ClusterFailed as error:
        return _refused(error)
    text = f"a publish is heard after {took * 1000:.1f} ms, as this user"
    if took > SLOW:
        return Finding("redis rights", UNSURE, text, "run Redis in the same data centre, on a machine that is not busy")
    return Finding("redis rights", GOOD, text)


def _refused(error: ClusterFailed) -> Finding:
    remedy = "sower-cluster(7) has the line for ACL SETUSER" if "permission" in error.message else error.hint
    return Finding("redis rights", BAD, error.message, remedy)


async def _round(node: Node) -> float:
    listener = _Listener(node)
    await node.follow(listener)
    began = time.perf_counter()
    said = Spoken("probe", b"null", 0, None, None, None)
    await node.say(listener.app, listener.name, listener.keys, [(said, b"n")])
    await listener.heard.wait()
    node.unfollow(listener)
    return time.perf_counter() - began


class _Listener:
    """A channel that only hears."""

    app, name = PROBE, PROBE

    def __init__(self, node: Node) -> None:
        self.keys: Keys = node.keys(self.app, self.name)
        self.heard = trio.Event()

    def hear(self, payload: bytes) -> None:
        self.heard.set()

    def hear_numbers(self, payload: bytes) -> None:
        """Nobody is counted."""

    def count_again(self) -> None:
        """As hear_numbers."""

    def look_again(self, *, lost: bool) -> None:
        """What was missed is not read."""


def _ignore(topic: bytes, payload: bytes) -> None:
    """Nothing is followed."""
