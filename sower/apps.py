"""Apps that are added while the daemon runs, beside the config's own.

Rule 1: an added app operates nothing: only who holds the secret of one of the config's apps adds and removes.
Rule 2: an id is given once, so that nobody reads what an app before it has kept.
Rule 3: what is acknowledged is on disk: in STORE.apps beside the database, for the daemon's account alone.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog
import trio

from sower.access import key_names
from sower.activity import Activity
from sower.clients import Clients
from sower.config import AblySettings, App, Config
from sower.config_file import write_private
from sower.config_sense import APP_ID
from sower.core.answer import AblyKey, Acknowledged, AddedApp, AppList, AppView
from sower.core.command import AddApp, ListApps, RemoveApp
from sower.core.grants import Grant
from sower.dialects.ably.capability import check_operations
from sower.dialects.ably.keys import key_of
from sower.errors import BadRequest, ConfigError, Forbidden, NotFound, TooMany, UnknownKey
from sower.polling.polls import Polls

log = structlog.get_logger(__name__)

MOST_APPS = 1000
"""Apps that may be there at a time."""

MOST_KEYS = 100
"""Further Ably keys of one app, the vendor's limit."""

FIRST_ID = 1001


class Added(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One app, as it is kept. keys: further Ably keys, NAME:SECRET, and what each allows."""

    id: str
    key: str
    secret: str
    keys: dict[str, dict[str, tuple[str, ...]]] = {}

    def app(self) -> App:
        """As the config would have it."""
        return App(id=self.id, key=self.key, secret=self.secret, ably=AblySettings(keys=self.keys))


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file. removed: ids that are not given again."""

    apps: tuple[Added, ...] = ()
    removed: tuple[str, ...] = ()


class AddedApps:
    """What was added, as it is on disk. Raises ConfigError where the file cannot be read."""

    def __init__(self, store: str) -> None:
        self._path = Path(f"{store}.apps")
        self.kept = self._read()

    def _read(self) -> Kept:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Kept)
        except FileNotFoundError:
            return Kept()
        except (OSError, ValueError) as error:
            raise ConfigError(f"{self._path}, which has the apps that were added, cannot be read: {error}.") from error

    async def fresh(self) -> Kept:
        """What there is, whoever added it."""
        return self.kept

    async def keep(self, kept: Kept) -> None:
        """Have the file say this. Raises ConfigError, and then it says what it said before."""
        text = msgspec.json.format(msgspec.json.encode(kept)).decode()
        await trio.to_thread.run_sync(write_private, self._path, text)
        self.kept = kept

    def beside(self, config: Config) -> Config:
        """A config with the added apps behind its own. One whose id or key the config has is left out."""
        taken = {app.id for app in config.apps}.union(*map(key_names, config.apps))
        apps = list(config.apps)
        for added in self.kept.apps:
            app = added.app()
            names = {app.id, *key_names(app)}
            if taken & names:
                log.error("added_app_left_out", app=app.id, why="the config has its id or a key of it")
            else:
                taken |= names
                apps.append(app)
        return msgspec.structs.replace(config, apps=tuple(apps))


class Apps:
    """Adds, lists and removes. changed: has all parts go on with the apps that are there now."""

    def __init__(
        self, added: AddedApps, clients: Clients, polls: Polls, activity: Activity, changed: Callable[[], None]
    ) -> None:
        self.own: Config = Config()
        self.all: Config = Config()
        self._added = added
        self._clients = clients
        self._polls = polls
        self._activity = activity
        self._changed = changed
        self._one_by_one = trio.Lock()

    async def add(self, grant: Grant, address: str, command: AddApp) -> AddedApp:
        """Add an app. Raises Forbidden, BadRequest, TooMany, ConfigError."""
        self._demand(grant)
        async with self._one_by_one:
            self.follow(await self._added.fresh())
            kept = self._added.kept
            made = self._make(command)
            await self._added.keep(Kept((*kept.apps, made), kept.removed))
            self._changed()
        self._activity.app_added(grant, address, made.id)
        own = AblyKey(key_of(made.app()), {"*": ("*",)})
        return AddedApp(made.id, made.key, made.secret, (own, *(AblyKey(key, can) for key, can in made.keys.items())))

    async def list(self, grant: Grant, address: str, command: ListApps) -> AppList:
        """Every app, the config's first. Raises Forbidden."""
        self._demand(grant)
        return AppList(
            tuple(
                AppView(app.id, app.key, app not in self.own.apps, self._clients.connections(app.id))
                for app in self.all.apps
            )
        )

    async def remove(self, grant: Grant, address: str, command: RemoveApp) -> Acknowledged:
        """Remove an app, and end its clients: their key is none any more. Raises Forbidden, NotFound."""
        self._demand(grant)
        async with self._one_by_one:
            self.follow(await self._added.fresh())
            kept = self._added.kept
            left = tuple(app for app in kept.apps if app.id != command.id)
            if len(left) == len(kept.apps):
                theirs = " The config has it: remove it there, and reload." if command.id in self._own_ids else ""
                raise NotFound(f"No app {command.id[:64]!r} was added.{theirs}")
            await self._added.keep(Kept(left, (*kept.removed, command.id)))
            self._changed()
        self._activity.app_removed(grant, address, command.id, self._end(command.id))
        return Acknowledged()

    def follow(self, kept: Kept) -> None:
        """Go on with what another daemon added and removed."""
        if kept == self._added.kept:
            return
        gone = {app.id for app in self._added.kept.apps}.difference(app.id for app in kept.apps)
        self._added.kept = kept
        self._changed()
        for app_id in gone:
            self._end(app_id)

    def _end(self, app_id: str) -> int:
        """End an app's clients. Returns how many sessions these were."""
        sessions = [session for session in self._clients.reader if session.grant.app == app_id]
        for session in sessions:
            session.end(UnknownKey(f"The app {app_id} was removed."))
        self._polls.end_app(app_id)
        return len(sessions)

    @property
    def _own_ids(self) -> set[str]:
        return {app.id for app in self.own.apps}

    def _demand(self, grant: Grant) -> None:
        if not grant.server or grant.app not in self._own_ids:
            raise Forbidden("Only who holds the secret of an app of the config adds, lists and removes apps.")

    def _make(self, command: AddApp) -> Added:
        if len(self.all.apps) >= MOST_APPS:
            raise TooMany(f"There are {MOST_APPS} apps, as many as may be.")
        if len(command.capabilities) > MOST_KEYS:
            raise BadRequest(f"An app has at most {MOST_KEYS} further Ably keys.")
        for allowed in command.capabilities:
            check_operations(allowed)
        app_id = self._free_id() if command.id is None else self._checked(command.id)
        keys = {
            f"{app_id}.{secrets.token_hex(4)}:{secrets.token_hex(16)}": dict(allowed)
            for allowed in command.capabilities
        }
        return Added(app_id, secrets.token_hex(8), secrets.token_hex(16), keys)

    def _checked(self, app_id: str) -> str:
        if not APP_ID.fullmatch(app_id):
            raise BadRequest(f"An app's id has 1 to 64 letters, digits, - and _; this is {app_id[:64]!r}.")
        if app_id in self._given:
            raise BadRequest(f"The id {app_id!r} was given already, and is not given twice.")
        return app_id

    @property
    def _given(self) -> set[str]:
        return {
            *(app.id for app in self.all.apps),
            *(app.id for app in self._added.kept.apps),
            *self._added.kept.removed,
        }

    def _free_id(self) -> str:
        return str(max((int(app_id) for app_id in self._given if app_id.isdecimal()), default=FIRST_ID - 1) + 1)
