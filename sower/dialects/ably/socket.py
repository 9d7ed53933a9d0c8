"""Ably's WebSocket at `/`: one frame, one ProtocolMessage; what a client says, and what it is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from sower.config import AblySettings, Rate
from sower.core.answer import Acknowledged, Connected, Published, SocketAnswer, Watched, Welcome
from sower.core.command import (
    Appear,
    Complain,
    Connect,
    Finish,
    Ping,
    PublishAll,
    Renew,
    SocketCommand,
    Subscribe,
    Unsubscribe,
)
from sower.core.grants import Can, Grant
from sower.core.message import Appearance, Position, check_count
from sower.dialects.ably import annotating, codes, messages, serials
from sower.dialects.ably.acknowledgements import Acknowledgements
from sower.dialects.ably.channels import (
    CAPABILITIES,
    ChannelWords,
    bare_name,
    granted,
    known_params,
    read_name,
    read_rewind,
    uses_of,
    wanted_modes,
    without,
)
from sower.dialects.ably.codes import info
from sower.dialects.ably.tokens import verify
from sower.dialects.ably.wire import (
    MODES,
    Action,
    Details,
    Flag,
    Format,
    Head,
    InFrame,
    OutFrame,
    seconds_of,
)
from sower.dialects.interface import Conversation, Named, Said
from sower.errors import BadFrame, Finished, Forbidden, ModeNotAsked, SowerError

MAX_FRAME = 512 * 1024
"""Bytes of one frame, the vendor's limit: a publish of 64 KiB as base64, and much more."""

STATE_TTL = 120_000
"""Milliseconds for which SDKs count on their connection; here it outlives even the daemon."""

GRACE_BEYOND = 3.0
"""Seconds that a heartbeat may be late before a client gives up, besides its own ten."""

ASKS_BEFORE = 30.0
"""Seconds before a token expires, the vendor's."""

LEAST_INTERVAL, MOST_INTERVAL = 5.0, 1800.0
"""Seconds that a client may ask for as its heartbeatInterval."""

MEMBERS_A_PAGE = 100
"""Members in one SYNC frame."""

SERVER = "sower"

LEAST_GRACE = 1.0
"""Seconds, the least that remainPresentFor may say."""


class Manner(msgspec.Struct, frozen=True):
    """What all sockets of one format and key have in common. ping_every: seconds. epoch: of all positions."""

    wire: Format
    words: ChannelWords
    epoch: str
    settings: AblySettings
    ping_every: float


