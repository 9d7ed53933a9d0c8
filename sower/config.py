"""The config: TOML read into frozen structs. Each field has a default, and a doc line under it.

The doc lines are the source of man/sower.toml.5; a test finds the field that has none.
"""

from __future__ import annotations

import msgspec

from sower.core.happening import Fact


class Duration(float):
    """Seconds. Written as a string with a unit: "250ms", "10s", "5m", "72h", "30d"."""


class Size(int):
    """Bytes. Written as a string with a unit: "512B", "64KiB", "1MiB", "2GiB"."""


class Rate:
    """A token bucket: `burst` at once, `per_second` in the long run. Written "50/s", "600/m" or "50/s burst 200".

    Without a burst it is one second's worth, at least 1.
    """

    # No Struct and no dataclass: msgspec would read those from a table, and this is written as a string.
    __slots__ = ("burst", "per_second")

    def __init__(self, per_second: float, burst: float) -> None:
        self.per_second = per_second
        self.burst = burst

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rate) and (other.per_second, other.burst) == (self.per_second, self.burst)

    def __hash__(self) -> int:
        return hash((self.per_second, self.burst))

    def __repr__(self) -> str:
        return f"Rate({self.per_second:g}, {self.burst:g})"


class Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Unknown keys are errors."""


class Server(Strict, frozen=True):
    listen: tuple[str, ...] = ("127.0.0.1:8787",)
    """Addresses to listen on: HOST:PORT, [HOST]:PORT for IPv6, tls:HOST:PORT with the certificate, or unix:/PATH
    for a file. Port 0 takes a free one."""
    certificate: str = ""
    """A PEM file with the certificate that tls: addresses show, and those above it."""
    certificate_key: str = ""
    """A PEM file with the certificate's key, where it is not in the same file. A reload reads both anew."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses and networks of proxies that are believed when they say who a client is (X-Forwarded-For): such as
    "127.0.0.1", "10.0.0.0/8", or "unix" for all who come through a unix socket."""
    proxy_protocol: bool = False
    """Whether each connection of a trusted proxy begins with a header of HAProxy's PROXY protocol, version 1 or 2."""
    drain_for: Duration = Duration(10)
    """How long a stop waits for sessions to close before it cuts them off."""
    origins: tuple[str, ...] = ("*",)
    """Origins whose pages may connect: "https://example.com", "https://*.example.com" or "*" for all."""
    path_prefix: str = ""
    """A prefix of all paths that is ignored where a request has it, such as "/realtime" (pusher-js: wsPath)."""
    max_head: Size = Size(48 * 1024)
    """Bytes of a request's head: a target and 12 KiB; h11 and IIS take 16 KiB."""
    max_uri: Size = Size(36 * 1024)
    """Bytes of a request's target. PubNub's SDKs carry messages in it, of up to 32 KiB."""
    max_body: Size = Size(1024 * 1024)
    """Bytes of a request's body, nginx's limit."""
    head_timeout: Duration = Duration(5)
    """How long a new connection may take to send its first whole head."""
    body_timeout: Duration = Duration(8)
    """How long a request may take to send its whole body."""
    keep_alive: Duration = Duration(75)
    """How long an HTTP connection may rest between two requests, nginx's default."""


class SessionSettings(Strict, frozen=True):
    sleep_after: Duration = Duration(2)
    """A client silent for this long sleeps: of it stay its socket and a record of a few hundred bytes. 0s: at once."""
    backlog: Size = Size(1024 * 1024)
    """Bytes that may wait for one slow client, Centrifugo's limit. Past it the client is closed."""
    backlog_age: Duration = Duration(10)
    """How long bytes may wait for one slow client, NATS' write deadline. Past it the client is closed."""
    ping_every: Duration = Duration(25)
    """A client silent for this long is pinged, Centrifugo's default."""
    pong_within: Duration = Duration(10)
    """A pinged client that stays silent for this long is closed."""
    message_within: Duration = Duration(8)
    """How long a client may take to send one whole message, as body_timeout is for a request. Past it it is closed."""


class Store(Strict, frozen=True):
    path: str = "sower.db"
    """The SQLite file of journal and audit. A relative path counts from the config file's folder."""
    sync: str = "normal"
    """Either "normal": a killed process loses nothing that was acknowledged; "full": nor does a power cut."""
    remember_ids: Duration = Duration(600)
    """How long a publish with the same id is answered with the first one's serial. Ably: 2 minutes. On a channel
    without history, and without a cluster, it is that of the newest 1,000 ids."""
    keep_audit: Duration = Duration(30 * 86400)
    """How long audit records are kept."""


