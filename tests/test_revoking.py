"""revoking.py: what is revoked stays so, also where the daemon is killed as soon as it has said so."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import apsw
import msgspec
import pytest

from sower.access import Access
from sower.activity import Activity
from sower.config import App, Config, Limits
from sower.core import revocations
from sower.core.command import Credentials, Revoke
from sower.core.grants import USUAL, Grant, mint, sign
from sower.core.polling import Withdraw
from sower.core.revocations import By, Revocation
from sower.errors import TokenRevoked, TooManyRevoked
from sower.hub import Hub
from sower.polling import vouching
from sower.revoking import Revoking
from sower.store.audit import Audit
from sower.store.journal import Journal
from sower.store.schema import APPLICATION_ID, MIGRATIONS
from sower.store.shelf import JournalShelf
from tests.store.opened import HISTORY, NOW, opened

CONFIG = Config(apps=(App(id="1", key="k", secret="s" * 16),))
HOLDER = Grant("1", "k", server=True, keyed=True)


def daemon(journal: Journal) -> tuple[Revoking, Access]:
    access, audit = Access(CONFIG.apps, Limits(), now=journal.now), Audit(journal)
    activity = Activity(Hub(CONFIG, journal, now=journal.now), audit, now=journal.now)
    nobody = SimpleNamespace(reader=())
    return Revoking(access, nobody, activity, journal, now=journal.now), access  # type: ignore[arg-type]


async def revoke(revoking: Revoking, *users: str, before: float | None = None) -> None:
    await revoking.do(HOLDER, "127.0.0.1", Revoke("k", tuple((By.USER, user) for user in users), before, 0.0))


def a_token_of(user: str, issued: float = NOW - 10) -> Grant:
    return Grant("1", "k", user, issued=issued)


@pytest.mark.parametrize("group", ["staff", "g" * 600, "\u2028\x01" * 100], ids=["short", "long", "escaped"])
async def test_what_was_revoked_is_so_for_the_next_daemon_though_this_one_is_killed_at_once(
    tmp_path: Path, group: str
) -> None:
    token = Grant("1", "k", "ada", issued=NOW - 10, group=group)
    (tmp_path / "before").mkdir()
    async with opened(tmp_path / "before") as journal:
        revoking, access = daemon(journal)
        await revoking.do(HOLDER, "127.0.0.1", Revoke("k", ((By.GROUP, group),), None, 0.0))
        assert access.revocations.hit(token)
        shutil.copytree(tmp_path / "before", tmp_path / "after")
    async with opened(tmp_path / "after") as journal:
        revoking, access = daemon(journal)
        await revoking.read()
        assert access.revocations.hit(token)


async def test_what_is_revoked_again_takes_no_more_room_and_the_later_moment_counts(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        revoking, _ = daemon(journal)
        for before in (NOW - 20, NOW - 5, NOW - 15):
            await revoke(revoking, "ada", before=before)
        assert await journal.select("SELECT * FROM revocations") == [("k", "clientId", "ada", NOW - 5)]
        await journal.sweep(lambda _: HISTORY, keep_audit=0.0)
        revoking, access = daemon(journal)
        await revoking.read()
        known = [access.revocations.hit(a_token_of("ada", issued)) for issued in (NOW - 6, NOW - 5)]
        assert known == [True, False]


async def test_past_the_bound_of_a_key_nothing_is_revoked_nor_forgotten_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocations, "MOST", 3)
    async with opened(tmp_path) as journal:
        revoking, _ = daemon(journal)
        await revoke(revoking, "ada", "bob")
        with pytest.raises(TooManyRevoked):
            await revoke(revoking, "cy", "dan")
        await revoke(revoking, "ada", "cy")
        revoking, access = daemon(journal)
        await revoking.read()
        assert [access.revocations.hit(a_token_of(user)) for user in ("ada", "bob", "cy", "dan")] == [True] * 3 + [
            False
        ]


async def test_single_tokens_that_are_revoked_make_room_when_they_expire_and_have_a_bound_until_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vouching, "MOST_WITHDRAWN", 2)
    clock = [NOW]
    async with opened(tmp_path, now=lambda: clock[0]) as journal:
        _, access = daemon(journal)
        activity = Activity(Hub(CONFIG, journal, now=journal.now), Audit(journal), now=journal.now)
        door = vouching.Vouching(access, activity, journal, JournalShelf(journal))

        async def withdraw(text: str, expires: float) -> None:
            await door.revoke(HOLDER, "127.0.0.1", Withdraw(text, sign(b"s" * 16, text), expires))

        await withdraw("brief", NOW + 10)
        await withdraw("long", NOW + 100)
        with pytest.raises(TooManyRevoked):
            await withdraw("another", NOW + 100)
        clock[0] = NOW + 11
        await withdraw("another", NOW + 100)
        assert set(access.revoked) == {sign(b"s" * 16, text) for text in ("long", "another")}
        assert dict(await JournalShelf(journal).revoked()) == access.revoked


async def test_a_token_of_the_daemon_s_own_that_was_minted_afterwards_is_good(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        revoking, access = daemon(journal)
        await revoke(revoking, "ada")

        def show(issued: float) -> Grant:
            credential = access.credential("k")
            text = mint(credential, channels={"*": USUAL}, user="ada", issued=issued, expires=NOW + 60, token_id="t")
            return access.authorise(Credentials(token=text))

        with pytest.raises(TokenRevoked):
            show(NOW - 1)
        assert show(NOW + 1).user == "ada"


async def test_what_an_earlier_version_noted_in_its_audit_is_taken_over(tmp_path: Path) -> None:
    old = apsw.Connection(str(tmp_path / "sower.db"))
    for migration in MIGRATIONS[:5]:
        old.execute(migration)
    old.execute(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 5")
    for before in (NOW - 20, NOW, NOW - 10):
        detail = msgspec.json.encode(Revocation("k", By.CHANNEL, 'caf\u00e9 "*"', before)).decode()
        old.execute("INSERT INTO audit (time, kind, detail, count) VALUES (?, 'token_revoked', ?, 1)", (before, detail))
    for senseless in ('{"key', "{}", "7", ""):
        old.execute("INSERT INTO audit (time, kind, detail, count) VALUES (1, 'token_revoked', ?, 1)", (senseless,))
    old.close()
    async with opened(tmp_path) as journal:
        revoking, _ = daemon(journal)
        await revoking.read()
        kept = await journal.select("SELECT * FROM revocations")
        assert kept == [("k", "channel", 'caf\u00e9 "*"', NOW)]
