"""What several modules of end-to-end tests share."""

from __future__ import annotations

import pytest

from tests.e2e import daemon as daemon_module


@pytest.fixture(params=["2s", "0s"])
def sleep_after(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever asks for this holds for sessions that sleep after a while, and for those that sleep at once."""
    monkeypatch.setattr(daemon_module, "SESSION", f'[session]\nsleep_after = "{request.param}"\n')
