"""One for one: each child is restarted alone, with backoff, until it fails too often (Erlang's "Supervisor Behaviour").

Rule 1: this is the one place where any Exception of a child is caught; cancellation always passes.
Rule 2: past the restart intensity the child is given up and its owner is told; the daemon lives on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from sower.core.limits import RestartIntensity


async def supervise(
    run: Callable[[], Awaitable[None]],
    intensity: RestartIntensity,
    *,
    crashed: Callable[[Exception], None],
) -> bool:
    """Run a child until it returns by itself, restarting it after each crash.

    crashed: told of each crash before the child is started again
    Returns True when the child ended by itself, False when it failed past its restart intensity.
    """
    while True:
        try:
            await run()
        except Exception as error:  # noqa: BLE001 - the boundary of a channel: whatever it raises ends here
            crashed(error)
        else:
            return True
        if not intensity.crashed(trio.current_time()):
            return False
        await trio.sleep(intensity.backoff())
