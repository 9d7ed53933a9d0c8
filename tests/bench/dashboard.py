"""What the dashboard costs: fan-out to 1,000 subscribers with it open in a browser, and without, in turn.

`python -m tests.bench.dashboard`. The daemon is one thread that fan-out keeps busy, so what is compared is how much it
delivers in a second of its processor's time: the browser and the generator have the other core, an operator's browser
another machine.
"""

from __future__ import annotations

import os
import sys
from statistics import median

import trio

from tests.bench.__main__ import _cores, _raise_file_limit
from tests.bench.generator import Generator, generator
from tests.bench.servers import Server, sower
from tests.web.browser import Page, browsing

SUBSCRIBERS = 1000
SIZE = 100
"""Bytes of a payload."""

ROUNDS = 5
SECONDS = 2.0
VIEWS = ("", "channels", "sessions", "activity")


async def main() -> int:
    """Print deliveries in a second of processor of each view and flight, and the loss. 1 where it is over 5 %."""
    _raise_file_limit()
    own, other = _cores()
    worst = 0.0
    with sower(own) as server, generator(other) as load:
        if other is not None:
            os.sched_setaffinity(0, {other})  # and so the browser, which inherits it with the priority
        os.setpriority(os.PRIO_PROCESS, 0, 19)
        load.aim(server.target, server.dialect, "bench-fan", SIZE)
        load.open(SUBSCRIBERS)
        async with browsing() as browser:
            url = f"http://127.0.0.1:{server.target.port}/dashboard"
            page = await browser.open(url)
            await sign_in(page, server)
            for flight in (1, 16):
                for view in VIEWS:
                    without, beside = await in_turn(load, server, page, f"{url}#/{view}", flight)
                    loss = 1 - beside / without
                    worst = max(worst, loss)
                    figures = f"{without:12,.0f} {beside:12,.0f} deliveries per second of processor"
                    print(f"{view or 'overview':10} {flight:3} in flight {figures}  {loss:+.1%} lost")
    print(f"at most {worst:.1%} lost")
    return int(worst > 0.05)


async def in_turn(load: Generator, server: Server, page: Page, view: str, flight: int) -> tuple[float, float]:
    """The medians without the view and with it, measured one after the other so that both meet the same machine."""
    without: list[float] = []
    beside: list[float] = []

    def run() -> float:
        before = server.cpu()
        answer = load.run("http", flight, SECONDS, expect=SUBSCRIBERS)
        return answer["deliveries"] / (server.cpu() - before)

    await trio.to_thread.run_sync(run)
    for _ in range(ROUNDS):
        for figures, place in ((without, "about:blank"), (beside, view)):
            await page.act("goto", place)
            await page.run("new Promise((done) => setTimeout(done, 500))")
            figures.append(await trio.to_thread.run_sync(run))
    return median(without), median(beside)


async def sign_in(page: Page, server: Server) -> None:
    """Sign in as the app's owner."""
    await page.fill("input[name=key]", server.target.key)
    await page.fill("input[name=secret]", server.target.secret)
    await page.click("form button.primary")
    await page.reads("Busiest channels")


if __name__ == "__main__":
    sys.exit(trio.run(main))
