"""A keyset of PubNub's: the keys that its SDKs show, as credentials of an app."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from sower.config import App
from sower.core.grants import Credential

Keys = Mapping[str, str]
"""Subscribe key -> publish key, of every app."""


def subscribe_key(app: App) -> str:
    """The key that clients show to read."""
    return app.pubnub.subscribe_key or f"sub-{app.key}"


def publish_key(app: App) -> str:
    """The key that clients show to publish."""
    return app.pubnub.publish_key or f"pub-{app.key}"


def keys_of(apps: Iterable[App]) -> Keys:
    """The keysets of these apps."""
    return {subscribe_key(app): publish_key(app) for app in apps}


def pubnub_key(app: App, own: Credential) -> Credential:
    """The credential behind the subscribe key. own: the app's own, whose secret it shares where it has none."""
    if app.pubnub.secret_key:
        return Credential(own.app, subscribe_key(app), app.pubnub.secret_key.encode())
    return replace(own, key=subscribe_key(app))
