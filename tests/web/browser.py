"""Pages in a real Chromium. What goes wrong in one (an error, a warning, a dialog) fails the test that opened it."""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import trio

from tests.sdk.script import Script, running

SCRIPT = Path(__file__).parent / "browser.cjs"


class Page:
    """One page, with cookies and storage of its own."""

    def __init__(self, browser: Browser, name: str) -> None:
        self._browser = browser
        self.name = name
        self.status = 0
        self.headers: dict[str, str] = {}

    async def run(self, code: str, given: Any = None) -> Any:
        """The value of an expression, or of a function that is given something."""
        return await self._browser.call("run", page=self.name, code=code, **{"with": given})

    async def until(self, code: str, given: Any = None) -> Any:
        """The value of an expression, as soon as it is a true one."""
        value = await self._browser.call("until", page=self.name, code=code, **{"with": given})
        assert value, f"never true: {code} {given or ''}\n{await self.text()}"
        return value

    async def reads(self, text: str, where: str = "body") -> None:
        """Wait until a part of the page shows this text."""
        code = f"(text) => [...document.querySelectorAll({where!r})].some((it) => it.innerText.includes(text))"
        await self.until(code, text)

    async def text(self) -> str:
        """All that the page shows."""
        return await self.run("document.body.innerText")

    async def act(self, how: str, *words: Any) -> Any:
        """A method of playwright's page."""
        return await self._browser.call("act", page=self.name, how=how, words=words)

    async def click(self, selector: str) -> None:
        await self.act("click", selector)

    async def fill(self, selector: str, text: str) -> None:
        await self.act("fill", selector, text)

    async def shot(self, path: Path, *, full: bool = True) -> None:
        """Write a picture of the page, and say where it is."""
        await self.act("screenshot", {"path": str(path), "fullPage": full})
        print(f"screenshot: {path}")

    async def check_accessible(self) -> None:
        """Nothing that axe-core calls serious or critical."""
        found = await self._browser.call("axe", page=self.name)
        assert found == [], found


class Browser:
    def __init__(self, script: Script) -> None:
        self._script = script
        self._calls = count(1)
        self._pages = count(1)

    async def call(self, what: str, **more: Any) -> Any:
        call = next(self._calls)
        await self._script.do(what, call=call, **more)
        answer = await self._script.hear("call", call=call)
        assert "failed" not in answer, answer["failed"]
        return answer["value"]

    async def open(self, url: str, **more: Any) -> Page:
        """A page. width, height: of its window. scheme: light or dark."""
        page = Page(self, f"page {next(self._pages)}")
        answer = await self.call("open", page=page.name, url=url, **more)
        page.status, page.headers = answer["status"], answer["headers"]
        return page

    @property
    def wrong(self) -> list[dict[str, Any]]:
        """What went wrong in any page so far."""
        return self._script.told("wrong")


@asynccontextmanager
async def browsing(*, expected: tuple[str, ...] = ()) -> AsyncGenerator[Browser]:
    """A browser for as long as the block runs. expected: parts of complaints that the test brings about itself."""
    chromium = shutil.which("chromium")
    assert chromium is not None, "the tests need chromium"
    async with running(SCRIPT, CHROMIUM=chromium) as script:
        browser = Browser(script)
        try:
            yield browser
        finally:
            with trio.move_on_after(5, shield=True), suppress(trio.BrokenResourceError):
                await browser.call("quit")
        wrong = [told for told in browser.wrong if not any(part in told["wrong"] for part in expected)]
        assert wrong == [], wrong
