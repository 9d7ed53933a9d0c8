"""How commands find the daemon and speak to it."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

import httpx
import typer
from trio_websocket import ConnectionRejected, HandshakeError, WebSocketConnection, open_websocket_url

from sower.config import App, Config
from sower.config_file import find_config
from sower.errors import ConfigError, DaemonUnreachable, NotAuthorised, SowerError, tree

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
                answer = await client.request(method, path, json=body, auth=(self.key, self.secret))
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise DaemonUnreachable(f"No daemon answers at {self.url}: {error or type(error).__name__}.") from error
        if answer.status_code != 200:
            raise told_error(_json(answer).get("error", {}), f"{self.url} answered {answer.status_code}.")
        return _json(answer)

    @asynccontextmanager
    async def socket(self, channel: str, since: str | None) -> AsyncGenerator[WebSocketConnection]:
        """A WebSocket on a channel. Raises DaemonUnreachable, or the error that the daemon told."""
        scheme = "wss" if self.url.startswith("https") else "ws"
        query = f"?{urlencode({'since': since})}" if since else ""
        target = f"{scheme}://{urlsplit(self.url).netloc}/ws/{quote(channel, safe='')}{query}"
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
                raise told_error({}, f"{self.url} answered {error.status_code}.", error.status_code) from error
            except (OSError, HandshakeError) as error:
                raise DaemonUnreachable(f"No daemon answers at {self.url}: {error}.") from error
            yield connection


def find_daemon(
    config: Path | None, url: str | None, app: str | None, key: str | None, secret_file: str | None
) -> Daemon:
    """The daemon and credentials that the options name, else those of the config. Raises ConfigError."""
    if key is not None:
        if url is None:
            raise ConfigError("--key is for a daemon elsewhere: name it with --url.")
        return Daemon(url.rstrip("/"), key, _read_secret(secret_file))
    loaded = find_config(config, dev_too=True)
    chosen = choose_app(loaded.config, app)
    return Daemon(
        (url or f"http://{_reachable(loaded.config.server.listen[0])}").rstrip("/"), chosen.key, chosen.secret
    )


def choose_app(config: Config, app: str | None) -> App:
    """The app of this id, or the first. Raises ConfigError."""
    for candidate in config.apps:
        if app in (None, candidate.id, candidate.key):
            return candidate
    raise ConfigError(f"No app has the id {app!r}; there are {', '.join(a.id for a in config.apps)}.")


def told_error(told: Mapping[str, Any], otherwise: str, status: int = 500) -> SowerError:
    """The error of the tree that a daemon's JSON names; where it names none, one that fits the status."""
    kind = tree().get(str(told.get("code")), NotAuthorised if status in (401, 403) else SowerError)
    error = kind.__new__(kind)
    SowerError.__init__(error, str(told.get("message") or otherwise))
    return error


def _reachable(listen: str) -> str:
    """An address to listen on as one to connect to."""
    host, _, port = listen.rpartition(":")
    return f"{ {'0.0.0.0': '127.0.0.1', '[::]': '[::1]'}.get(host, host) }:{port}"


def _read_secret(secret_file: str | None) -> str:
    if secret_file is None:
        raise ConfigError("--key needs --secret-file FILE, or --secret-file - to read the secret from stdin.")
    if secret_file == "-":
        return sys.stdin.readline().strip()
    try:
        return Path(secret_file).read_text().split()[0]
    except (OSError, IndexError) as error:
        raise ConfigError(f"The secret file {secret_file} cannot be read: {error}.") from error


def _json(answer: httpx.Response) -> dict[str, Any]:
    try:
        value = answer.json()
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType]
