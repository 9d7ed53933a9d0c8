"""A client of each protocol: what it says, by its own conversation, and what it reads from what it is told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import trio

from sower.config import AblySettings, App
from sower.core.answer import Connected, Welcome
from sower.core.command import Appear, Publish, PublishAll, Subscribe
from sower.core.message import Did, Position
from sower.dialects.ably import serials
from sower.dialects.ably.channels import ChannelWords
from sower.dialects.ably.socket import AblyConversation, Manner
from sower.dialects.ably.wire import Format
from sower.dialects.native.socket import NativeConversation
from sower.dialects.native.words import ENCODER as NATIVE
from sower.dialects.pusher.socket import PusherConversation
from sower.dialects.pusher.words import ENCODER as PUSHER
from sower.inbox import Subscription
from sower.net.framing import FramedAudience

APP = App(id="1", key="k", secret="s" * 16)
SESSION = SimpleNamespace(id="0123456789ab7")
ABLY_GRACE = 15.0


class Prefixed:
    """A framing for whoever reads frames out of a list: the length, and the frame."""

    def text(self, payload: bytes) -> bytes:
        return len(payload).to_bytes(4, "big") + payload

    binary = text

    @staticmethod
    def split(data: bytes) -> list[bytes]:
        frames = []
        while data:
            end = 4 + int.from_bytes(data[:4], "big")
            frames.append(data[4:end])
            data = data[end:]
        return frames


FRAMING = Prefixed()


class Transport:
    """A subscriber as a session is one: what it is told, in its order."""

    def __init__(self, connection: str) -> None:
        self.connection = connection
        self.closed = False
        self.welcomed = False
        self.said: list[Any] = []
        self._held: list[Any] | None = None

    def write(self, data: bytes) -> None:
        if not self.closed:
            (self.said if self._held is None else self._held).extend(Prefixed.split(data))

    def write_ahead(self, data: bytes) -> None:
        self.said.extend(Prefixed.split(data))

    def answer(self, command: Any, answer: Any) -> None:
        self.said.append((command, answer))

    answer_ahead = answer

    def refuse(self, command: Any, error: Exception) -> None:
        raise error

    def turn_away(self, subscription: Subscription, command: Subscribe, error: Exception) -> None:
        raise error

    def tell_gap(self, channel: str, since: Position, position: Position) -> None:
        self.said.append("gap")

    def hold(self) -> None:
        self._held = []

    def release(self) -> None:
        self.said.extend(self._held or [])
        self._held = None

    async def drained(self) -> None:
        await trio.lowlevel.checkpoint()


class Stretch:
    """What a client heard from one beginning on.

    since: where it wanted to go on. replayed: up to where it is told its own messages too, which nobody keeps apart
    heard: numbers, and the serial of each where the protocol tells it
    """

    def __init__(self, since: Position | None, welcome: Welcome) -> None:
        self.start = (welcome.follows or welcome.position).serial
        self.since = since
        self.replayed = welcome.position.serial
        self.resumed = welcome.resumed
        self.told_of_a_gap = False
        self.heard: list[tuple[int, int | None]] = []


class Native:
    """Sower's own protocol: a channel a socket, a member by subscribing, since= the last serial."""

    resumes, user, grace, epoch = True, "ada", None, ""
    audience = FramedAudience(NATIVE, FRAMING, "native")  # type: ignore[arg-type]

    def serve(self, epoch: str) -> None:
        self.epoch = epoch

    def subscribe(self, channel: str, since: Position | None) -> Subscribe:
        (command,) = NativeConversation(channel, since).begin()
        assert isinstance(command, Subscribe)
        return command

    def publish(self, channel: str, number: int, name: str | None, echo: bool) -> Publish:
        frame = {"type": "publish", "event": "e", "data": number, "echo": echo, **({"id": name} if name else {})}
        (command,) = NativeConversation(channel, None).receive(SESSION, msgspec.json.encode(frame), is_text=True)
        assert isinstance(command, Publish)
        return command

    def welcomed(self, link: Link, command: Subscribe, welcome: Welcome) -> None:
        said = msgspec.json.decode(NativeConversation(link.channel, None).answer(SESSION, command, welcome))
        link.view = set(said.get("members", ()))

    def read(self, link: Link, frame: bytes) -> None:
        said = msgspec.json.decode(frame)
        if said["type"] == "event":
            link.hear(int(said["data"]), Position(self.epoch, int(said["serial"])))
        elif said["type"] == "join":
            link.view.add(said["user"])
        elif said["type"] == "leave":
            link.view.remove(said["user"])


