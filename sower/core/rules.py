"""Channel names and patterns -> the rules of a channel. The first rule that matches is the channel's rule.

Rule 1: private-* and presence-* are private whatever the config says, and presence-* has presence.
Rule 2: names that begin with [meta] are the daemon's own: private, and nothing else.
Rule 3: names that begin with # belong to one user each: private, and only servers publish there.
Rule 4: cache-*, and the same behind private-, private-encrypted- and presence-, remember their last event.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from sower.config import ChannelRule, Duration, History

RESERVED = "[meta]"
"""What the daemon's own channels begin with, as Ably's metachannels do."""

PRESENCE_OF = "[meta]presence:"
"""What the journal's name for the comings and goings on a channel begins with; the channel's own follows."""

OF_ONE_USER = "#"
"""What the channels of single users begin with."""

OF_USER = "#server-to-user-"
"""What a signed-in user's own channel begins with; the user's id follows. Pusher's SDKs subscribe to it."""

CACHING = ("cache-", "private-cache-", "private-encrypted-cache-", "presence-cache-")
"""What Pusher's cache channels begin with."""

CACHE_FOR = 1800.0
"""Seconds that such a channel remembers its last event, Pusher's limit."""

CACHED_NAMES = 10_000
"""Channel names whose rules are remembered."""


class Pattern:
    """`*` stands for any run of characters, everything else for itself.

    No regular expression: one with many stars backtracks for hours, and tokens bring patterns of their own.
    The first place where a part fits leaves the most room for the next, so nothing is ever tried twice.
    """

    __slots__ = ("_head", "_middle", "_tail", "text")

    def __init__(self, text: str) -> None:
        head, *rest = text.split("*")
        self.text = text
        self._head = head
        self._tail = rest.pop() if rest else None  # None: there is no star
        self._middle = tuple(part for part in rest if part)

    @classmethod
    def exactly(cls, name: str) -> Pattern:
        """The pattern of this name alone, whatever is in it."""
        pattern = cls("")
        pattern.text = pattern._head = name
        return pattern

    def matches(self, name: str) -> bool:
        """Whether the name is one of this pattern."""
        head, tail = self._head, self._tail
        if tail is None:
            return name == head
        at, end = len(head), len(name) - len(tail)
        if at > end or not name.startswith(head) or not name.endswith(tail):
            return False
        for part in self._middle:
            found = name.find(part, at, end)
            if found < 0:
                return False
            at = found + len(part)
        return True

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds on one channel.

    grace: seconds. cache: seconds that the last event is kept for newcomers, 0 for not.
    match: the pattern of the rule, empty where none matched
    members: whether clients may be members where presence is not, in protocols that know members everywhere
    """

    private: bool
    presence: bool
    grace: float
    client_events: bool
    history: History | None
    match: str
    cache: float = 0.0
    members: bool = True


def presence_of(channel: str) -> str:
    """The journal's name for the comings and goings on a channel."""
    return PRESENCE_OF + channel


RESERVED_RULES = Rules(
    private=True, presence=False, grace=0.0, client_events=False, history=None, match=RESERVED, members=False
)


class RuleBook:
    """All rules of a config."""

    def __init__(self, rules: Sequence[ChannelRule]) -> None:
        self._rules = [(Pattern(rule.match), rule) for rule in rules]
        self._alike: dict[Rules, Rules] = {}
        self.of = lru_cache(CACHED_NAMES)(self._of)

    def kept(self, name: str) -> History | None:
        """What the journal keeps under a name: of a channel's messages, or of the comings and goings there."""
        return self.of(name.removeprefix(PRESENCE_OF)).history

    def _of(self, name: str) -> Rules:
        if name.startswith(RESERVED):
            return RESERVED_RULES
        for pattern, rule in self._rules:
            if pattern.matches(name):
                return self._shared(_rules(name, rule))
        return self._shared(_rules(name, ChannelRule(match="", grace=Duration(2))))

    def _shared(self, rules: Rules) -> Rules:
        """One object for all channels that have the same; there are a few for each rule."""
        return self._alike.setdefault(rules, rules)


def _rules(name: str, rule: ChannelRule) -> Rules:
    of_members = name.startswith("presence-")
    of_one_user = name.startswith(OF_ONE_USER)
    private = of_members or of_one_user or name.startswith("private-") or bool(rule.private)
    cache = CACHE_FOR if name.startswith(CACHING) else 0.0
    return Rules(
        private=private,
        presence=of_members or (bool(rule.presence) and not of_one_user),
        grace=float(rule.grace),
        client_events=not of_one_user and (private if rule.client_events is None else rule.client_events),
        history=rule.history,
        match=rule.match,
        cache=cache if rule.cache is None else float(rule.cache),
        members=rule.presence is not False and not of_one_user,
    )
