"""What browsers are served: a fixed set of files, cached by what they are, and under a strict policy."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from sower.config import Web
from sower.manual import PAGES_SERVED
from sower.web.files import FOLDER, TYPES, served
from tests.e2e.daemon import CONFIG, running
from tests.e2e.raw import connection

ROOT = Path(__file__).parents[2]
ALL = dict(served(Web(demo=True)))


async def test_each_file_comes_with_its_type_and_under_a_policy_that_lets_nothing_else_in(tmp_path: Path) -> None:
    async with running(tmp_path, CONFIG + "\n[web]\ndemo = true\n") as daemon:
        for path, file in ALL.items():
            answer = await daemon.request("GET", path, auth=False)
            assert (answer.status_code, answer.content) == (200, file.read_bytes()), path
            assert answer.headers["content-type"] == TYPES[file.suffix]
            assert answer.headers["content-security-policy"].startswith("default-src 'self';")
            assert "unsafe" not in answer.headers["content-security-policy"]
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cache-control"] == "no-cache"


async def test_a_browser_that_has_a_file_is_told_that_it_is_the_same(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        etag = (await daemon.request("GET", "/sower.js", auth=False)).headers["etag"]
        for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
            again = await daemon.request("GET", "/sower.js", auth=False, headers={"If-None-Match": known})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
            assert "content-length" not in again.headers
        other = await daemon.request("GET", "/sower.js", auth=False, headers={"If-None-Match": '"other"'})
        assert other.status_code == 200
        head = await daemon.request("HEAD", "/sower.js", auth=False)
        assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", etag)


@pytest.mark.parametrize(
    "path",
    [
        "/demo/../../config.py",
        "/web/%2e%2e/files.py",
        "/web/..%2f..%2fconfig.py",
        "//etc/passwd",
        "/web//style.css",
        "/web/",
        "/demo/index.html",
        "/web/style.css/",
        "/__init__.py",
    ],
)
async def test_no_path_leads_out_of_the_set(tmp_path: Path, path: str) -> None:
    async with running(tmp_path, CONFIG + "\n[web]\ndemo = true\n") as daemon, connection(daemon) as wire:
        await wire.send(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert (await wire.until(b"not_found")).startswith(b"HTTP/1.1 404")


async def test_what_is_switched_off_is_not_there(tmp_path: Path) -> None:
    async with running(tmp_path, CONFIG + "\n[web]\ndashboard = false\n") as daemon:
        assert (await daemon.request("GET", "/dashboard/api/stats")).status_code == 404
        for path in ALL:
            gone = path.startswith(("/demo", "/dashboard"))
            assert (await daemon.request("GET", path, auth=False)).status_code == (404 if gone else 200), path


def test_the_manual_names_each_page_and_module() -> None:
    pages = {path for path, file in ALL.items() if file.suffix == ".html" or path == "/sower.js"}
    assert set(PAGES_SERVED) == pages


def test_the_files_say_nothing_that_the_policy_forbids_and_load_nothing_from_elsewhere() -> None:
    for file in ALL.values():
        text = file.read_text()
        assert "innerHTML" not in text, file
        assert "insertAdjacentHTML" not in text, file
        assert "eval(" not in text, file
        if file.suffix == ".html":
            assert "style=" not in text, file
            assert "http" not in text, file
            assert not re.search(r"\son\w+=", text), file
            assert "<script>" not in text, file


@pytest.mark.slow
def test_a_wheel_has_all_of_them(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(ROOT)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    for file in ALL.values():
        assert f"sower/web/files/{file.relative_to(FOLDER)}" in names
