"""Who is let into the dashboard, what the cookie is good for, and what other pages can do with it: nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from http.cookies import SimpleCookie
from pathlib import Path

import httpx
import pytest
import trio

from sower.core.grants import ALL, Can, Credential, mint, verify
from sower.core.rules import Pattern
from sower.errors import BadToken
from sower.store.audit import read
from sower.web.cookie import NAME
from tests.e2e.daemon import CONFIG, KEY, SECRET, Daemon, running

SHOWN = {"key": KEY, "secret": SECRET}


async def sign_in(daemon: Daemon, shown: dict[str, str] = SHOWN, origin: str | None = None) -> httpx.Response:
    headers = {"Origin": origin or daemon.url}
    return await daemon.request("POST", "/dashboard/session", auth=False, json=shown, headers=headers)


async def ask(daemon: Daemon, method: str, path: str, cookie: str, **headers: str) -> httpx.Response:
    return await daemon.request(method, f"/dashboard/api{path}", auth=False, headers={"Cookie": cookie, **headers})


def cookie_of(answer: httpx.Response) -> str:
    return answer.headers["set-cookie"].partition(";")[0]


async def test_key_and_secret_get_a_cookie_that_opens_the_api_and_is_no_scripts_to_read(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        answer = await sign_in(daemon)
        assert answer.status_code == 200
        assert SECRET not in answer.text + str(answer.headers)
        morsel = SimpleCookie(answer.headers["set-cookie"])[NAME]
        assert (morsel["httponly"], morsel["samesite"], morsel["path"], morsel["secure"]) == (True, "Strict", "", "")
        identity = await ask(daemon, "GET", "/identity", cookie_of(answer))
        assert identity.json()["app"] == "1001"
        assert identity.headers["cache-control"] == "no-store"
        assert (await ask(daemon, "GET", "/stats", cookie_of(answer))).json()["version"]
        assert (
            await daemon.request("GET", "/dashboard/session", auth=False, headers={"Cookie": cookie_of(answer)})
        ).json() == {"cookie": True}
        left = await daemon.request("DELETE", "/dashboard/session", auth=False)
        assert "Max-Age=0" in left.headers["set-cookie"]
        await daemon.stop()
        assert [record.kind for record in read(str(tmp_path / "sower.db"), kinds=["dashboard_opened"])] == [
            "dashboard_opened"
        ]


@pytest.mark.parametrize(
    ("shown", "status", "code"),
    [
        ({"key": KEY, "secret": "wrong"}, 401, "wrong_secret"),
        ({"key": KEY, "secret": ""}, 401, "wrong_secret"),
        ({"key": KEY}, 401, "wrong_secret"),
        ({"key": "nobody", "secret": SECRET}, 401, "unknown_key"),
        ({"token": "x.y.z"}, 401, "bad_token"),
        ({"secrets": SECRET}, 400, "bad_json"),
    ],
)  # fmt: skip
async def test_who_shows_anything_else_is_refused_and_asked_for_no_password(
    tmp_path: Path, shown: dict[str, str], status: int, code: str
) -> None:
    async with running(tmp_path) as daemon:
        answer = await sign_in(daemon, shown)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        assert "set-cookie" not in answer.headers
        assert "www-authenticate" not in answer.headers


async def test_a_client_s_token_is_no_admin_s(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        made = (await daemon.request("POST", "/channels/private-a/auth", json={"user": "ada"})).json()["token"]
        answer = await sign_in(daemon, {"token": made})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
        assert (await ask(daemon, "GET", "/stats", f"{NAME}={made}")).status_code == 403


async def test_the_command_prints_a_token_that_signs_in_and_lasts_no_longer_by_it(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        command = [sys.executable, "-m", "sower", "dashboard", "--ttl", "10m", "--json", "--config", str(daemon.config)]
        printed = await trio.run_process(command, capture_stdout=True)
        told = json.loads(printed.stdout)
        assert told["url"] == f"{daemon.url}/dashboard"
        answer = await sign_in(daemon, {"token": told["token"]})
        assert answer.json()["expires"] <= told["expires"] + 31  # the leeway for clocks that differ
        assert (await ask(daemon, "GET", "/stats", cookie_of(answer))).status_code == 200
        assert (
            await daemon.request("GET", "/channels", auth=False, headers={"Authorization": f"Bearer {told['token']}"})
        ).status_code == 200


def test_what_inspect_says_of_an_admin_s_token() -> None:
    token = mint(
        Credential("1001", KEY, SECRET.encode()),
        channels={},
        user=None,
        issued=0,
        expires=4e9,
        token_id="x",
        admin=True,
    )
    said = subprocess.run(
        [sys.executable, "-m", "sower", "token", "inspect", "-"],
        input=token,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "everything that the secret allows" in said
    assert "no client should have it" in said


def test_a_key_that_may_not_do_everything_makes_no_admin_s_token() -> None:
    claims = ((Pattern("news"), frozenset({Can.SUBSCRIBE})),)
    for limited in (None, claims):
        credential = Credential("1001", KEY, SECRET.encode(), claims=limited)
        token = mint(credential, channels={}, user=None, issued=0, expires=4e9, token_id="x", admin=True)
        if limited is None:
            assert verify(token, {KEY: credential}, now=1e9).server
        else:
            with pytest.raises(BadToken, match="only some things"):
                verify(token, {KEY: credential}, now=1e9)


async def test_no_client_can_make_its_token_an_admin_s(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        forged = mint(
            Credential("1001", KEY, b"another secret of somebody"),
            channels={"*": ALL},
            user=None,
            issued=0,
            expires=4e9,
            token_id="x",
            admin=True,
        )
        assert (await ask(daemon, "GET", "/stats", f"{NAME}={forged}")).status_code == 401
        refused = await daemon.request("POST", "/channels/a/auth", json={"admin": True})
        assert refused.status_code == 400


async def test_pages_of_another_origin_can_neither_use_the_cookie_nor_sign_in(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        cookie = cookie_of(await sign_in(daemon))
        other = f"http://127.0.0.1:{daemon.port + 1}"  # the same site, as SameSite counts
        assert (await sign_in(daemon, origin=other)).json()["error"]["code"] == "not_same_origin"
        for headers in (
            {"Origin": other},
            {"Sec-Fetch-Site": "same-site"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Origin": "null"},
        ):
            for method, path in (("GET", "/stats"), ("DELETE", "/sessions/x"), ("POST", "/events/publish")):
                refused = await ask(daemon, method, path, cookie, **headers)
                assert (refused.status_code, refused.json()["error"]["code"]) == (403, "not_same_origin"), (
                    headers,
                    path,
                )
        assert (await ask(daemon, "POST", "/events/publish", cookie)).json()["error"][
            "code"
        ] == "not_same_origin"  # says nothing
        assert (await ask(daemon, "GET", "/stats", cookie, **{"Sec-Fetch-Site": "same-origin"})).status_code == 200
        assert (await ask(daemon, "GET", "/stats", cookie, Origin=daemon.url)).status_code == 200


async def test_a_socket_opens_with_the_cookie_from_its_own_page_alone(tmp_path: Path) -> None:
    from trio_websocket import open_websocket_url

    async with running(tmp_path) as daemon:
        cookie = cookie_of(await sign_in(daemon))
        url = f"ws://127.0.0.1:{daemon.port}/dashboard/api/ws/private-a"
        for origin, kind in ((daemon.url, "welcome"), (f"http://127.0.0.1:{daemon.port + 1}", "error")):
            headers = [(b"Cookie", cookie.encode()), (b"Origin", origin.encode())]
            async with open_websocket_url(url, extra_headers=headers) as socket:
                assert json.loads(await socket.get_message())["type"] == kind


async def test_the_cookie_counts_nowhere_else(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        cookie = cookie_of(await sign_in(daemon))
        answer = await daemon.request("GET", "/channels", auth=False, headers={"Cookie": cookie, "Origin": daemon.url})
        assert answer.status_code == 403


async def test_a_cookie_that_came_over_tls_goes_over_tls_alone(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        answer = await sign_in(daemon, origin=f"https://127.0.0.1:{daemon.port}")
        assert "; Secure" in answer.headers["set-cookie"]


async def test_who_tries_secrets_is_told_to_wait(tmp_path: Path) -> None:
    async with running(tmp_path, '[limits]\nrefusals = "1/m burst 3"\n' + CONFIG) as daemon:
        statuses = [(await sign_in(daemon, {"key": KEY, "secret": f"guess {n}"})).status_code for n in range(5)]
        assert statuses == [401, 401, 401, 429, 429]


async def test_the_audit_and_the_trend_are_read_over_http_by_servers_alone(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        await daemon.request("GET", "/channels", auth=False)
        told = (await daemon.request("GET", "/audit", params={"kind": "refused,started"})).json()["records"]
        assert {record["kind"] for record in told} <= {"refused", "started"}
        older = (await daemon.request("GET", "/audit", params={"before": told[-1]["time"]})).json()["records"]
        assert all(record["time"] < told[-1]["time"] for record in older)
        assert set((await daemon.request("GET", "/trend")).json()) == {"every", "publishes", "deliveries"}
        for path in ("/audit", "/trend", "/identity", "/stats"):
            assert (await daemon.request("GET", path, auth=False)).status_code == 403
        assert (await daemon.request("GET", "/audit", params={"before": "yesterday"})).status_code == 400
