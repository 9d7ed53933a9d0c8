"""revoking.py: what is revoked stays so, also where the daemon is killed as soon as it has said so."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from sower.access import Access
from sower.activity import Activity
from sower.config import App, Config, Limits
from sower.core import revocations
from sower.core.command import Revoke
from sower.core.grants import Grant
from sower.core.revocations import By, Revocation
from sower.hub import Hub
from sower.revoking import Revoking
from sower.store.audit import Audit
from sower.store.journal import Journal
from tests.store.opened import NOW, opened

CONFIG = Config(apps=(App(id="1", key="k", secret="s" * 16),))
HOLDER = Grant("1", "k", server=True, keyed=True)


def daemon(journal: Journal) -> tuple[Revoking, Access, Audit]:
    access, audit = Access(CONFIG.apps, Limits(), now=journal.now), Audit(journal)
    activity = Activity(Hub(CONFIG, journal, now=journal.now), audit, now=journal.now)
    nobody = SimpleNamespace(reader=())
    return Revoking(access, nobody, activity, now=journal.now), access, audit  # type: ignore[arg-type]


@pytest.mark.parametrize("group", ["staff", "g" * 600, "\u2028\x01" * 100], ids=["short", "long", "escaped"])
async def test_what_was_revoked_is_so_for_the_next_daemon_though_this_one_is_killed_at_once(
    tmp_path: Path, group: str
) -> None:
    token = Grant("1", "k", "ada", issued=NOW - 10, group=group)
    (tmp_path / "before").mkdir()
    async with opened(tmp_path / "before") as journal:
        revoking, access, _ = daemon(journal)
        await revoking.do(HOLDER, "127.0.0.1", Revoke("k", ((By.GROUP, group),), None, 0.0))
        assert access.revocations.hit(token)
        shutil.copytree(tmp_path / "before", tmp_path / "after")
    async with opened(tmp_path / "after") as journal:
        revoking, access, audit = daemon(journal)
        await revoking.read(audit)
        assert access.revocations.hit(token)


async def test_a_daemon_that_starts_again_forgets_the_oldest_revocation_first_as_before(tmp_path: Path) -> None:
    users = ("ada", "bob", "cy")
    async with opened(tmp_path) as journal:
        revoking, _, audit = daemon(journal)
        for user in users:
            await revoking.do(HOLDER, "127.0.0.1", Revoke("k", ((By.USER, user),), None, 0.0))
        revoking, access, _ = daemon(journal)
        await revoking.read(audit)
        for n in range(revocations.MOST - len(users) + 1):
            access.revocations.add(Revocation("k", By.USER, str(n), NOW))
        known = [access.revocations.hit(Grant("1", "k", user, issued=NOW - 10)) for user in users]
        assert known == [False, True, True]
