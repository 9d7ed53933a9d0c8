"""What an Ably key says of an app, as an [[apps]] table and the rule that its channels need."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from sower.config import App
from sower.errors import BadRequest

KEY = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+:[A-Za-z0-9_+/=-]+")
"""APPID.KEYID:SECRET."""

FIRST_ID = 1001

RULE = {"match": "*", "private": True, "history": {"messages": 1000, "age": "72h"}}
"""Every channel of Ably's can be continued and has history; here a rule says how much. None of them is open to who
shows no credential, and so they are not in other protocols either."""


def read_key(text: str) -> str:
    """The key in a text that holds nothing else, or in a line such as ABLY_API_KEY=... Raises BadRequest."""
    found = KEY.findall(text)
    if len(set(found)) != 1:
        raise BadRequest(f"There is one key to be given, APPID.KEYID:SECRET; {len(set(found))} are there.")
    return found[0]


def app_table(key: str, known: Sequence[App], secret: str) -> dict[str, Any] | None:
    """The app with this key; None where there is one already. secret: for the app's own key, which is a new one."""
    if any(key in (app.ably.key, *app.ably.keys) for app in known):
        return None
    ids = {app.id for app in known}
    number = next(n for n in range(FIRST_ID, FIRST_ID + len(ids) + 1) if str(n) not in ids)
    own = key.partition(":")[0].replace(".", "-").lower()
    return {"id": str(number), "key": own, "secret": secret, "ably": {"key": key}}
