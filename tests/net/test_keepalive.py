"""net/keepalive.py: everybody is looked after when it is due, and nobody else."""

from __future__ import annotations

import math
import weakref

import trio
import trio.testing

from sower.net.keepalive import GONE, SLOTS, TICK, Keepalive


class Patient:
    """Wants to be seen every so many seconds; notes when it was."""

    def __init__(self, every: float | None) -> None:
        self.due = -1
        self.every = every
        self.seen: list[float] = []

    def tend(self, now: float, wall: float) -> float | None:
        self.seen.append(wall)
        return self.every


async def wheel() -> tuple[Keepalive, list[float]]:
    wall = [0.0]
    return Keepalive(lambda: wall[0]), wall


def turn(keepalive: Keepalive, wall: list[float], times: int) -> None:
    for _ in range(times):
        wall[0] += TICK
        keepalive.turn()


async def test_everybody_is_tended_when_due() -> None:
    keepalive, wall = await wheel()
    patients = {every: Patient(every) for every in (1.0, 2.5, 25.0, 60.0)}
    for every, patient in patients.items():
        keepalive.look_again(patient, every)
    turn(keepalive, wall, 120)
    assert patients[1.0].seen == [float(n) for n in range(1, 121)]
    assert patients[2.5].seen[:3] == [3.0, 6.0, 9.0]
    assert patients[25.0].seen == [25.0, 50.0, 75.0, 100.0]
    assert patients[60.0].seen == [60.0, 120.0]


async def test_who_is_due_later_than_a_turn_of_the_wheel_is_seen_once_a_turn() -> None:
    keepalive, wall = await wheel()
    patient = Patient(3600.0)
    keepalive.look_again(patient, 3600.0)
    turn(keepalive, wall, 2 * SLOTS)
    assert len(patient.seen) == 2


async def test_an_earlier_look_replaces_a_later_one_and_not_the_other_way_round() -> None:
    keepalive, wall = await wheel()
    patient = Patient(None)
    keepalive.look_again(patient, 25.0)
    keepalive.look_again(patient, 5.0)
    keepalive.look_again(patient, 10.0)
    turn(keepalive, wall, 60)
    assert patient.seen == [5.0]


async def test_those_who_came_at_different_moments_are_not_seen_in_one_burst() -> None:
    keepalive, wall = await wheel()
    patients = [Patient(25.0) for _ in range(1000)]
    for at, patient in enumerate(patients):
        if at % 40 == 0:
            turn(keepalive, wall, 1)
        keepalive.look_again(patient, 25.0)
    turn(keepalive, wall, 100)
    counts = [sum(wall_at in patient.seen for patient in patients) for wall_at in map(float, range(60, 85))]
    assert counts == [40] * 25


async def test_it_runs_by_itself(autojump_clock: trio.testing.MockClock) -> None:
    keepalive = Keepalive(trio.current_time)
    patient = Patient(1.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keepalive.run)
        keepalive.look_again(patient, 1.0)
        await trio.sleep(5.5)
        assert len(patient.seen) == 5
        nursery.cancel_scope.cancel()


async def test_who_is_gone_is_let_go_before_its_turn_comes_and_the_others_are_tended_as_ever() -> None:
    keepalive, wall = await wheel()
    here, gone = [Patient(None) for _ in range(10)], [Patient(None) for _ in range(GONE)]
    for patient in (*here, *gone):
        keepalive.look_again(patient, 25.0)
    watched = [weakref.ref(patient) for patient in gone]
    while gone:
        keepalive.forget(gone.pop())
    del patient
    assert not any(reference() for reference in watched)
    turn(keepalive, wall, 30)
    assert all(patient.seen == [25.0] for patient in here)


async def test_one_that_raises_ends_no_other() -> None:
    keepalive, wall = await wheel()
    ill, well = Patient(math.inf), Patient(1.0)
    for patient in (ill, well):
        keepalive.look_again(patient, 1.0)
    turn(keepalive, wall, 3)
    assert ill.seen == [1.0]
    assert well.seen == [1.0, 2.0, 3.0]
