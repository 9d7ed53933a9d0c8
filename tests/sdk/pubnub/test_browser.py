"""pubnub for JavaScript in a real Chromium, on a page of another origin than the daemon's."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.daemon import running
from tests.sdk.pubnub.world import CONFIG, KEYSET
from tests.sdk.script import TESTS
from tests.web.browser import browsing

BUILD = TESTS / "node" / "node_modules" / "pubnub" / "dist" / "web" / "pubnub.min.js"

CLIENT = """async ({ port, keys }) => {
  const client = window.client = new PubNub({ origin: `127.0.0.1:${port}`, ssl: false, userId: "page", ...keys });
  window.heard = [];
  client.addListener({
    message: ({ message }) => heard.push(message),
    presence: ({ action, uuid }) => heard.push(`${action} ${uuid}`),
    status: ({ category }) => heard.push(category),
  });
  client.subscribe({ channels: ["room"], withPresence: true });
}"""

SAY = """async () => {
  const channel = "room";
  await client.publish({ channel, message: "in the path" });
  await client.publish({ channel, message: "in the body", sendByPost: true });
  const refused = await client.publish({ channel: "private-room", message: 1 }).catch(({ status }) => status.statusCode);
  const page = await client.fetchMessages({ channels: [channel] });
  return [refused, page.channels[channel].map(({ message }) => message)];
}"""


async def test_a_page_of_another_origin_publishes_and_hears(tmp_path: Path) -> None:
    async with running(tmp_path, CONFIG) as daemon, browsing(expected=("403", "404")) as browser:
        page = await browser.open(f"http://localhost:{daemon.port}/health/live")
        await page.act("addScriptTag", {"path": str(BUILD)})
        await page.run(CLIENT, {"port": daemon.port, "keys": KEYSET})
        await page.until("heard.includes('PNConnectedCategory') && heard.includes('join page')")
        assert await page.run(SAY) == [403, ["in the path", "in the body"]]
        await page.until("heard.includes('in the path') && heard.includes('in the body')")
