"""What a config's types cannot say: that an address is one, that a rule can be reached, that a secret is long."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from sower.config import App, ChannelRule, Config, Strict, Webhook
from sower.core.happening import Fact
from sower.dialects.ably.capability import check_operations
from sower.dialects.ably.keys import key_of
from sower.dialects.pubnub.keys import publish_key, subscribe_key
from sower.errors import BadParameter
from sower.net.proxies import Trusted

MAY_BE_ZERO = ("sleep_after", "grace", "authorised_within", "watchlist")

LARGEST = 2**53
"""What a number is at most: JSON's readers hold it, and SQLite does."""

APP_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""soketi's apps have names. `sower key new` gives digits, because Pusher's SDK for Python takes nothing else."""

LEAST_SECRET = 16
"""Characters of a secret. Pusher's have 20, Ably's 43."""

ORIGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://(\*\.)?[^/?#*\s]+")
"""A scheme and a host, where the first label may be `*`; a browser sends no path (RFC 6454 section 6.2)."""

_LABEL = r"[A-Za-z0-9_-]{1,63}"
_PORT = r"(:([0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?"
URL = re.compile(rf"https?://({_LABEL}(\.{_LABEL})*|\[[0-9A-Fa-f:.]+\]){_PORT}([/?][!\"$-~]*)?")
"""A webhook's, in ASCII as it is sent: without user:password, which logs and lists would show."""

PORT = re.compile(r"[0-9]{1,5}")

SHARED = ("redis://", "rediss://", "unix:///")

_HOST = rf"({_LABEL}(\.{_LABEL})*|\[[0-9A-Fa-f:.]+\]){_PORT}"
_HOSTS = rf"([^/?#]*@)?{_HOST}(,{_HOST})*"
_OPTION = r"(db=[0-9]{1,9}|(username|password)=[^&#]+)"
ONE = re.compile(rf"(rediss?://([^/?#]*@)?{_HOST}(/[0-9]{{0,9}})?|unix:///[^?#]+)(\?{_OPTION}(&{_OPTION})*)?")
_ASKED = r"sentinel_(username|password)=[^&#]+"
SEVERAL = re.compile(
    rf"rediss?\+(cluster://{_HOSTS}|sentinel://{_HOSTS}/[^/?#]+(/[0-9]{{1,9}})?(\?{_ASKED}(&{_ASKED})*)?)"
)
"""What the client of Redis takes: it fails at other ports, and passes over a database that is no number."""

ONE_IS = "is redis://USER:PASSWORD@HOST:PORT/DB or unix:///PATH; what a user and a password hold is percent-encoded"

SEVERAL_ARE = "is redis+cluster://USER:PASSWORD@HOST:PORT,HOST:PORT or redis+sentinel://...HOST:PORT/SERVICE/DB"

HEADER_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")

OWN_HEADERS = ("content-type", "content-length", "transfer-encoding", "host", "x-pusher-key", "x-pusher-signature")


class Problem(msgspec.Struct, frozen=True):
    """What is wrong at one key."""

    path: tuple[str | int, ...]
    text: str


def sense(config: Config) -> list[Problem]:
    problems: list[Problem] = []
    if not config.apps:
        problems.append(Problem(("apps",), "at least one [[apps]] table is needed; `sower config init` shows one"))
    if config.store.sync not in ("normal", "full"):
        problems.append(Problem(("store", "sync"), f'is "normal" or "full", not "{config.store.sync}"'))
    if not config.store.path or "\0" in config.store.path:
        problems.append(Problem(("store", "path"), "names no file"))
    for index, origin in enumerate(config.server.origins):
        if origin not in ("*", "null") and not ORIGIN.fullmatch(origin):
            text = f'{origin!r} is no origin: "https://example.com", "https://*.example.com" or "*", and no path'
            problems.append(Problem(("server", "origins", index), text))
    if not config.server.listen:
        problems.append(Problem(("server", "listen"), "names no address"))
    problems += _proxies(config)
    for index, entry in enumerate(config.server.listen):
        if entry.startswith("unix:/") and "\0" not in entry:
            continue
        address = entry.removeprefix("tls:")
        if address != entry and not config.server.certificate:
            problems.append(Problem(("server", "listen", index), f"{entry!r} needs server.certificate"))
        if not _is_address(address):
            text = f"{address!r} is not HOST:PORT or [HOST]:PORT, and no unix:/PATH"
            problems.append(Problem(("server", "listen", index), text))
    for section in ("server", "session", "store", "limits"):
        problems += _positive(getattr(config, section), (section,))
    problems += _cluster(config)
    return [*problems, *_apps(config.apps), *_keys(config.apps), *_rules(config.channels)]


def _is_address(text: str) -> bool:
    """Whether this is HOST:PORT, or [HOST]:PORT for IPv6."""
    host, colon, port = text.rpartition(":")
    try:
        host.encode("idna")  # as the resolver does
    except UnicodeError:
        return False
    bare = ":" in host and not (host.startswith("[") and host.endswith("]"))
    return bool(colon and host and not bare and PORT.fullmatch(port) and int(port) < 65536)


def _cluster(config: Config) -> Iterator[Problem]:
    cluster = config.cluster
    several, one = "+" in cluster.url.partition(":")[0], cluster.url.startswith(SHARED)
    for wrong, name, text in (
        (several and not SEVERAL.fullmatch(cluster.url), "url", SEVERAL_ARE),
        (one and not ONE.fullmatch(cluster.url), "url", ONE_IS),
        (cluster.url and not several and not one, "url", f"begins with {' or '.join(SHARED)}"),
        (
            not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", cluster.prefix),
            "prefix",
            "has 1 to 64 letters, digits, ., - and _",
        ),
        (cluster.lease < 2, "lease", "is at least 2s: it outlives a few heartbeats that are lost"),
        (cluster.replicas < 0, "replicas", "must not be below 0"),
        (cluster.replicas > LARGEST, "replicas", f"must be at most {LARGEST}"),
    ):
        if wrong:
            yield Problem(("cluster", name), text)


