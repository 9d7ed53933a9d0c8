"""Taking a changed config over while the daemon serves.

Rule 1: nobody who is connected notices. What cannot be changed so is named, and waits for a restart.
Rule 2: a config that is wrong changes nothing: the one in force stays in force, as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec
import structlog

from sower.config import App, Config, Strict
from sower.core.answer import Reloaded
from sower.errors import ConfigError
from sower.store.audit import Audit
from sower.systemd import Systemd

log = structlog.get_logger(__name__)

KEPT = {
    "server": frozenset({"listen"}),
    "session": frozenset[str](),
    "limits": frozenset[str](),
}
"""Sections that are taken over, and what of them waits for a restart; every other section waits as a whole."""

CERTIFICATE = frozenset({"certificate", "certificate_key"})
"""Where these are left out they wait as well: the addresses that show the one from before stay until a restart."""

APP_KEPT = frozenset({"webhooks", "subscription_count"})
"""What of an app waits for a restart."""


class Merged(NamedTuple):
    """config: the old one with what can be taken over. taken, waiting: the paths of what is different."""

    config: Config
    taken: tuple[str, ...]
    waiting: tuple[str, ...]


def merge(old: Config, new: Config) -> Merged:
    """The config to go on with."""
    taken: list[str] = []
    waiting: list[str] = []
    sections: dict[str, Any] = {}
    for section in old.__struct_fields__:
        if section == "apps":
            sections[section] = _merge_apps(old.apps, new.apps, taken, waiting)
        elif section in KEPT:
            before, after, kept = getattr(old, section), getattr(new, section), KEPT[section]
            if section == "server" and not new.server.certificate:
                kept |= CERTIFICATE
            sections[section] = _merge_fields(before, after, kept, section, taken, waiting)
        elif getattr(old, section) != getattr(new, section):
            waiting.extend(_different(getattr(old, section), getattr(new, section), section))
    return Merged(msgspec.structs.replace(old, **sections), tuple(taken), tuple(waiting))


def _merge_apps(old: tuple[App, ...], new: tuple[App, ...], taken: list[str], waiting: list[str]) -> tuple[App, ...]:
    before = {app.id: app for app in old}
    taken.extend(f"apps {app.id} (gone)" for app in old if app.id not in {other.id for other in new})
    merged: list[App] = []
    for app in new:
        known = before.get(app.id)
        if known is None:
            taken.append(f"apps {app.id} (new)")
            waiting.extend(f"apps {app.id}.{name}" for name in sorted(APP_KEPT) if getattr(app, name))
            merged.append(app)
        else:
            merged.append(_merge_fields(known, app, APP_KEPT, f"apps {app.id}", taken, waiting))
    return tuple(merged)


def _merge_fields(old: Any, new: Any, kept: frozenset[str], path: str, taken: list[str], waiting: list[str]) -> Any:
    fields: dict[str, Any] = {}
    for name in old.__struct_fields__:
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            (waiting if name in kept else taken).append(f"{path}.{name}")
            fields[name] = before if name in kept else after
    return msgspec.structs.replace(old, **fields) if fields else old


def _different(old: Any, new: Any, path: str) -> Iterator[str]:
    """The paths under one path where two configs differ."""
    if isinstance(old, Strict):
        for name in old.__struct_fields__:
            if getattr(old, name) != getattr(new, name):
                yield f"{path}.{name}"
    else:
        yield path


class Reloader:
    """Reads the config anew when asked to.

    reread: reads and checks the file, or raises ConfigError
    use:    has all parts go on with a config, or raises ConfigError and has changed nothing
    """

    def __init__(
        self,
        current: Config,
        reread: Callable[[], Config],
        use: Callable[[Config], None],
        audit: Audit,
        systemd: Systemd,
    ) -> None:
        self._current = current
        self._reread = reread
        self._use = use
        self._audit = audit
        self._systemd = systemd

    def reload(self) -> Reloaded:
        """Take over what can be. Raises ConfigError, and then the old config is in force."""
        self._systemd.reloading()
        try:
            merged = merge(self._current, self._reread())
            self._use(merged.config)
        except ConfigError as error:
            log.error("reload_refused", why=error.message)
            self._audit.record("reload_refused", code=error.code, detail=error.message)
            self._systemd.ready("serving the config from before; the new one is wrong")
            raise
        self._current = merged.config
        log.info("reloaded", taken=merged.taken, restart_needed=merged.waiting)
        self._audit.record("reloaded", detail=" ".join(merged.taken) or "nothing is different")
        self._systemd.ready(f"restart needed for {' '.join(merged.waiting)}" if merged.waiting else "reloaded")
        return Reloaded(merged.taken, merged.waiting)