class Pusher:
    """Pusher's: it does not resume, and its client events go to all others."""

    resumes, user, grace = False, "pam", None
    audience = FramedAudience(PUSHER, FRAMING, "pusher")  # type: ignore[arg-type]
    conversation = PusherConversation(APP)

    def serve(self, epoch: str) -> None:
        """It knows no positions."""

    def subscribe(self, channel: str, since: Position | None) -> Subscribe:
        frame = {"event": "pusher:subscribe", "data": {"channel": channel}}
        if channel.startswith("presence-"):
            frame["data"] |= {"auth": "k:00", "channel_data": '{"user_id":"pam"}'}  # type: ignore[operator]
        (command,) = self.conversation.receive(SESSION, msgspec.json.encode(frame), is_text=True)
        assert isinstance(command, Subscribe)
        return command

    def publish(self, channel: str, number: int, name: str | None, echo: bool) -> Publish:
        frame = {"event": "client-e", "channel": channel, "data": number}
        (command,) = self.conversation.receive(SESSION, msgspec.json.encode(frame), is_text=True)
        assert isinstance(command, Publish)
        return command

    def welcomed(self, link: Link, command: Subscribe, welcome: Welcome) -> None:
        said = msgspec.json.decode(self.conversation.answer(SESSION, command, welcome))
        data = msgspec.json.decode(said["data"])
        link.view = set(data.get("presence", {}).get("ids", ()))

    def read(self, link: Link, frame: bytes) -> None:
        said = msgspec.json.decode(frame)
        data = msgspec.json.decode(said["data"]) if isinstance(said["data"], str) else said["data"]
        if said["event"] == "pusher_internal:member_added":
            link.view.add(data["user_id"])
        elif said["event"] == "pusher_internal:member_removed":
            link.view.remove(data["user_id"])
        else:
            link.hear(int(data), None)


class Ably:
    """Ably's, in either format: members by entering, each connection one, and a connection that outlives its socket."""

    resumes, grace = True, ABLY_GRACE

    def __init__(self, wire: Format, user: str) -> None:
        self.user = user
        self.wire = wire
        self.decode = (msgspec.msgpack if wire.binary else msgspec.json).decode
        self.numbers = 0

    def serve(self, epoch: str) -> None:
        self.epoch = epoch
        self.words = ChannelWords(self.wire, epoch)
        self.audience = FramedAudience(self.words, FRAMING, "ably")  # type: ignore[arg-type]

    def conversation(self, echo: bool = True) -> AblyConversation:
        params = {"echo": str(echo).lower()}
        conversation = AblyConversation(Manner(self.wire, self.words, self.epoch, AblySettings(), 25.0), params)
        (connect,) = conversation.begin()
        conversation.answer(SESSION, connect, Connected(f"c-{self.user}", "", self.user, False))
        return conversation

    def say(self, frame: dict[str, Any], echo: bool = True) -> Any:
        self.numbers += 1
        said = self.wire.encode({"msgSerial": self.numbers, **frame})
        (command,) = self.conversation(echo).receive(SESSION, said, is_text=not self.wire.binary)
        return command

    def subscribe(self, channel: str, since: Position | None) -> Subscribe:
        serial = {"channelSerial": serials.position(since)} if since is not None else {}
        command = self.say({"action": 10, "channel": channel, **serial})
        assert isinstance(command, Subscribe)
        return command

    def publish(self, channel: str, number: int, name: str | None, echo: bool) -> Publish:
        message = {"name": "e", "data": str(number), "encoding": "json", **({"id": name} if name else {})}
        command = self.say({"action": 15, "channel": channel, "messages": [message]}, echo)
        assert isinstance(command, PublishAll)
        return command.publishes[0]

    def appear(self, channel: str, did: Did) -> Appear:
        action = {Did.ENTERED: 2, Did.LEFT: 3, Did.UPDATED: 4}[did]
        command = self.say({"action": 14, "channel": channel, "presence": [{"action": action, "clientId": self.user}]})
        assert isinstance(command, Appear)
        return command

    def welcomed(self, link: Link, command: Subscribe, welcome: Welcome) -> None:
        link.members = set()
        words = self.conversation().answer(SESSION, command, welcome)
        for frame in words if isinstance(words, tuple) else (words,):
            self.read(link, frame)

    def read(self, link: Link, frame: bytes) -> None:
        said = self.decode(frame)
        for message in said.get("messages", ()):
            link.hear(int(message["data"]), serials.read(message["serial"]))
        if said.get("messages"):
            link.last = serials.read(said["channelSerial"])  # what SDKs go on from
        for member in said.get("presence", ()):
            who = (member["connectionId"], member["clientId"])
            (link.members.discard if member["action"] == 3 else link.members.add)(who)
        link.view = {user for _, user in link.members}


# serve(epoch): it speaks to a node whose positions have this epoch.
Speaker = Native | Pusher | Ably


class Link:
    """A client on a channel: over one transport after the other."""

    def __init__(self, speaker: Speaker, channel: str) -> None:
        self.speaker = speaker
        self.channel = channel
        self.transport: Transport | None = None
        self.subscription: Subscription | None = None
        self.last: Position | None = None
        self.stretches: list[Stretch] = []
        self.view: set[str] = set()
        self.members: set[tuple[str, str]] = set()

    def hear(self, number: int, at: Position | None) -> None:
        self.stretches[-1].heard.append((number, None if at is None else at.serial))
        self.last = at

    def read(self) -> None:
        """Take in what came, as an SDK does."""
        assert self.transport is not None
        for said in self.transport.said:
            if isinstance(said, bytes):
                self.speaker.read(self, said)
            elif said == "gap":
                self.stretches[-1].told_of_a_gap = True
            elif isinstance(said[1], Welcome):
                command, welcome = said
                self.transport.welcomed = True
                self.stretches.append(Stretch(command.since, welcome))
                self.last = welcome.follows or welcome.position
                self.speaker.welcomed(self, command, welcome)
        self.transport.said.clear()