def _proxies(config: Config) -> Iterator[Problem]:
    for index, entry in enumerate(config.server.trusted_proxies):
        try:
            Trusted((entry,))
        except ValueError as error:
            yield Problem(("server", "trusted_proxies", index), f"is no address, network or unix: {error}")
    if config.server.proxy_protocol and not config.server.trusted_proxies:
        yield Problem(("server", "proxy_protocol"), "needs server.trusted_proxies, or nobody is believed")


def _positive(struct: Strict, path: tuple[str | int, ...]) -> Iterator[Problem]:
    for name in struct.__struct_fields__:
        value = getattr(struct, name)
        if not isinstance(value, int | float) or isinstance(value, bool):
            continue
        if value < 0 or (value == 0 and name not in MAY_BE_ZERO):
            yield Problem((*path, name), f"must {'not be below' if name in MAY_BE_ZERO else 'be above'} 0")
        elif value > LARGEST:
            yield Problem((*path, name), f"must be at most {LARGEST}")


def _apps(apps: tuple[App, ...]) -> Iterator[Problem]:
    for index, app in enumerate(apps):
        path = ("apps", index)
        if not APP_ID.fullmatch(app.id):
            yield Problem((*path, "id"), f"has 1 to 64 letters, digits, - and _; this is {app.id!r}")
        if not app.key or ":" in app.key or not app.key.isprintable():
            yield Problem((*path, "key"), "is a text without a colon")
        for name in ("secret", "old_secret"):
            secret = getattr(app, name)
            if (secret or name == "secret") and len(secret) < LEAST_SECRET:
                text = f"has at least {LEAST_SECRET} characters; `openssl rand -hex 16` makes one"
                if app.secret_file:
                    yield Problem((*path, "secret_file"), f"the {name} there {text}")
                else:
                    yield Problem((*path, name), text)
        yield from _positive(app, path)
        yield from _positive(app.pusher, (*path, "pusher"))
        yield from _webhooks(app.webhooks, (*path, "webhooks"))
        for name in ("id", "key"):
            if getattr(app, name) in [getattr(other, name) for other in apps[:index]]:
                yield Problem((*path, name), f"is another app's {name} already")


def _webhooks(webhooks: tuple[Webhook, ...], apps_path: tuple[str | int, ...]) -> Iterator[Problem]:
    for index, webhook in enumerate(webhooks):
        path = (*apps_path, index)
        if not URL.fullmatch(webhook.url):
            text = (
                f"{webhook.url!r} is not http://HOST/PATH or https://HOST/PATH; what proves who calls goes into headers"
            )
            yield Problem((*path, "url"), text)
        if webhook.url in [other.url for other in webhooks[:index]]:
            yield Problem((*path, "url"), "is another webhook's url already; a ?query tells two apart")
        if not webhook.events:
            yield Problem((*path, "events"), f"names nothing; there are {', '.join(Fact)}")
        for name, value in webhook.headers.items():
            if not HEADER_NAME.fullmatch(name) or not (value.isascii() and value.isprintable()):
                yield Problem(
                    (*path, "headers", name), "is no header of letters, digits and - with a value of one line"
                )
            elif name.lower() in OWN_HEADERS:
                yield Problem((*path, "headers", name), "is set by the daemon itself")
        yield from _positive(webhook, path)


def _keys(apps: tuple[App, ...]) -> Iterator[Problem]:
    """What is wrong with the keys that the vendors' SDKs show: each is one app's alone, whatever protocol it is of."""
    known = {app.key for app in apps}
    for index, app in enumerate(apps):
        pubnub, ably = ("apps", index, "pubnub"), ("apps", index, "ably")
        yield from _positive(app.pubnub, pubnub)
        for name, key in (("publish_key", publish_key(app)), ("subscribe_key", subscribe_key(app))):
            if not key.isprintable() or "/" in key or key in known:
                yield Problem((*pubnub, name), f"{key!r} is another key already, or holds what a path cannot")
            known.add(key)
        if app.pubnub.secret_key and len(app.pubnub.secret_key) < LEAST_SECRET:
            yield Problem((*pubnub, "secret_key"), f"has at least {LEAST_SECRET} characters")
        for text, allowed in app.ably.keys.items():
            try:
                check_operations(allowed)
            except BadParameter as error:
                yield Problem((*ably, "keys"), f"{text.partition(':')[0]!r}: {error.message}")  # not its secret
        for number, text in enumerate((key_of(app), *app.ably.keys)):
            path, (key, _, secret) = (*ably, "keys" if number else "key"), text.partition(":")
            given = bool(number or app.ably.key)
            if given and (not key or len(secret) < LEAST_SECRET):
                yield Problem(path, f"{key!r} is no KEYNAME:SECRET with a secret of {LEAST_SECRET} characters")
            elif key in known:
                yield Problem(path, f"{key!r} is another key already")
            known.add(key)


def _rules(rules: tuple[ChannelRule, ...]) -> Iterator[Problem]:
    for index, rule in enumerate(rules):
        path = ("channels", index)
        for earlier, other in enumerate(rules[:index]):
            if other.match in (rule.match, "*"):
                text = f"is never reached: channels[{earlier}] with match = {other.match!r} comes first"
                yield Problem((*path, "match"), text)
                break
        if rule.history is not None:
            yield from _positive(rule.history, (*path, "history"))
        if rule.private is False and rule.match.startswith(("private-", "presence-")):
            yield Problem((*path, "private"), "channels that begin with private- or presence- are always private")
