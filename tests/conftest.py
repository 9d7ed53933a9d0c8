"""What all tests share: the log, a clock that waits for the disk, and how Hypothesis looks for examples.

It takes the same ones each time, so that a run judges what was changed, and not its luck. New ones are looked for by
`pytest --hypothesis-profile=search`, and what they find becomes a test.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog
import trio.testing
from hypothesis import HealthCheck, settings

from sower.store.sqlite import DatabaseThread
from tests.store.patient import Patient

# How long an example takes says more of the machine than of Sower.
_SLOW = [HealthCheck.too_slow]

settings.register_profile("search", deadline=None, suppress_health_check=_SLOW, print_blob=True)
settings.register_profile("same", settings.get_profile("search"), derandomize=True, database=None)
settings.load_profile("same")


@pytest.fixture(autouse=True)
def logged_as_before() -> Iterator[None]:
    """A command that is run in this process has all of it log less, or to a stream that is closed then."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> Patient:
    """What has `patient_clock` stand while a database is at work."""
    patient = Patient()
    monkeypatch.setattr(DatabaseThread, "run", lambda *call, **more: patient.run(*call, **more))
    return patient


@pytest.fixture
def patient_clock(patient: Patient) -> trio.testing.MockClock:
    return patient.clock
