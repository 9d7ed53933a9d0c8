"""The lines that the dashboard shows for each SDK work as they stand."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import trio

from sower.web.files import FOLDER
from tests.e2e.daemon import KEY, SECRET, Daemon, running
from tests.sdk.script import Script
from tests.sdk.script import running as script_running
from tests.web.browser import browsing
from tests.web.test_dashboard import signed_in

BEFORE = """
console.log = (...words) => process.stdout.write(JSON.stringify({ said: words }) + "\\n");
globalThis.WebSocket = require("ws");
const askMyServerForAToken = (params) =>
  new (require("ably").Rest)({ key: "1001.KEY:SECRET", endpoint: "127.0.0.1", tls: false }).auth.createTokenRequest(params);
""".replace("KEY", KEY).replace("SECRET", SECRET)
"""What the application has around the lines, and a console that this test hears."""


async def shown(daemon: Daemon, channel: str, names: list[str]) -> dict[str, str]:
    """The lines for each SDK, as a person copies them."""
    async with browsing() as browser:
        page = await signed_in(browser, daemon, f"#/tokens/{channel}")
        found: dict[str, str] = {}
        for name in names:
            await page.click(f"role=tab[name='{name}']")
            await page.reads(channel, ".snippet")
            found[name] = await page.run("document.querySelector('.snippet pre').textContent")
        return found


def as_script(code: str) -> str:
    """Lines of a module as a script that requires its packages."""
    code = re.sub(r'import (?:\* as )?(\w+) from "([\w-]+)";', r'const \1 = require("\2");', code)
    loaded = f'const {{ Sower: Loaded }} = await import("{FOLDER}/sower.js");'
    code = re.sub(
        r'import \{ Sower \} from "(.*)sower.js";',
        rf'{loaded} const Sower = class extends Loaded {{ constructor(options) {{ super({{ url: "\1", ...options }}); }} }};',
        code,
    )
    return f"{BEFORE}(async () => {{\n{code}\n}})();\n"


async def says(daemon: Daemon, script: Script) -> list[Any]:
    """What it prints, once it follows the channel: until then nobody is there to hear."""
    with trio.fail_after(60):
        while True:
            await daemon.publish("open-a", {"hello": "world"}, event="message")
            with trio.move_on_after(0.3):
                return (await script.hear("said"))["said"]


async def test_each_sdk_hears_with_the_lines_that_are_shown_for_it(tmp_path: Path) -> None:
    names = ["sower.js", "pusher-js", "ably", "pubnub"]
    async with running(tmp_path) as daemon:
        for name, code in (await shown(daemon, "open-a", names)).items():
            file = tmp_path / f"{name}.cjs"
            file.write_text(as_script(code))
            async with script_running(file) as script:
                assert (await says(daemon, script))[-1] == {"hello": "world"}, name


async def test_the_lines_for_curl_publish_and_read(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        code = (await shown(daemon, "kept-a", ["curl"]))["curl"]
        said = await trio.run_process(
            ["sh", "-ec", code.replace(":SECRET", f":{SECRET}")], capture_stdout=True, stderr=subprocess.DEVNULL
        )
        assert b'"published"' in said.stdout
        assert b'"hello": "world"' in said.stdout or b'"hello":"world"' in said.stdout
