"""sower/reload.py: what of a changed config is taken over, and what waits for a restart."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from sower.config import App, ChannelRule, Config, Duration, Limits, Server, SessionSettings, Store
from sower.reload import merge

APP = App(id="1001", key="app-key", secret="a-long-random-text")
OLD = Config(apps=(APP,))


def changed(**sections: Any) -> Config:
    return msgspec.structs.replace(OLD, **sections)


@pytest.mark.parametrize(
    ("new", "taken", "waiting"),
    [
        (OLD, (), ()),
        (changed(session=SessionSettings(ping_every=Duration(5))), ("session.ping_every",), ()),
        (changed(limits=Limits(connections=5)), ("limits.connections",), ()),
        (
            changed(server=Server(origins=("https://a.example",), listen=("[::1]:1",))),
            ("server.origins",),
            ("server.listen",),
        ),
        (changed(store=Store(sync="full")), (), ("store.sync",)),
        (changed(channels=(ChannelRule(match="*"),)), (), ("channels",)),
    ],
)
def test_what_is_safe_is_taken_over_and_the_rest_is_named(
    new: Config, taken: tuple[str, ...], waiting: tuple[str, ...]
) -> None:
    merged = merge(OLD, new)
    assert (merged.taken, merged.waiting) == (taken, waiting)
    assert merge(merged.config, new).taken == ()
    assert merged.config.server.listen == OLD.server.listen
    assert merged.config.store == OLD.store


def test_a_certificate_is_exchanged_and_goes_with_the_addresses_that_show_it() -> None:
    old = changed(server=Server(listen=("tls:a:1",), certificate="a.pem", certificate_key="a.key"))
    renewed = merge(old, changed(server=Server(listen=("a:1",), certificate="b.pem")))
    assert renewed.taken == ("server.certificate", "server.certificate_key")
    gone = merge(old, changed(server=Server(listen=("a:1",))))
    assert gone.waiting == ("server.listen", "server.certificate", "server.certificate_key")
    assert gone.config == old


def test_apps_come_go_and_change_and_no_secret_is_in_what_is_told() -> None:
    other = App(id="1002", key="other", secret="another-long-random-text")
    rotated = msgspec.structs.replace(APP, secret="yet-another-random-text", old_secret=APP.secret)
    merged = merge(changed(apps=(APP, other)), changed(apps=(rotated, App(id="1003", key="k3", secret="s" * 20))))
    assert merged.taken == ("apps 1002 (gone)", "apps 1001.secret", "apps 1001.old_secret", "apps 1003 (new)")
    assert merged.config.apps[0] == rotated
    assert not any(APP.secret in told or rotated.secret in told for told in merged.taken)


def test_what_of_an_app_needs_a_restart_stays_as_it_was() -> None:
    merged = merge(OLD, changed(apps=(msgspec.structs.replace(APP, subscription_count=True, client_events=False),)))
    assert (merged.taken, merged.waiting) == (("apps 1001.client_events",), ("apps 1001.subscription_count",))
    assert merged.config.apps[0].subscription_count is False
