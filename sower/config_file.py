"""The config file: found, read, checked; each error with its line, its key, and what would be right.

--config FILE, else ./sower.toml, else /etc/sower/sower.toml; for `serve --dev` and for commands that find
none of these, the development config in SOWER_DEV_DIR, by default ~/.local/state/sower.
"""

from __future__ import annotations

import difflib
import os
import re
import secrets
import stat
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast, get_args, get_origin

import msgspec

from sower.config import App, ChannelRule, Config, Duration, History, Rate, Size, Strict
from sower.config_sense import Problem, sense
from sower.errors import ConfigError
from sower.quantities import parse_duration, parse_rate, parse_size
from sower.there import is_there
from sower.toml_lines import line_of

PLACES = (Path("sower.toml"), Path("/etc/sower/sower.toml"))

DEV_CONFIG = """\
# Made by `sower serve --dev` for this account alone. Delete the folder to begin anew.

[server]
listen = ["127.0.0.1:8787"]

[[apps]]
id = "1001"
key = "{key}"
secret = "{secret}"

[[channels]]
match = "*"
client_events = true
history = {{messages = 1000, age = "24h"}}
"""

DEMO = ChannelRule(
    match="demo", private=False, presence=True, client_events=True, history=History(messages=1000, age=Duration(3600))
)
"""The rule of the channel on which /demo talks: anybody may, as someone or other."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A config and the file that it came from."""

    config: Config
    path: Path


def find_config(given: Path | None, *, dev_too: bool = False) -> Loaded:
    """Load the given file, or the first that is there. Raises ConfigError."""
    if given is not None:
        return load(given)
    for place in PLACES:
        if is_there(place):
            return load(place)
    if dev_too and is_there(dev_folder() / "sower.toml"):
        return load_dev()
    raise ConfigError(
        "There is no config: neither ./sower.toml nor /etc/sower/sower.toml."
        " Make one with `sower config init`, or try `sower serve --dev`."
    )


def load_dev() -> Loaded:
    """Load the development config, made on the first run. Raises ConfigError."""
    folder = dev_folder()
    path = folder / "sower.toml"
    if not is_there(path):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"The folder {folder} cannot be made: {error.strerror}. Set SOWER_DEV_DIR.") from error
        write_private(path, DEV_CONFIG.format(key=f"dev-{secrets.token_hex(4)}", secret=secrets.token_hex(16)))
    loaded = load(path)
    web = msgspec.structs.replace(loaded.config.web, demo=True)
    return Loaded(_with_demo(msgspec.structs.replace(loaded.config, web=web)), path)


def dev_folder() -> Path:
    """Where the development config and its database are. Raises ConfigError for an account without a home."""
    named = os.environ.get("SOWER_DEV_DIR")
    if named:
        return Path(named)
    try:
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    except RuntimeError as error:
        raise ConfigError(
            "This account has no home folder. Set SOWER_DEV_DIR, or name a file with --config."
        ) from error
    return Path(state) / "sower"


def write_private(path: Path, text: str) -> None:
    """Write a file that holds secrets, whole or not at all. A new one is for its owner's eyes only; one that is
    there keeps its owner and mode, and a link to it stays a link. Raises ConfigError.
    """
    target = Path(os.path.realpath(path))
    beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            if target.exists():
                _take_after(file.fileno(), target.stat())
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        raise ConfigError(f"{path} cannot be written: {error.strerror}.") from error


def _take_after(descriptor: int, other: os.stat_result) -> None:
    own = os.fstat(descriptor)
    if (own.st_uid, own.st_gid) != (other.st_uid, other.st_gid):
        os.fchown(descriptor, other.st_uid, other.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(other.st_mode))


def load(path: Path) -> Loaded:
    """Read and check a config file. Raises ConfigError that names each line and key that is wrong."""
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text (byte {error.start}).") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    return Loaded(parse(text, path), path)


def parse(text: str, path: Path) -> Config:
    """Check a config's text. Relative files count from the folder of `path`. Raises ConfigError."""
    try:
        raw = tomllib.loads(text)
    except ValueError as error:  # a number of thousands of digits is one that is no TOMLDecodeError
        raise ConfigError(_no_toml(text, path, str(error))) from error
    except RecursionError as error:
        raise ConfigError(f"{path}: is nested too deeply.") from error
    problems = list(_shape(raw, Config, ()))
    if not problems:
        config, problems = _with_secrets(msgspec.convert(raw, Config, dec_hook=_read_quantity), path.parent)
        problems += sense(config)
        if not problems:
            return _with_demo(_absolute(config, path.parent))
    lines = [(line_of(text, problem.path), problem) for problem in problems]
    told = sorted(lines, key=lambda one: one[0])
    raise ConfigError("\n".join(f"{path}:{line}: {dotted(p.path)}: {p.text}" for line, p in told))


