"""dialects/pusher/migration.py: the apps that env files name."""

from __future__ import annotations

import pytest

from sower.dialects.pusher.migration import read_apps
from sower.errors import BadRequest

APP = {"id": "12", "key": "k", "secret": "s"}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"PUSHER_APP_ID": "12", "PUSHER_APP_KEY": "k", "PUSHER_APP_SECRET": "s"}, [APP]),
        ({"PUSHER_APP_ID": "12", "PUSHER_KEY": "k", "PUSHER_SECRET": "s"}, [APP]),
        ({"SOKETI_DEFAULT_APP_ID": "12", "SOKETI_DEFAULT_APP_KEY": "k", "SOKETI_DEFAULT_APP_SECRET": "s"}, [APP]),
        (
            {
                "SOKETI_DEFAULT_APP_ID": "12",
                "SOKETI_DEFAULT_APP_KEY": "k",
                "SOKETI_DEFAULT_APP_SECRET": "s",
                "SOKETI_DEFAULT_APP_ENABLE_CLIENT_MESSAGES": "false",
                "SOKETI_DEFAULT_APP_MAX_CONNS": "500",
            },
            [APP | {"client_events": False, "connections": 500}],
        ),
        (
            {"REVERB_APP_ID": "12", "REVERB_APP_KEY": "k", "REVERB_APP_SECRET": "s", "REVERB_APP_MAX_CONNECTIONS": ""},
            [APP],
        ),
    ],
)
def test_each_servers_names_are_known(variables: dict[str, str], expected: list[dict[str, object]]) -> None:
    assert read_apps(variables) == expected


def test_one_app_under_two_names_is_one_and_two_apps_are_two() -> None:
    pusher = {"PUSHER_APP_ID": "12", "PUSHER_APP_KEY": "k", "PUSHER_APP_SECRET": "s"}
    reverb = {"REVERB_APP_ID": "34", "REVERB_APP_KEY": "l", "REVERB_APP_SECRET": "t"}
    assert read_apps({**pusher, "PUSHER_KEY": "k", "PUSHER_SECRET": "s"}) == [APP]
    assert [app["id"] for app in read_apps({**pusher, **reverb})] == ["12", "34"]


@pytest.mark.parametrize("variables", [{}, {"PUSHER_APP_ID": "1"}, {"PUSHER_APP_KEY": "k", "PUSHER_APP_SECRET": "s"}])
def test_what_is_not_whole_says_what_is_missing(variables: dict[str, str]) -> None:
    with pytest.raises(BadRequest):
        read_apps(variables)