class AblyConversation(Conversation):
    """One connection. It remembers its name, what it did not answer yet, whether it asked for a new token, and which
    channels have two names, were attached for less than all, or show it no members.
    """

    __slots__ = ("_acks", "_asked", "_connection", "_manner", "_modes", "_params", "_unseen", "_written")

    def __init__(self, manner: Manner, params: Mapping[str, str]) -> None:
        self._manner = manner
        self._params = {name: params[name] for name in REMEMBERED if name in params} or None
        self._connection = ""
        self._acks: Acknowledgements | None = None
        self._written: dict[str, str] | None = None
        self._modes: dict[str, Flag] | None = None
        self._unseen: dict[str, Flag] | None = None
        self._asked = False

    @property
    def longest(self) -> int:
        """A frame."""
        return MAX_FRAME

    @property
    def publishes(self) -> Rate:
        """The app's setting."""
        return self._manner.settings.publishes

    @property
    def ping_every(self) -> float | None:
        """What the client asks for as heartbeatInterval, less what a heartbeat may be late."""
        seconds = seconds_of(self._param("heartbeatInterval"))
        return None if seconds is None else min(max(seconds, LEAST_INTERVAL), MOST_INTERVAL) - GRACE_BEYOND

    def asks_before(self, grant: Grant) -> float:
        """None for a token that was never good for long: its SDK would be asked on end."""
        brief = grant.issued is None or (grant.expires or 0.0) - grant.issued < 2 * ASKS_BEFORE
        return 0.0 if brief else ASKS_BEFORE

    def ask(self) -> bytes:
        """AUTH, once for each token."""
        if self._asked:
            return b""
        self._asked = True
        return self._encode(OutFrame(Action.AUTH))

    def heartbeat(self) -> bytes:
        """Some SDKs see no pings, and hang up on who says nothing."""
        return b"" if self._param("heartbeats") == "false" else self._manner.wire.encode(OutFrame(Action.HEARTBEAT))

    # What the client says

    def begin(self) -> Sequence[SocketCommand]:
        """Opening the socket is connecting."""
        return (Connect(self._param("resume") or self._param("recover")),)

    def receive(self, session: Named, payload: bytes, *, is_text: bool) -> Sequence[SocketCommand]:
        """One frame. What cannot be read at all ends the connection."""
        try:
            frame = self._manner.wire.read_frame(payload)
        except BadFrame as error:
            return self._unread(self._manner.wire.read_head(payload), error)
        if frame.msgSerial is not None and frame.action not in UNNUMBERED:
            return self._numbered(frame, frame.msgSerial)
        try:
            return self._read(frame)
        except SowerError as error:
            return (Complain(error, channel=frame.channel),)

    def _unread(self, head: Head | None, error: BadFrame) -> Sequence[SocketCommand]:
        """Something in a frame is not of its type: whoever waits for its answer is told, and the connection goes on."""
        if head is not None and head.msgSerial is not None and head.action not in UNNUMBERED:
            return self._expected(head.msgSerial, (Complain(error),))
        channel = None if head is None else head.channel
        return (Complain(error, channel, final=channel is None),)

    def _expected(self, serial: int, commands: Sequence[SocketCommand]) -> Sequence[SocketCommand]:
        if self._acks is None:
            self._acks = Acknowledgements()
        self._acks.expect(serial, commands)
        return commands

    def _numbered(self, frame: InFrame, serial: int) -> Sequence[SocketCommand]:
        """A frame that is acknowledged."""
        commands: Sequence[SocketCommand]
        try:
            if frame.action == Action.MESSAGE:
                commands = (self._publish(frame, serial),)
            elif frame.action == Action.PRESENCE:
                commands = self._appear(frame, serial)
            elif frame.action == Action.ANNOTATION:
                commands = (self._annotate(frame, serial),)
            else:
                raise Forbidden(f"Frames of action {frame.action} are not spoken here.")
        except SowerError as error:
            commands = (Complain(error),)
        return self._expected(serial, commands)

    def _publish(self, frame: InFrame, serial: int) -> PublishAll:
        channel = self._attached_for(Flag.PUBLISH, frame)
        sent = frame.messages or []
        if not sent:
            raise BadFrame("The frame holds no messages.")
        check_count(len(sent))
        echo = self._param("echo") != "false"
        publishes = [
            messages.publish(
                message,
                channel,
                message_id=f"{self._connection}:{serial}:{index}",
                connection=self._connection,
                echo=echo,
            )
            for index, message in enumerate(sent)
        ]
        messages.check_size(sent, publishes)
        return PublishAll(tuple(publishes))

    def _annotate(self, frame: InFrame, serial: int) -> PublishAll:
        channel = self._attached_for(Flag.ANNOTATION_PUBLISH, frame)
        if not frame.annotations:
            raise BadFrame("The frame holds no annotations.")
        check_count(len(frame.annotations))
        echo = self._param("echo") != "false"
        publishes = [
            annotating.annotate(
                annotation,
                channel,
                annotation_id=f"{self._connection}:{serial}:{index}",
                connection=self._connection,
                echo=echo,
            )
            for index, annotation in enumerate(frame.annotations)
        ]
        return PublishAll(tuple(publishes))

    def _appear(self, frame: InFrame, serial: int) -> Sequence[Appear]:
        channel = self._attached_for(Flag.PRESENCE, frame)
        if not frame.presence:
            raise BadFrame("The frame holds no presence.")
        check_count(len(frame.presence))
        return [
            messages.appear(presence, channel, f"{self._connection}:{serial}:{index}")
            for index, presence in enumerate(frame.presence)
        ]

    def _read(self, frame: InFrame) -> Sequence[SocketCommand]:
        """A frame that is answered in its own way, or not at all."""
        action = frame.action
        if action in (Action.ATTACH, Action.SYNC):
            return (self._attach(frame),)
        if action == Action.DETACH:
            name = read_name(frame.channel).name
            self._remember(name, frame.channel, MODES)
            return (Unsubscribe(name),)
        if action == Action.HEARTBEAT:
            return (Ping(frame.id),)
        if action == Action.AUTH:
            return self._renew(frame)
        if action in (Action.CLOSE, Action.DISCONNECT):
            return (Finish(at_once=action == Action.CLOSE),)
        return ()

    def _attach(self, frame: InFrame) -> Subscribe:
        """ATTACH; a SYNC of the client's asks for the members anew, which attaching again gives it."""
        name, params = read_name(frame.channel)
        params |= {param: str(value) for param, value in (frame.params or {}).items() if value is not None}
        modes = wanted_modes(frame.flags if frame.action == Action.ATTACH else None, params)
        known = known_params(params)
        rewind = read_rewind(known["rewind"]) if "rewind" in known else None
        self._remember(name, frame.channel, modes)
        encoder = None
        if known or modes != MODES or name != frame.channel:
            written = frame.channel if name != frame.channel else None
            encoder = ChannelWords(self._manner.wire, self._manner.epoch, written, modes, known)
        return Subscribe(
            name,
            serials.read(frame.channelSerial) if frame.channelSerial and frame.action == Action.ATTACH else None,
            rewind=rewind,
            wants=frozenset(CAPABILITIES[mode] for mode in modes) or PUBLISHING,
            encoder=encoder,
            grace=self._grace(),
            uses=uses_of(modes),
            counts="occupancy" in known,
        )

    def _renew(self, frame: InFrame) -> Sequence[SocketCommand]:
        token = frame.auth.accessToken if frame.auth is not None else None
        if not token:
            raise BadFrame("AUTH holds no accessToken.")
        return Renew(token, verify=verify, partial=True), Connect()

    def _remember(self, channel: str, written: str | None, modes: Flag) -> None:
        """How a client wrote a channel's name last, and what it attached it for where that is less than all."""
        self._forget(channel)
        if written is not None and written != channel:
            self._written = {**(self._written or {}), channel: written}
        if modes != MODES:
            self._modes = {**(self._modes or {}), channel: modes}

    def _forget(self, channel: str) -> None:
        """Remember nothing of a channel that is not attached."""
        self._written = without(self._written, channel)
        self._modes = without(self._modes, channel)
        self._unseen = without(self._unseen, channel)

    def _attached_for(self, mode: Flag, frame: InFrame) -> str:
        """A channel's own name, where it is not attached for less than this. Raises ModeNotAsked, BadChannelName."""
        channel = read_name(frame.channel).name
        if self._modes is not None and mode not in self._modes.get(channel, MODES | Flag.ANNOTATION_PUBLISH):
            raise ModeNotAsked(f"The channel {channel[:64]!r} is attached without the mode {mode.name}.")
        return channel

    def _grace(self) -> float:
        seconds, most = seconds_of(self._param("remainPresentFor")), float(self._manner.settings.grace)
        return most if seconds is None else min(max(seconds, LEAST_GRACE), most)

    def _param(self, name: str) -> str | None:
        return None if self._params is None else self._params.get(name)

    # What it is told

    def answer(self, session: Named, command: SocketCommand, answer: SocketAnswer) -> Said:
        """CONNECTED, ATTACHED and SYNC, DETACHED, ACK, HEARTBEAT."""
        if isinstance(command, PublishAll) and isinstance(answer, Published):
            return self._settled(command, [serials.write(r.serial, self._manner.epoch) for r in answer.receipts])
        if isinstance(answer, Welcome) and isinstance(command, Subscribe):
            return self._attached(command, answer)
        if isinstance(answer, Connected):
            return self._connected(answer)
        if isinstance(command, Appear) and isinstance(answer, Acknowledged):
            return (*self._own(command.channel, answer.appearance), *self._settled(command, []))
        if isinstance(command, Unsubscribe):
            name = self._name(command.channel)
            self._forget(command.channel)
            return self._encode(OutFrame(Action.DETACHED, channel=name))
        if isinstance(command, Ping) and isinstance(answer, Acknowledged):
            return self._encode(OutFrame(Action.HEARTBEAT, id=command.id))
        return b""

    def _connected(self, answer: Connected) -> bytes:
        self._connection = answer.connection
        self._asked = False
        details = Details(
            answer.statement,
            messages.MAX_MESSAGE,
            MAX_FRAME,
            int(self._manner.settings.publishes.per_second),
            STATE_TTL,
            int(((self.ping_every or self._manner.ping_every) + GRACE_BEYOND) * 1000),
            SERVER,
            messages.NOBODY if answer.any_user else answer.user,
        )
        error = info(answer.refused, codes.NOT_CONTINUED) if answer.refused is not None else None
        frame = OutFrame(Action.CONNECTED, connectionId=answer.connection, connectionDetails=details, error=error)
        return self._encode(frame)

    def _attached(self, command: Subscribe, welcome: Welcome) -> Said:
        words = command.encoder if isinstance(command.encoder, ChannelWords) else self._manner.words
        name = words.written or welcome.channel
        flags = granted(words.modes, welcome.can)
        shows = bool(welcome.seen) and Flag.PRESENCE_SUBSCRIBE in flags
        if Flag.PRESENCE in flags and Flag.PRESENCE_SUBSCRIBE not in flags:
            self._unseen = {**(self._unseen or {}), welcome.channel: flags}
        flags |= Flag.HAS_PRESENCE if shows else Flag(0)
        flags |= Flag.RESUMED if welcome.resumed else Flag(0)
        flags |= Flag.HAS_BACKLOG if welcome.backlog else Flag(0)
        lost = command.since is not None and not welcome.resumed
        attached = OutFrame(
            Action.ATTACHED,
            channel=name,
            channelSerial=serials.attached(welcome.follows or welcome.position, welcome.moment),
            flags=int(flags),
            params=words.params or None,
            error=codes.NO_CONTINUITY if lost else None,
        )
        return (self._encode(attached), *(self._sync(name, welcome) if shows else ()))

    def _own(self, channel: str, seen: Appearance | None) -> Sequence[bytes]:
        """Its own member is told to a client that is shown none too: by that its SDK knows whom to enter again."""
        if seen is None or self._unseen is None or channel not in self._unseen:
            return ()
        told = messages.out_presence(seen, self._manner.wire)
        return (self._encode(OutFrame(Action.PRESENCE, channel=self._name(channel), presence=[told])),)

    def _sync(self, name: str, welcome: Welcome) -> list[bytes]:
        """All members, in pages; the last says that it is the last."""
        wire, sync_id, pages = self._manner.wire, welcome.position.serial, list[bytes]()
        for start in range(0, len(welcome.seen), MEMBERS_A_PAGE):
            page = [
                messages.out_presence(seen, wire, sync=True) for seen in welcome.seen[start : start + MEMBERS_A_PAGE]
            ]
            following = start + MEMBERS_A_PAGE
            cursor = following if following < len(welcome.seen) else ""
            frame = OutFrame(Action.SYNC, channel=name, channelSerial=f"{sync_id}:{cursor}", presence=page)
            pages.append(self._encode(frame))
        return pages

    def refuse(self, command: SocketCommand | None, error: SowerError) -> Said:
        """NACK, an ERROR of a channel or of the connection, or DISCONNECTED where the client may come back."""
        told = info(error, codes.code_of(error, command))
        if isinstance(command, PublishAll | Appear) or (isinstance(command, Complain) and command.channel is None):
            return self._settled(command, [], told)
        if isinstance(command, Subscribe | Complain | Unsubscribe):
            name = None if command.channel is None else self._name(command.channel)  # "" is a channel's name here
            if isinstance(command, Subscribe):
                self._forget(command.channel)
            return self._encode(OutFrame(Action.ERROR, channel=name, error=told))
        if command is not None:
            return b""
        if isinstance(error, Finished):
            return self._encode(OutFrame(Action.CLOSED))
        action = Action.DISCONNECTED if codes.may_come_back(error) else Action.ERROR
        return self._encode(OutFrame(action, error=told))

    def ends(self, command: SocketCommand | None) -> bool:
        """What cannot be read, and a token that is not taken."""
        return isinstance(command, Renew) or (isinstance(command, Complain) and command.final)

    def loses(self, command: SocketCommand | None) -> str:
        """After an ERROR on a channel the client takes it for failed, and tells nobody what comes there."""
        return bare_name(command.channel) if isinstance(command, Subscribe | Unsubscribe | Complain) else ""

    def close(self, error: SowerError) -> int:
        """A client that asked for it is closed normally."""
        return NORMAL if isinstance(error, Finished) else error.close

    def tell(self, word: Watched) -> bytes:
        """This protocol has no watchlists."""
        return b""

    def gap(self, channel: str, since: Position, position: Position) -> bytes:
        """ATTACHED has said it."""
        return b""

    def _settled(
        self, command: SocketCommand, told: Sequence[str], error: codes.ErrorInfo | None = None
    ) -> tuple[bytes, ...]:
        if self._acks is None:
            return ()
        frames = self._acks.settle(command, serials=told, error=error)
        if not len(self._acks):
            self._acks = None
        return tuple(self._encode(frame) for frame in frames)

    def _name(self, channel: str) -> str:
        return channel if self._written is None else self._written.get(channel, channel)

    def _encode(self, frame: OutFrame) -> bytes:
        return self._manner.wire.encode(frame)


REMEMBERED = ("resume", "recover", "echo", "heartbeats", "heartbeatInterval", "remainPresentFor")
"""What of the query matters later."""

UNNUMBERED = {Action.ATTACH, Action.DETACH, Action.HEARTBEAT, Action.AUTH, Action.CLOSE, Action.DISCONNECT, Action.SYNC}
"""Frames that are not acknowledged, whatever number they bear."""

PUBLISHING = frozenset({Can.PUBLISH})
"""What is asked for where none of the wanted modes is known: it is what most keys lack least."""

NORMAL = 1000
"""RFC 6455 section 7.4.1."""