def _no_toml(text: str, path: Path, said: str) -> str:
    """What tomllib said, its line in front as in all other errors."""
    place = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", said)
    if place is None:
        return f"{path}: is no TOML: {said}"
    line = place[1] or text.rstrip().count("\n") + 1
    return f"{path}:{line}: is no TOML: {said}"


def dotted(path: tuple[str | int, ...]) -> str:
    """A key's path as people write it: apps[0].secret."""
    out = ""
    for part in path:
        key = part if isinstance(part, int) or part.isprintable() else repr(part)
        out += f"[{key}]" if isinstance(part, int) else f".{key}" if out else str(key)
    return out or "the file"


# The shape: unknown keys and wrong types, all of them at once


def _shape(raw: dict[str, Any], struct: type[Strict], path: tuple[str | int, ...]) -> Iterator[Problem]:
    fields = _fields(struct)
    for name, value in raw.items():
        field = fields.get(name)
        if field is None:
            near = difflib.get_close_matches(name, fields, n=1, cutoff=0.5)
            known = f"did you mean {near[0]}?" if near else f"known here: {', '.join(fields)}"
            yield Problem((*path, name), f"unknown key; {known}")
        else:
            yield from _value(value, field.type, (*path, name))
    for name, field in fields.items():
        if name not in raw and field.required:
            yield Problem((*path, name), "is missing")


@cache
def _fields(struct: type[Strict]) -> dict[str, msgspec.structs.FieldInfo]:
    """By name. Each look at them leaves garbage for the collector, and a config is read again with each reload."""
    return {field.name: field for field in msgspec.structs.fields(struct)}


def _value(value: Any, kind: Any, path: tuple[str | int, ...]) -> Iterator[Problem]:
    inner = _struct_in(kind)
    if inner is None:
        try:
            msgspec.convert(value, kind, dec_hook=_read_quantity)
        except (msgspec.ValidationError, ValueError) as error:
            yield Problem(path, str(error))
    elif get_origin(kind) is not tuple:
        yield from _table(value, inner, path)
    elif isinstance(value, list):
        for index, entry in enumerate(cast(list[Any], value)):
            yield from _table(entry, inner, (*path, index))
    else:
        yield Problem(path, f"is one of several tables: write [[{dotted(path)}]]")


def _table(value: Any, struct: type[Strict], path: tuple[str | int, ...]) -> Iterator[Problem]:
    if isinstance(value, dict):
        yield from _shape(cast(dict[str, Any], value), struct, path)
    else:
        yield Problem(path, "must be a table")


def _struct_in(kind: Any) -> type[Strict] | None:
    """The struct that a field holds: itself, or several, or none."""
    for candidate in (kind, *get_args(kind)):
        if isinstance(candidate, type) and issubclass(candidate, Strict):
            return candidate
    return None


def _read_quantity(kind: type, value: object) -> object:
    if kind is Duration:
        return parse_duration(value)
    if kind is Size:
        return parse_size(value)
    if kind is Rate:
        return parse_rate(value)
    raise TypeError(f"{kind} is no quantity")


# Files that the config names


def _with_demo(config: Config) -> Config:
    """The config with a rule for the demo's channel, where the demo is served and no rule is for it already."""
    if not config.web.demo or any(rule.match == DEMO.match for rule in config.channels):
        return config
    return msgspec.structs.replace(config, channels=(DEMO, *config.channels))


def _absolute(config: Config, folder: Path) -> Config:
    store = msgspec.structs.replace(config.store, path=str(folder / config.store.path))
    named = {name: getattr(config.server, name) for name in ("certificate", "certificate_key")}
    files = {name: str(folder / file) for name, file in named.items() if file}
    server = msgspec.structs.replace(config.server, **files)
    return msgspec.structs.replace(config, store=store, server=server)


def _with_secrets(config: Config, folder: Path) -> tuple[Config, list[Problem]]:
    """The config with what its secret files say. After a problem the app has a secret that nobody knows."""
    apps: list[App] = []
    problems: list[Problem] = []
    for index, app in enumerate(config.apps):
        if app.secret_file:
            path = ("apps", index, "secret_file")
            secret, old = secrets.token_hex(), ""
            if app.secret or app.old_secret:
                problems.append(Problem(path, "stands alone: leave secret and old_secret out"))
            try:
                secret, old = _read_secrets(folder / app.secret_file)
            except (OSError, ValueError) as error:  # ValueError: no UTF-8, or a NUL in the name
                problems.append(Problem(path, f"cannot be read: {error}"))
            app = msgspec.structs.replace(app, secret=secret, old_secret=old)
        apps.append(app)
    return msgspec.structs.replace(config, apps=tuple(apps)), problems


def _read_secrets(path: Path) -> tuple[str, str]:
    """The current secret and the old one, each a line."""
    current, old = [*(line.strip() for line in path.read_bytes().decode().split("\n")), "", ""][:2]
    return current, old
