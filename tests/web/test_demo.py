"""/demo: what a person sees in the first ten seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from sower.config_file import DEMO, load_dev, parse
from tests.e2e.daemon import CONFIG, running
from tests.web.browser import browsing

SWITCHED_ON = CONFIG + "\n[web]\ndemo = true\n"


async def test_two_panes_talk_draw_and_see_who_is_there(tmp_path: Path) -> None:
    async with running(tmp_path, SWITCHED_ON) as daemon, browsing() as browser:
        page = await browser.open(daemon.url + "/demo")
        await page.until("document.querySelectorAll('.dot.open').length === 2")
        await page.until("[...document.querySelectorAll('.people')].every((people) => people.children.length === 2)")
        await page.fill(".pane:nth-child(1) input", "hello <img src=x onerror=alert(1)>")
        await page.act("press", ".pane:nth-child(1) input", "Enter")
        await page.reads("hello <img src=x onerror=alert(1)>", ".pane:nth-child(2) .talk")
        box = await page.run("document.querySelector('canvas').getBoundingClientRect().toJSON()")
        await page.act("mouse.move", box["x"] + 40, box["y"] + 60)
        await page.act("mouse.down")
        for n in range(20):
            await page.act("mouse.move", box["x"] + 40 + n * 12, box["y"] + 60 + n * 6)
        await page.act("mouse.up")
        await page.until("document.querySelector('.pane:nth-child(2) .cursors').children.length === 1")
        drawn = "(n) => document.querySelectorAll('canvas')[n].getContext('2d').getImageData(0, 0, 600, 240).data.some((byte) => byte)"
        await page.until(drawn, 1)
        await page.check_accessible()
        await page.shot(tmp_path / "demo.png")
        late = await browser.open(daemon.url + "/demo", width=360, scheme="dark")
        await late.reads("hello <img src=x onerror=alert(1)>", ".pane:nth-child(2) .talk")
        await late.until(drawn, 0)
        assert await late.run("document.documentElement.scrollWidth") == 360
        await late.check_accessible()
        await late.shot(tmp_path / "demo-narrow-dark.png")


async def test_what_a_terminal_publishes_is_in_both_panes(tmp_path: Path) -> None:
    async with running(tmp_path, SWITCHED_ON) as daemon, browsing() as browser:
        page = await browser.open(daemon.url + "/demo")
        await page.until("document.querySelectorAll('.dot.open').length === 2")
        await daemon.publish("demo", {"from": "curl"}, event="greeting")
        await page.until(
            "[...document.querySelectorAll('.talk')].every((talk) => talk.innerText.includes('{\"from\":\"curl\"}'))"
        )


def test_it_is_switched_on_for_development_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOWER_DEV_DIR", str(tmp_path))
    made = load_dev().config
    assert made.web.demo
    assert made.channels[0] == DEMO
    assert not parse(CONFIG, tmp_path / "sower.toml").web.demo


def test_a_rule_that_is_there_for_its_channel_stays_the_rule(tmp_path: Path) -> None:
    own = parse(SWITCHED_ON + '\n[[channels]]\nmatch = "demo"\nprivate = true\n', tmp_path / "sower.toml")
    assert [rule.private for rule in own.channels if rule.match == "demo"] == [True]