class Cluster(Strict, frozen=True):
    url: str = ""
    """The Redis or Valkey that daemons share: redis://USER:PASSWORD@HOST:PORT/DB, rediss:// for TLS, or unix:///PATH;
    redis+sentinel://USER:PASSWORD@HOST:PORT,HOST:PORT/SERVICE/DB where Sentinels say which one it is, with
    ?sentinel_username=USER&sentinel_password=PASSWORD where they ask for that;
    redis+cluster://USER:PASSWORD@HOST:PORT,HOST:PORT for a Redis Cluster; with rediss+ either is TLS.
    Left out: this daemon is alone. It needs the extra: pip install 'sower[cluster]'."""
    prefix: str = "sower"
    """What the names of all keys in Redis begin with; the daemons of one cluster have the same."""
    lease: Duration = Duration(10)
    """How long a daemon may be silent towards Redis before its members are taken away."""
    replicas: int = 0
    """Replicas of Redis that must have a message before it is acknowledged. 0: Redis itself."""


class Limits(Strict, frozen=True):
    connections: int = 100_000
    """Open connections in all. NATS: 65,536."""
    connections_per_address: int = 10_000
    """Open connections of one address. A proxy in front makes all clients one address."""
    connects: Rate = Rate(1000, 10_000)
    """New connections of one address; all clients may come back at once through one proxy."""
    refusals: Rate = Rate(5, 50)
    """Requests and sockets of one address that were refused for their credential."""
    publishes: Rate = Rate(50_000, 100_000)
    """Messages published with one key over HTTP, to all daemons of a cluster together."""
    frames: Rate = Rate(100, 1000)
    """Frames of one connection; a client that comes back subscribes to all its channels at once."""
    subscriptions: int = 1000
    """Channels that one connection may follow. Ably: 200."""
    channels: int = 500_000
    """Channels of all apps with somebody or something on them. One with a subscriber takes 9 KiB, with a member 13."""
    client_events: Rate = Rate(10, 20)
    """Messages published by one connection. Pusher allows 10 a second."""
    violations: int = 10
    """Frames over a limit that a connection may send before it is closed."""
    message: Size = Size(64 * 1024)
    """Bytes of one message's data, and of one frame. Ably and Centrifugo: 64 KiB."""
    batch: int = 1000
    """Messages in one publish request, channels times events."""
    channel_queue: int = 10_000
    """Commands that may wait on one channel."""
    members: int = 10_000
    """Members of one presence channel."""
    meta: Size = Size(4 * 1024)
    """Bytes of one member's meta."""
    polled: Size = Size(256 * 1024 * 1024)
    """Bytes of what channels said last that are kept for PubNub's clients until they poll again, of all channels. Past
    it, what was polled longest ago is let go: who comes back reads it from the history, or misses it without one."""


class Web(Strict, frozen=True):
    dashboard: bool = True
    """Whether /dashboard is served. It lets in who knows the secret of a key."""
    demo: bool = False
    """Whether /demo is served, with a rule of its own for the channel "demo". `sower serve --dev` switches it on."""


class Webhook(Strict, frozen=True):
    """Pusher's webhooks, as man/sower-webhooks.7 tells them."""

    url: str
    """Where to POST: http:// or https://. One table for each URL."""
    events: tuple[Fact, ...] = (
        Fact.OCCUPIED,
        Fact.VACATED,
        Fact.MEMBER_ADDED,
        Fact.MEMBER_REMOVED,
        Fact.CACHE_MISS,
    )
    """What is told. Besides these there are client_event, for each event of a client, and subscription_count."""
    match: str = "*"
    """Only channels of this pattern: `*` stands for any run of characters."""
    headers: dict[str, str] = {}
    """Headers to send besides, such as {Authorization = "Bearer ..."}."""
    batch: int = 1
    """Events in one POST, at most."""
    retry_for: Duration = Duration(300)
    """How long a POST that is not accepted is repeated, Pusher's 5 minutes. Its Python SDK refuses older ones."""
    timeout: Duration = Duration(10)
    """How long the receiver may take to answer."""
    queue: int = 100_000
    """POSTs that may wait for the receiver; past it, what happens is told to the log and the audit record alone."""


