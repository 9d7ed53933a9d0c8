"""sower.js against a real daemon: in pages of another origin in Chromium, and in Node."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from sower.web.files import FOLDER
from tests.e2e.daemon import running
from tests.web.browser import browsing
from tests.web.clients import UNBOUND, a_site, in_node, in_page

TALK = """async (count) => {
  globalThis.serials = [];
  for (let n = 0; n < count; n++) {
    channel.publish("n", n).then((serial) => serials.push(serial));
    await new Promise((resolve) => setTimeout(resolve, 4));
  }
}"""


async def test_two_pages_chat_and_see_who_is_there(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, a_site(daemon) as site, browsing() as browser:
        ada, ben = await in_page(browser, site, daemon), await in_page(browser, site, daemon)
        token = (await daemon.request("POST", "/channels/presence-a/auth", json={"user": "ada"})).json()["token"]
        await ada.follow("presence-a", token=token)
        token = (await daemon.request("POST", "/channels/presence-a/auth", json={"user": "ben"})).json()["token"]
        await ben.follow("presence-a", token=token)
        serial = await ada.run("channel.publish('greet', { hello: '<b>ünï</b>' })")
        assert await ben.hears(1) == [{"hello": "<b>ünï</b>"}]
        assert await ben.run("[heard[0].event, heard[0].user, heard[0].serial]") == ["greet", "ada", serial]
        await ben.run("channel.publish('greet', 2, { echo: true })")
        assert await ben.hears(2) == [{"hello": "<b>ünï</b>"}, 2]
        assert await ada.hears(1) == [2]  # not what it said itself
        assert await ada.run("[...channel.members.keys()]") == ["ada", "ben"]
        await ben.run("channel.update({ typing: true })")
        await ada.until("told.some(([what, value]) => what === 'update' && value.meta.typing)")
        await ben.run("sower.close()")
        await ada.until("told.some(([what, value]) => what === 'leave' && value.user === 'ben')")
        assert await ada.run("[...channel.members.keys()]") == ["ada"]


async def test_pages_whose_daemon_is_killed_under_them_miss_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    async with (
        running(tmp_path, UNBOUND) as daemon,
        a_site(daemon) as site,
        browsing(expected=("WebSocket",)) as browser,
    ):
        ada, ben = await in_page(browser, site, daemon), await in_page(browser, site, daemon)
        await ada.follow("kept-a")
        await ben.follow("kept-a")
        await ada.run(f"(count) => void ({TALK})(count)", 400)
        await ben.hears(60)
        await daemon.stop(signal.SIGKILL)
        await ada.until("channel.state === 'waiting'")
        await daemon.start()
        assert await ben.hears(400) == list(range(400))
        await ada.until("serials.length === 400")
        assert await ada.run("new Set(serials).size") == 400
        assert await ben.run("told.filter(([what]) => what === 'gap').length") == 0
        assert await ben.run("heard.map((event) => event.serial)") == sorted(await ada.run("serials"))


@pytest.mark.parametrize("kind", ["ws", "global"])
async def test_node_clients_whose_daemon_is_killed_under_them_miss_nothing(tmp_path: Path, kind: str) -> None:
    async with running(tmp_path, UNBOUND) as daemon, in_node(daemon, kind) as ada, in_node(daemon, kind) as ben:
        await ada.follow("kept-a")
        await ben.follow("kept-a")
        await ada.run(f"(count) => void ({TALK})(count)", 300)
        await ben.hears(60)
        await daemon.stop(signal.SIGKILL)
        await daemon.start()
        assert await ben.hears(300) == list(range(300))
        await ada.until("serials.length === 300")
        assert await ben.run("told.filter(([what]) => what === 'gap').length") == 0


async def test_a_private_channel_opens_with_what_the_token_callback_brings_and_renews_it(tmp_path: Path) -> None:
    fetching = """({ url, key, site }) => {
      globalThis.asked = [];
      const token = async (name) => { asked.push(name); return (await fetch(`${site}/token/${name}`)).json(); };
      globalThis.channel = new Sower({ url, key, token }).subscribe("private-kept-a");
    }"""
    async with running(tmp_path) as daemon, a_site(daemon) as site, browsing(expected=("WebSocket", "ERR_")) as browser:
        ada = await in_page(browser, site, daemon)
        await ada.run(fetching, {"url": daemon.url, "key": "test-key", "site": site})
        await ada.until("channel.state === 'open'")
        session = await ada.run("channel.session")
        await ada.run("channel.publish('greet', 'hello')")
        assert [
            event["user"] for event in (await daemon.request("GET", "/history/private-kept-a")).json()["events"]
        ] == ["ada"]
        assert [event["data"] for event in await ada.run("channel.history().then((page) => page.events)")] == ["hello"]
        await ada.until("asked.length > 2")  # before the token ends; the one for the history is the second
        assert await ada.run("channel.session") == session
        await daemon.stop(signal.SIGKILL)
        await daemon.start()
        await ada.until("(session) => channel.state === 'open' && channel.session !== session", session)


async def test_what_is_refused_for_good_ends_the_channel_and_is_not_tried_again(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, in_node(daemon) as client:
        await client.begin("private-a")
        await client.until("channel.state === 'closed'")
        assert ["error", "not_authorised"] in await client.run("told")
        assert await client.run("channel.publish('e').catch((error) => error.code)") == "closed"
        assert len((await daemon.request("GET", "/channels")).json()["channels"]) == 0


async def test_a_refused_publish_says_why_and_the_channel_goes_on(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, in_node(daemon) as client:
        await client.follow("closed-a")  # clients do not publish on public channels, unless a rule says so
        refused = await client.run(
            "channel.publish('e').catch((error) => [error.code, error.hint.length > 20, error.retry])"
        )
        assert refused == ["client_events_off", True, False]
        await daemon.publish("closed-a", "still here")
        assert await client.hears(1) == ["still here"]


async def test_the_application_is_told_of_what_is_gone_for_good(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, in_node(daemon) as client:
        await client.follow("open-a")  # keeps no history
        await daemon.publish("open-a", 1)
        await client.hears(1)
        await daemon.stop(signal.SIGKILL)
        await daemon.start()
        await client.until("told.some(([what]) => what === 'gap')")
        await daemon.publish("open-a", 2)
        assert await client.hears(2) == [1, 2]


async def test_history_comes_in_pages_to_its_end(tmp_path: Path) -> None:
    paging = """async (order) => {
      const read = [];
      for (let page = await channel.history({ limit: 4, order }); page; page = page.next && (await page.next()))
        read.push(page.events.map((event) => event.data));
      return read;
    }"""
    async with running(tmp_path) as daemon, in_node(daemon) as client:
        for n in range(10):
            await daemon.publish("kept-ä/b", n)
        await client.follow("kept-ä/b")
        assert await client.run(paging, "desc") == [[9, 8, 7, 6], [5, 4, 3, 2], [1, 0]]
        assert await client.run(paging, "asc") == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


async def test_a_listener_that_throws_disturbs_nobody_else(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, in_node(daemon) as client:
        await client.follow("open-a")
        await client.run("void channel.on('e', () => { throw new Error('a mistake') })")
        await client.run("void channel.on('e', ({ data }) => { globalThis.second = data })")
        await daemon.publish("open-a", 7)
        await client.until("second === 7")
        assert await client.hears(1) == [7]


async def test_a_page_that_loses_its_network_comes_back_when_it_has_it_again(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, a_site(daemon) as site, browsing(expected=("WebSocket", "ERR_")) as browser:
        page = await browser.open(site)
        await page.run(
            "(url) => import(url + '/sower.js').then((all) => Object.assign(globalThis, all)).then(() => null)",
            daemon.url,
        )
        await page.run(
            "(url) => { globalThis.heard = []; globalThis.states = []; globalThis.channel = new Sower({ url }).subscribe('kept-a'); channel.onAny(({ data }) => heard.push(data)); channel.observe('state', (state) => states.push(state)); }",
            daemon.url,
        )
        await page.until("channel.state === 'open'")
        await daemon.publish("kept-a", 1)
        await page.until("heard.length === 1")
        await browser.call("offline", page=page.name, offline=True)
        await daemon.stop(signal.SIGKILL)
        await page.until("channel.state === 'offline'")
        await daemon.start()
        await daemon.publish("kept-a", 2)
        await browser.call("offline", page=page.name, offline=False)
        await page.until("heard.length === 2")
        assert await page.run("heard") == [1, 2]


async def test_a_page_that_is_looked_at_again_finds_out_whether_its_socket_is_still_alive(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, a_site(daemon) as site, browsing() as browser:
        page = await in_page(browser, site, daemon)
        await page.follow("room")
        await page.run(
            "() => { globalThis.said = []; const send = WebSocket.prototype.send; WebSocket.prototype.send = function (text) { said.push(JSON.parse(text).type); return send.call(this, text); }; }"
        )
        await page.run("() => void document.dispatchEvent(new Event('visibilitychange'))")
        assert await page.run("said") == ["ping"]
        await daemon.publish("room", 1)
        assert await page.hears(1) == [1]
        assert await page.run("channel.state") == "open"


def test_the_types_name_all_that_there_is() -> None:
    code, types = (FOLDER / "sower.js").read_text(), (FOLDER / "sower.d.ts").read_text()
    for name, body in re.findall(r"^(?:export )?class (Sower|Channel) \{\n(.*?)^\}", code, re.DOTALL | re.MULTILINE):
        members = set(re.findall(r"^  (?:async |get )?([a-z]\w*)(?: = |\()", body, re.MULTILINE)) - {"constructor"}
        assert len(members) >= 2
        declared = types.partition(f" {name} {{")[2].partition("\n}")[0]
        assert [member for member in members if not re.search(rf"\b{member}\b", declared)] == []
