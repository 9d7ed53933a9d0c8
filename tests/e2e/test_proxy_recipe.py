"""The recipe for nginx in sower-operations(7), as it stands there, in a real nginx before a real daemon."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.certificates import make_certificate
from tests.cli.shell import sower
from tests.e2e.daemon import PATIENCE, Daemon, free_port, running

ROOT = Path(__file__).parents[2]

AROUND = """\
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
access_log off;
client_body_temp_path {folder}/body;
proxy_temp_path {folder}/proxy;
fastcgi_temp_path {folder}/fastcgi;
uwsgi_temp_path {folder}/uwsgi;
scgi_temp_path {folder}/scgi;
{recipe}
}}
"""


def recipe() -> str:
    """The manual's lines, as somebody would copy them."""
    page = (ROOT / "man" / "sower-operations.7").read_text()
    lines = page.partition(".Ss nginx\n.Bd -literal -offset indent\n")[2].partition("\n.Ed")[0]
    return lines.replace("\\(aq", "'")


@asynccontextmanager
async def nginx(daemon: Daemon, recipe: str) -> AsyncGenerator[str]:
    """An nginx in front of a daemon. Gives its address."""
    folder, port = daemon.folder, free_port()
    make_certificate(folder)
    recipe = recipe.replace("127.0.0.1:8787", f"127.0.0.1:{daemon.port}").replace(
        "listen 443", f"listen 127.0.0.1:{port}"
    )
    recipe = re.sub(r"ssl_certificate( +|_key +)\S+/(fullchain|privkey).pem", rf"ssl_certificate\1{folder}/\2", recipe)
    recipe = recipe.replace(f"{folder}/fullchain", f"{folder}/localhost.pem").replace(
        f"{folder}/privkey", f"{folder}/localhost.key"
    )
    config = folder / "nginx.conf"
    config.write_text(AROUND.format(folder=folder, recipe=recipe))
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin") or "nginx"
    process = subprocess.Popen([program, "-p", str(folder), "-c", str(config)], stderr=subprocess.PIPE)  # noqa: ASYNC220
    try:
        with trio.fail_after(PATIENCE):
            while True:
                try:
                    await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
                    break
                except OSError:
                    assert process.poll() is None, process.stderr.read() if process.stderr else ""
                    await trio.lowlevel.checkpoint()
        yield f"https://localhost:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


@pytest.mark.parametrize(
    ("line", "instead", "proxy", "websocket"),
    [
        ("proxy_buffering off;", "proxy_buffering off;", "ok", "ok"),
        ("proxy_buffering off;", "proxy_ignore_headers X-Accel-Buffering;", "bad", "ok"),
        ("proxy_set_header Upgrade $http_upgrade;", "", "ok", "bad"),
    ],
)
async def test_doctor_is_content_with_the_recipe_and_finds_what_a_proxy_lacks(
    tmp_path: Path, line: str, instead: str, proxy: str, websocket: str
) -> None:
    async with running(tmp_path, server='trusted_proxies = ["127.0.0.1"]') as daemon:
        assert line in recipe()
        async with nginx(daemon, recipe().replace(line, instead)) as address:
            trusting = {"SSL_CERT_FILE": str(tmp_path / "localhost.pem")}
            ended = await sower(tmp_path, "doctor", "--public", address, **trusting)
            states = dict(line.split("\t")[1::-1] for line in ended.out.splitlines())
            assert (states["proxy"], states["websocket"]) == (proxy, websocket), ended.out
