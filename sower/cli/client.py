"""How commands find the daemon and speak to it."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple, cast
from urllib.parse import quote, urlencode

import httpx
import msgspec
import typer
from trio_websocket import ConnectionRejected, HandshakeError, WebSocketConnection, open_websocket_url

from sower.cli.terminal import parse_json, usage
from sower.config import App, Config
from sower.config_file import find_config
from sower.errors import (
    BadRequest,
    ConfigError,
    DaemonUnreachable,
    NotAuthorised,
    NotFound,
    SowerError,
    Unavailable,
    tree,
)

PATIENCE = 30.0
"""Seconds to wait for an answer."""

CONNECT_WITHIN = 10.0
"""Seconds for a WebSocket handshake; trio-websocket takes 60 where a daemon dies before it answers."""

MAX_MESSAGE = 16 * 1024 * 1024
"""Bytes of one frame that a command reads: a welcome lists every member."""

ConfigOption = Annotated[Path | None, typer.Option("--config", help="The config file with the app's key and secret.")]
UrlOption = Annotated[str | None, typer.Option("--url", envvar="SOWER_URL", help="Where the daemon is.")]
AppOption = Annotated[str | None, typer.Option("--app", help="The id of the app, else the config's first.")]
KeyOption = Annotated[str | None, typer.Option("--key", help="The key, for a daemon whose config is elsewhere.")]
SecretOption = Annotated[
    str | None, typer.Option("--secret-file", help="A file with the secret of --key, or - for stdin.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Daemon(NamedTuple):
    """A daemon and the credentials to use. url: without a slash at its end."""

    url: str
    key: str
    secret: str

    async def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """One request. Raises DaemonUnreachable, or the error that the daemon told."""
        try:
            async with httpx.AsyncClient(base_url=self.url, timeout=PATIENCE, trust_env=False) as client:
                answer = await client.request(
                    method,
                    path,
                    content=None if body is None else msgspec.json.encode(body),
                    headers={} if body is None else {"Content-Type": "application/json"},
                    auth=(self.key, self.secret),
                )
        except httpx.RequestError as error:
            raise self._unreachable(error) from error
        except httpx.InvalidURL as error:
            raise BadRequest(f"This cannot be asked: {error}.") from error
        told = _object(answer.content)
        if answer.status_code != 200 or not told:
            raise refusal(told, f"{self.url} answered {answer.status_code}", answer.status_code)
        return told

    @asynccontextmanager
    async def socket(self, channel: str, since: str | None) -> AsyncGenerator[WebSocketConnection]:
        """A WebSocket on a channel. Raises DaemonUnreachable, or the error that the daemon told."""
        query = f"?{urlencode({'since': since})}" if since else ""
        target = f"ws{self.url.removeprefix('http')}/ws/{quote(channel, safe='')}{query}"
        basic = httpx.BasicAuth(self.key, self.secret)._auth_header.encode()  # pyright: ignore[reportPrivateUsage]
        opening = open_websocket_url(
            target,
            extra_headers=[(b"Authorization", basic)],
            max_message_size=MAX_MESSAGE,
            connect_timeout=CONNECT_WITHIN,
        )
        async with AsyncExitStack() as stack:
            try:
                connection = await stack.enter_async_context(opening)
            except ConnectionRejected as error:
                said = f"{self.url} answered {error.status_code}"
                raise refusal(_object(error.body or b""), said, error.status_code) from error
            except (OSError, HandshakeError) as error:
                raise self._unreachable(error) from error
            yield connection

    def _unreachable(self, why: Exception) -> DaemonUnreachable:
        told = str(why) or str(why.__cause__ or "") or type(why).__name__
        return DaemonUnreachable(f"No daemon answers at {self.url}: {told.rstrip('.')}.")


def find_daemon(
    config: Path | None, url: str | None, app: str | None, key: str | None, secret_file: str | None
) -> Daemon:
    """The daemon and credentials that the options name, else those of the config. Raises ConfigError."""
    with usage("--url"):
        url = url and checked_url(url)
    if (key is None) != (secret_file is None) or (key is not None and not url):
        raise typer.BadParameter("--key, --secret-file and --url go together: they name a daemon elsewhere.")
    if key is not None and (config is not None or app is not None):
        raise typer.BadParameter("it names the app itself; leave --config and --app out.", param_hint="--key")
    if url and key is not None and secret_file is not None:
        return Daemon(url, key, _read_secret(secret_file))
    loaded = find_config(config, dev_too=True)
    chosen = choose_app(loaded.config, app)
    return Daemon(url or _reachable(loaded.config.server.listen), chosen.key, chosen.secret)


def choose_app(config: Config, app: str | None) -> App:
    """The app of this id, or the first. Raises ConfigError."""
    for candidate in config.apps:
        if app in (None, candidate.id, candidate.key):
            return candidate
    raise ConfigError(f"No app has the id {app!r}; there are {', '.join(a.id for a in config.apps)}.")


def told_error(told: Mapping[str, Any], otherwise: str, unnamed: type[SowerError] = BadRequest) -> SowerError:
    """The error of the tree that a daemon's JSON names. unnamed: what it is where no name of ours is told."""
    kind = tree().get(str(told.get("code")), unnamed)
    error = kind.__new__(kind)
    SowerError.__init__(error, str(told.get("message") or otherwise), retry_after=told.get("retry_after"))
    return error


def refusal(answer: Mapping[str, Any], said: str, status: int) -> SowerError:
    """The error of an HTTP answer: the daemon's, or one that fits the status where something else answered."""
    told = answer.get("error")
    if isinstance(told, dict):
        return told_error(cast(dict[str, Any], told), f"{said}.", Unavailable if status >= 500 else BadRequest)
    kind = NotAuthorised if status in (401, 403) else Unavailable if status in (408, 429) or status >= 500 else NotFound
    return kind(f"{said}, and not as a Sower does.")


def _reachable(listen: Sequence[str]) -> str:
    """The URL of the first address that can be dialled, those without TLS first. Raises ConfigError."""
    dialled = sorted((entry for entry in listen if not entry.startswith("unix:")), key=lambda e: e.startswith("tls:"))
    if not dialled:
        raise ConfigError("The daemon listens at unix sockets alone; name a proxy's address with --url.")
    scheme = "https" if dialled[0].startswith("tls:") else "http"
    host, _, port = dialled[0].removeprefix("tls:").rpartition(":")
    return f"{scheme}://{ {'0.0.0.0': '127.0.0.1', '[::]': '[::1]'}.get(host, host) }:{port}"


def checked_url(url: str) -> str:
    """A URL without a slash at its end. Raises ValueError."""
    try:
        parsed = httpx.URL(url)
        parsed.host.encode("idna")  # as the resolver does
    except (httpx.InvalidURL, UnicodeError) as error:
        raise ValueError(f"{url!r} is no URL: {error}") from error
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.query:
        raise ValueError(f"{url!r} is not http://HOST:PORT or https://HOST")
    return str(parsed).rstrip("/")


def _read_secret(secret_file: str) -> str:
    try:
        if secret_file == "-":
            return sys.stdin.buffer.readline().decode().strip()
        return Path(secret_file).read_bytes().decode().split()[0]
    except (OSError, UnicodeDecodeError, IndexError) as error:
        raise ConfigError(f"The secret file {secret_file} cannot be read: {error}.") from error


def _object(body: bytes) -> dict[str, Any]:
    """A JSON object, an empty one for anything else."""
    try:
        told = parse_json(body)
    except (ValueError, RecursionError):
        return {}
    return cast(dict[str, Any], told) if isinstance(told, dict) else {}