class PusherSettings(Strict, frozen=True):
    """The vendor's limits are the defaults."""

    event_data: Size = Size(10 * 1024)
    """Bytes of one event's data."""
    channels: int = 100
    """Channels that one event may be published on."""
    batch: int = 10
    """Events in one batch."""
    members: int = 100
    """Members of one presence channel that Pusher's clients may join."""
    user_id: int = 128
    """Characters of a user id."""
    user_info: Size = Size(1024)
    """Bytes of one member's user_info."""
    watchlist: int = 100
    """Users that a signed-in client may watch."""
    clock_skew: Duration = Duration(600)
    """How far the time of a signed request may be off."""
    activity_timeout: Duration = Duration(120)
    """After this long without a frame pusher-js asks for a sign of life."""
    authorised_within: Duration = Duration(0)
    """How long a client may stay that neither signed in nor joined a private channel. 0s: for ever."""


class AblySettings(Strict, frozen=True):
    """What Ably's SDKs may do in this app."""

    key: str = ""
    """The key that Ably's SDKs show, APPID.KEYID:SECRET; left out, it is ID.KEY:SECRET of the app."""
    keys: dict[str, dict[str, tuple[str, ...]]] = {}
    """Further keys and what each allows: "KEYNAME:SECRET" = {"chat:*" = ["subscribe", "history"]}."""
    publishes: Rate = Rate(50, 1000)
    """Messages published by one connection. Ably: 50 a second."""
    grace: Duration = Duration(15)
    """How long members stay whose connection was lost, Ably's own 15 seconds."""


class PubnubSettings(Strict, frozen=True):
    """The keyset of a team that comes from PubNub, and what PubNub's portal sets for one."""

    publish_key: str = ""
    """The publish key that clients show. Left out: pub- and the app's key."""
    subscribe_key: str = ""
    """The subscribe key that clients show. Left out: sub- and the app's key."""
    secret_key: str = ""
    """The secret key that servers sign with. Left out: the app's secret."""
    announce_max: int = 20
    """Members of a channel above which single joins and leaves are no longer announced, PubNub's default."""
    announce_every: Duration = Duration(10)
    """How often a channel with more members announces who came and went, PubNub's default."""


class App(Strict, frozen=True):
    id: str
    """Letters, digits, - and _. Pusher's SDK for Python demands digits alone."""
    key: str
    """The public name of the app's credential."""
    secret: str = ""
    """The current secret; at least 16 characters. Or secret_file."""
    secret_file: str = ""
    """A file whose first line is the current secret and whose second, if any, the one that is being retired."""
    old_secret: str = ""
    """The secret that is being retired: still accepted, no longer used to mint (`sower key rotate`)."""
    client_events: bool = True
    """Whether this app's clients may publish over their sockets, where the channel's rule allows it."""
    enabled: bool = True
    """Whether the app is served at all."""
    connections: int = 100_000
    """Open WebSockets of this app."""
    subscription_count: bool = False
    """Whether Pusher's clients are told how many follow a channel, above 100 of them every 5 s."""
    webhooks: tuple[Webhook, ...] = ()
    """Receivers that are told what happens on the app's channels. One table each."""
    pusher: PusherSettings = PusherSettings()
    """What Pusher's SDKs may do in this app."""
    ably: AblySettings = AblySettings()
    """What Ably's SDKs may do in this app."""
    pubnub: PubnubSettings = PubnubSettings()
    """The keys of PubNub's SDKs, and how their presence events are told."""


class History(Strict, frozen=True):
    messages: int = 100
    """The newest messages of a channel that are kept, at most."""
    age: Duration = Duration(72 * 3600)
    """How long a message is kept, at most."""


class ChannelRule(Strict, frozen=True):
    match: str
    """A pattern: `*` stands for any run of characters. The first rule that matches a channel is its rule."""
    private: bool | None = None
    """Whether subscribing needs a credential. Left out: true for private-* and presence-*, which always need one."""
    presence: bool | None = None
    """Whether the channel knows who is there. Left out: true for presence-*."""
    grace: Duration = Duration(2)
    """How long a member whose last connection is gone stays, so that a page reload is silent."""
    client_events: bool | None = None
    """Whether subscribers may publish over their sockets. Left out: true for private channels."""
    cache: Duration | None = None
    """How long the last event is kept and given to newcomers. Left out: 30m for cache-*, private-cache-*,
    private-encrypted-cache-* and presence-cache-*, else not."""
    history: History | None = None
    """What the journal keeps. Left out: nothing."""


class Config(Strict, frozen=True):
    server: Server = Server()
    session: SessionSettings = SessionSettings()
    store: Store = Store()
    cluster: Cluster = Cluster()
    limits: Limits = Limits()
    web: Web = Web()
    apps: tuple[App, ...] = ()
    channels: tuple[ChannelRule, ...] = ()
