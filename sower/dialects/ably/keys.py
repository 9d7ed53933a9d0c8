"""An app's Ably keys, APPID.KEYID:SECRET, as credentials of that app.

Left out, the app's key is derived from its own: ID.KEY:SECRET, so that every app has one.
"""

from __future__ import annotations

from collections.abc import Mapping

from sower.config import App
from sower.core.grants import Credential
from sower.dialects.ably.capability import claims_of

PROTOCOL = "ably"
"""What tells these keys from an app's other ones."""


def ably_keys(app: App, own: Credential) -> list[Credential]:
    """All Ably keys of an app. own: its own credential."""
    if app.ably.key:
        name, _, secret = app.ably.key.partition(":")
        first = Credential(app.id, name, secret.encode(), protocol=PROTOCOL)
    else:
        first = Credential(app.id, f"{app.id}.{app.key}", own.secret, own.old_secret, protocol=PROTOCOL)
    further = [_limited(app, text, capability) for text, capability in app.ably.keys.items()]
    return [first, *further]


def _limited(app: App, text: str, capability: Mapping[str, tuple[str, ...]]) -> Credential:
    name, _, secret = text.partition(":")
    limited = {resource: list(operations) for resource, operations in capability.items()}
    everything = any(r in ("*", "[*]*") and "*" in operations for r, operations in limited.items())
    claims = None if everything else claims_of(limited)
    return Credential(app.id, name, secret.encode(), claims=claims, protocol=PROTOCOL)


def key_of(app: App) -> str:
    """An app's Ably key that allows everything, NAME:SECRET."""
    return app.ably.key or f"{app.id}.{app.key}:{app.secret}"


def key_names(app: App) -> list[str]:
    """The names of an app's Ably keys."""
    own = app.ably.key or f"{app.id}.{app.key}"
    return [text.partition(":")[0] for text in (own, *app.ably.keys)]
