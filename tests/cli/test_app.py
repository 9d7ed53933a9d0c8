"""`sower app`: apps that come and go while the daemon runs."""

from __future__ import annotations

import json
import stat
from pathlib import Path

from tests.cli.shell import sower
from tests.e2e.daemon import running


async def test_an_app_is_added_listed_removed_and_audited(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        capability = '{"chat:*":["subscribe"]}'
        told = await sower(tmp_path, "app", "add", "--allow", capability)
        lines = dict(line.split(" ", 1) for line in told.out.splitlines() if not line.startswith("ably"))
        assert (told.code, lines["id"]) == (0, "1002")
        ours, theirs = [line for line in told.out.splitlines() if line.startswith("ably")]
        assert ours == f'ably 1002.{lines["key"]}:{lines["secret"]} {{"*":["*"]}}'
        assert theirs.endswith(capability)
        typo = await sower(tmp_path, "app", "add", "--allow", '{"chat:*":["subscibe"]}')
        assert (typo.code, "subscibe" in typo.err) == (1, True)
        made = json.loads((await sower(tmp_path, "app", "add", "--id", "team-7", "--json")).out)
        assert (made["id"], made["url"]) == ("team-7", daemon.url)
        listed = await sower(tmp_path, "app", "list")
        assert [line.split("\t")[0::2] for line in listed.out.splitlines()] == [
            ["1001", "config"],
            ["1002", "added"],
            ["team-7", "added"],
        ]
        gone = await sower(tmp_path, "app", "remove", "1002")
        assert (gone.code, gone.out) == (0, "1002\n")
        apps = json.loads((await sower(tmp_path, "app", "list", "--json")).out)["apps"]
        assert [(app["id"], app["added"], app["connections"]) for app in apps] == [
            ("1001", False, 0),
            ("team-7", True, 0),
        ]
        await daemon.stop()
        records = [json.loads(line) for line in (await sower(tmp_path, "audit", "--json")).out.splitlines()]
        assert [(r["kind"], r["detail"]) for r in records if r["kind"].startswith("app_")] == [
            ("app_added", "1002"),
            ("app_added", "team-7"),
            ("app_removed", "1002"),
        ]


async def test_an_added_app_is_there_after_a_restart_its_secrets_are_nobody_elses_and_no_id_is_given_twice(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as daemon:
        made = json.loads((await sower(tmp_path, "app", "add", "--json")).out)
        await sower(tmp_path, "app", "add")
        assert (await sower(tmp_path, "app", "remove", "1003")).code == 0
        assert stat.S_IMODE((tmp_path / "sower.db.apps").stat().st_mode) == 0o600
        await daemon.stop()
        await daemon.start(keep_config=True)
        (tmp_path / "secret").write_text(made["secret"])
        theirs = ("--url", daemon.url, "--key", made["key"], "--secret-file", "secret")
        assert (await sower(tmp_path, "publish", "room", "e", "1", *theirs)).code == 0
        assert json.loads((await sower(tmp_path, "app", "add", "--json")).out)["id"] == "1004"
        again = await sower(tmp_path, "app", "add", "--id", "1003")
        assert (again.code, "not given twice" in again.err) == (1, True)


async def test_only_an_app_of_the_config_adds_and_removes_and_the_configs_own_apps_stay_its(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        made = json.loads((await sower(tmp_path, "app", "add", "--json")).out)
        (tmp_path / "secret").write_text(made["secret"])
        theirs = ("--url", daemon.url, "--key", made["key"], "--secret-file", "secret")
        for words in (("add",), ("list",), ("remove", "1001"), ("remove", made["id"])):
            assert (await sower(tmp_path, "app", *words, *theirs)).code == 4, words
        own = await sower(tmp_path, "app", "remove", "1001")
        assert (own.code, "The config has it" in own.err) == (1, True)
        assert (await sower(tmp_path, "app", "remove", "9")).code == 1
        assert (await sower(tmp_path, "app", "add", "--allow", "[]")).code == 2
        assert (await sower(tmp_path, "app", "add", "--id", "a b")).code == 1
        # A config that takes over the id of an added app has the last word.
        daemon.config.write_text(
            daemon.config.read_text()
            + f'\n[[apps]]\nid = "{made["id"]}"\nkey = "now-the-configs"\nsecret = "another-secret-0123456789"\n'
        )
        assert (await sower(tmp_path, "reload")).code == 0
        apps = json.loads((await sower(tmp_path, "app", "list", "--json")).out)["apps"]
        assert [(app["key"], app["added"]) for app in apps][1:] == [("now-the-configs", False)]
