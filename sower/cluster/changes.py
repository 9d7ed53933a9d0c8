"""Changes and annotations of messages: decided here, made in Redis where a message still is as that was decided on.

What becomes of a message is core/versions.py's to say, as in one daemon.
"""

from __future__ import annotations

from typing import Any

import msgspec

from sower.cluster import entries, histories
from sower.cluster.entries import Changed, Now
from sower.cluster.keys import Keys
from sower.cluster.node import Made, Node, Outcome
from sower.core import versions
from sower.core.message import Act, Annotation, Message, Revision
from sower.errors import ChannelBusy, NoSuchMessage

DECIDED_AGAIN = 100
"""Times that others may be faster. Each time one of them was, so that all together go on."""


async def make(node: Node, app: str, name: str, message: Message, sender: str | None, largest: int) -> Outcome:
    """Do something to a message of a channel, and tell all nodes. message: as published, its serial is not known yet.

    sender: the session that is not told. largest: bytes of data that a message may have.
    Raises NoSuchMessage, ChannelBusy, ClusterFailed, and as versions.decide.
    """
    keys, about = node.keys(app, name), message.about
    if about is None:
        raise TypeError("it is about no message")
    message = msgspec.structs.replace(message, about=_unnumbered(about))
    for _ in range(DECIDED_AGAIN):
        known, state, now = await _look(node, keys, message, about.of)
        if known:
            return Outcome(known, fresh=False)
        if now is None:
            raise NoSuchMessage(f"The channel has no message {about.of}.")
        decided = versions.decide(now, state.changes if state is not None else 0, message, largest)
        done = _done(about.of, state, message, decided, sender)
        outcome = await node.change(name, keys, done)
        if outcome is not None:
            return outcome
    raise ChannelBusy(f"The message {about.of} is changed too fast by others.", retry_after=1)


async def _look(node: Node, keys: Keys, message: Message, of: int) -> tuple[int, Now | None, Message | None]:
    """The serial of the first one with this id, how the message that it is about is, and that message as it is now."""
    names = [keys.kept, keys.revised]
    if message.id is not None:
        names.append(keys.ids + message.id.encode())
    known, state, row = await node.line.run(histories.LOOK, names, (f"{of:017d}",))
    original = entries.stored(row) if row else None
    if original is None or not state:
        return int(known or 0), None, original
    now = Now.read(state)
    return int(known or 0), now, now.message(original)


def _done(of: int, state: Now | None, message: Message, decided: versions.Decided, sender: str | None) -> Made:
    """What Redis is told of it."""
    about = message.about
    kind = "a" if isinstance(about, Annotation) else "v"
    appended = isinstance(about, Revision) and about.act is Act.APPENDED
    last = state.last if state is not None else b""
    changes = state.changes if state is not None else 0
    args: list[Any] = [f"{of:017d}", last, kind, "1" if appended else ""]
    args.append(entries.pack_now(decided.now, changes + 1))
    for place, told in enumerate(decided.told):
        args += [_packed(told, None if place else sender), _packed(_bare(told))]
    return Made(message.id, args)


def _packed(m: Message, sender: str | None = None) -> bytes:
    return entries.pack(Changed(m.event, m.data, int(m.kind), m.user, m.id, m.extra, sender=sender, about=m.about))


def _bare(message: Message) -> Message:
    """As it is kept: the summary is that of the message as it is when this is read."""
    about = message.about
    if not isinstance(about, Revision):
        return message
    return msgspec.structs.replace(message, about=msgspec.structs.replace(about, summary=None))


def _unnumbered(about: Revision | Annotation) -> Revision | Annotation:
    """Redis gives the serials."""
    if isinstance(about, Revision):
        return msgspec.structs.replace(about, version=0)
    return msgspec.structs.replace(about, next=0)
