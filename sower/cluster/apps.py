"""Apps that are added while daemons run, in Redis for all nodes: each is known to all and at every start.

{all}:apps    +ID -> the app, with its secrets; -ID -> an id that is not given again
"""

from __future__ import annotations

import msgspec

from sower.apps import Added, AddedApps, Kept
from sower.cluster.node import Node
from sower.cluster.words import AppsChanged
from sower.errors import BadRequest

HERE, GONE = "+", "-"


class SharedApps(AddedApps):
    """What was added to any node."""

    def __init__(self, node: Node) -> None:
        self.kept = Kept()
        self._node = node
        self._key = f"{node.prefix}:{{all}}:apps".encode()

    async def fresh(self) -> Kept:
        """What there is now. Where Redis has lost it, what this node knows is said again. Raises ClusterFailed."""
        found: dict[bytes, bytes] = await self._node.line.ask(b"HGETALL", self._key)
        if not found and (self.kept.apps or self.kept.removed):
            await self._say(self.kept, Kept())
            return self.kept
        fields = {name.decode(): value for name, value in found.items()}
        apps = [msgspec.json.decode(value, type=Added) for name, value in fields.items() if name.startswith(HERE)]
        apps.sort(key=lambda app: (len(app.id), app.id))
        return Kept(tuple(apps), tuple(sorted(name[1:] for name in fields if name.startswith(GONE))))

    async def keep(self, kept: Kept) -> None:
        """Have it be this. Raises ClusterFailed, and BadRequest where another node gave an id meanwhile."""
        await self._say(kept, self.kept)
        self.kept = await self.fresh()
        if any(app not in self.kept.apps for app in kept.apps):
            raise BadRequest("The id was given at this moment by another daemon, and is not given twice.")

    async def _say(self, kept: Kept, before: Kept) -> None:
        fields: dict[str, bytes | str] = {HERE + app.id: msgspec.json.encode(app) for app in kept.apps}
        fields |= {HERE + app.id: "" for app in before.apps if app not in kept.apps}
        fields |= {GONE + app_id: "1" for app_id in kept.removed}
        await self._node.words.say(AppsChanged(), self._key, fields)
