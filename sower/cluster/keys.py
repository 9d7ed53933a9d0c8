"""What is called what in Redis.

    PREFIX:{SHARD}:...    of the channels of an app
    PREFIX:{all}:...      of all nodes

Rule 1: all keys of a script, and the topic that it broadcasts on, have the same between { and }. Then they are in one
        slot, which one master of a Redis Cluster decides.
Rule 2: what concerns one app alone is in the shard of its channels, so that it waits for no other master.
"""

from __future__ import annotations

from binascii import crc32

SHARDS = 64
"""Slots of a Redis Cluster that are used. All channels of an app are in one: there its serials rise by one clock."""


def shard_of(app: str) -> int:
    """Where an app's channels are."""
    return crc32(app.encode()) % SHARDS


class Keys:
    """What a channel's keys are called. All that a script has of them are in one slot of a Redis Cluster."""

    __slots__ = (
        *("changes", "clock", "facts", "here", "ids", "index", "kept", "latest", "nodes", "past", "revised", "shard"),
        *("state", "topic", "users"),
    )

    def __init__(self, prefix: str, app: str, channel: str) -> None:
        self.shard = shard_of(app)
        self.clock = clock_of(prefix, self.shard)
        base = f"{prefix}:{{{self.shard}}}:{app}/{channel}".encode()
        self.topic = base
        self.state, self.latest, self.kept, self.past, self.here, self.users, self.nodes, self.ids = (
            base + end for end in (b":s", b":r", b":m", b":p", b":h", b":u", b":f", b":i:")
        )
        self.changes, self.revised, self.index = (base + end for end in (b":c", b":v", b":w"))
        self.facts = facts_of(prefix, self.shard)

    @property
    def actions(self) -> tuple[bytes, bytes, bytes]:
        """Those of the actions on its messages, see shelf.py."""
        return self.topic + b":a", self.topic + b":b", self.topic + b":n"


def mark_of(prefix: str, shard: int) -> bytes:
    """By which it is known that its server was not emptied."""
    return f"{prefix}:{{{shard}}}:mark".encode()


def clock_of(prefix: str, shard: int) -> bytes:
    """The last serial of a shard."""
    return f"{prefix}:{{{shard}}}:clock".encode()


def facts_of(prefix: str, shard: int) -> bytes:
    """What webhooks are told of a shard: the stream, and the topic on which it is said that there is more."""
    return f"{prefix}:{{{shard}}}:facts".encode()


def left_by(prefix: str, node: str, shard: int) -> bytes:
    """Where a node says on which channels of a shard it has somebody."""
    return f"{prefix}:{{{shard}}}:members:{node}".encode()


def names_of(prefix: str) -> bytes:
    """What people call each node."""
    return f"{prefix}:{{all}}:names".encode()


def said_by(prefix: str, kind: str, node: str, app: str) -> bytes:
    """Where a node says something of itself. app: what it is about, empty where it is about all of them."""
    return f"{prefix}:{{{shard_of(app) if app else 'all'}}}:{kind}:{node}:{app}".encode()


def user_of(prefix: str, app: str, user: str) -> bytes:
    """A topic: on which node a user is online."""
    return f"{prefix}:{{{shard_of(app)}}}:user:{app}/{user}".encode()


def spoke_of(prefix: str, app: str) -> bytes:
    """Which channels of an app stored something, and when."""
    return f"{prefix}:{{{shard_of(app)}}}:names:{app}".encode()
