"""collector.py: what lives is frozen, what is garbage is not kept."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from sower.collector import NEWCOMERS, Collector


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


class Node:
    """May refer to itself."""

    other: Node | None = None


def test_after_so_many_newcomers_the_living_are_frozen_and_cycles_are_collected_first() -> None:
    collector = Collector()
    gc.collect()
    cycle = Node()
    cycle.other = cycle
    gone = weakref.ref(cycle)
    del cycle
    living = [Node() for _ in range(100)]
    frozen = gc.get_freeze_count()
    for _ in range(NEWCOMERS - 1):
        collector.came()
    assert gc.get_freeze_count() == frozen
    collector.came()
    assert gc.get_freeze_count() > frozen + len(living)
    assert gone() is None


def test_what_is_frozen_is_still_freed_by_its_count() -> None:
    living = Node()
    Collector().freeze()
    gone = weakref.ref(living)
    del living
    assert gone() is None


def test_what_was_frozen_and_is_garbage_is_collected_once_memory_grew_by_a_quarter() -> None:
    blocks = 1000
    collector = Collector(lambda: blocks)
    collector.freeze()
    cycle = Node()
    cycle.other = cycle
    gone = weakref.ref(cycle)
    collector.freeze()
    del cycle
    for blocks, seen in ((1000, False), (1250, False), (1251, True)):
        collector.freeze()
        assert (gone() is None) == seen, blocks
