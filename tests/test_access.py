"""access.py: signatures and proofs; what else is shown is in tests/core/test_grants.py and tests/e2e/test_access.py."""

from __future__ import annotations

import pytest

from sower.access import Access
from sower.config import App, Limits
from sower.core.command import Credentials, Proof, Signature
from sower.core.grants import sign
from sower.errors import AppDisabled, BadSignature, UnknownKey

NOW = 1_800_000_000.0
SECRET, OLD = "current-secret-0123456789", "older-secret-0123456789"
APPS = (
    App(id="1", key="one", secret=SECRET, old_secret=OLD),
    App(id="2", key="two", secret="another-secret-0123456789"),
    App(id="3", key="off", secret=SECRET, enabled=False),
)


@pytest.fixture
def access() -> Access:
    return Access(APPS, Limits(), now=lambda: NOW)


def shown(
    text: str = "t",
    *,
    key: str = "one",
    secret: str = SECRET,
    app: str | None = "1",
    at: float = NOW,
    skew: float = 600.0,
) -> Credentials:
    return Credentials(signature=Signature(key, sign(secret.encode(), text), ("other", "t"), at, skew, app))


async def test_a_signed_request_is_the_servers_with_the_current_and_the_retiring_secret(access: Access) -> None:
    for credentials in (shown(), shown(secret=OLD), shown(app=None), shown(at=NOW - 600), shown(at=NOW + 600)):
        grant = access.authorise(credentials)
        assert (grant.app, grant.server) == ("1", True)


@pytest.mark.parametrize(
    ("credentials", "error"),
    [
        (shown("not what was sent"), BadSignature),
        (shown(secret="wrong-secret-0123456789"), BadSignature),
        (shown(app="2"), BadSignature),
        (shown(at=NOW - 601), BadSignature),
        (shown(at=NOW + 601), BadSignature),
        (shown(at=float("nan")), BadSignature),
        (shown(key="nobody"), UnknownKey),
        (shown(key="off", app="3"), AppDisabled),
    ],
)
async def test_a_signature_that_proves_nothing_is_refused(
    access: Access, credentials: Credentials, error: type[Exception]
) -> None:
    with pytest.raises(error):
        access.authorise(credentials)


async def test_a_proof_counts_with_the_key_of_its_connection_alone(access: Access) -> None:
    access.check("one", Proof("one", sign(SECRET.encode(), "1.2:private-a"), "1.2:private-a"))
    for proof in (
        Proof("one", sign(SECRET.encode(), "1.2:private-a"), "1.3:private-a"),
        Proof("two", sign(b"another-secret-0123456789", "1.2:private-a"), "1.2:private-a"),
        Proof("one", "", "1.2:private-a"),
        Proof("one", "é", "1.2:private-a"),
    ):
        with pytest.raises(BadSignature):
            access.check("one", proof)
