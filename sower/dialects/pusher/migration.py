"""What the env files of Pusher's servers, of soketi and of Laravel Reverb say of an app, as an [[apps]] table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sower.errors import BadRequest

PREFIXES = ("PUSHER_APP_", "PUSHER_", "SOKETI_DEFAULT_APP_", "REVERB_APP_")
"""What stands before ID, KEY and SECRET: in Laravel's and the SDKs' files, in soketi's, in Reverb's."""

NAMES = {"id": "ID", "key": "KEY", "secret": "SECRET"}

MOST_CONNECTIONS = ("MAX_CONNS", "MAX_CONNECTIONS")
"""soketi's -1, and Reverb's empty value, stand for no limit."""


def read_apps(variables: Mapping[str, str]) -> list[dict[str, Any]]:
    """The apps that an env file names, each once. Raises BadRequest where there is none, or one is not whole."""
    apps: list[dict[str, Any]] = []
    for prefix in PREFIXES:
        app: dict[str, Any] = {name: variables.get(prefix + what, "") for name, what in NAMES.items()}
        if prefix == "PUSHER_":
            app["id"] = app["id"] or variables.get("PUSHER_APP_ID", "")
        if not app["key"] or not app["secret"]:
            continue
        if not app["id"]:
            raise BadRequest(f"There is {prefix}KEY, but no {prefix}ID: an app needs the id that its SDKs ask for.")
        app |= _settings(variables, prefix)
        if app["id"] not in [known["id"] for known in apps]:
            apps.append(app)
    if not apps:
        wanted = ", ".join(f"{prefix}KEY" for prefix in PREFIXES)
        raise BadRequest(f"No app is named: none of {wanted} is there, with its ID and its SECRET.")
    return apps


def _settings(variables: Mapping[str, str], prefix: str) -> dict[str, Any]:
    """What besides its keys is said of an app."""
    found: dict[str, Any] = {}
    events = variables.get(f"{prefix}ENABLE_CLIENT_MESSAGES", "").lower()
    if events:
        found["client_events"] = events in ("true", "1")
    for name in MOST_CONNECTIONS:
        most = variables.get(prefix + name, "")
        if most.isdecimal() and int(most) > 0:
            found["connections"] = int(most)
    return found
