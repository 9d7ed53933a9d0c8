"""The peers: nginx with nchan (Debian), and soketi (npm), each started with one process and its limits raised.

A peer that is not installed is installed where that can be done, and left out with a word where it cannot.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.bench.dialects import ABLY, ABLY_PACKED, NCHAN, PUSHER, Target
from tests.bench.servers import (
    APP,
    KEY,
    SECRET,
    Server,
    ServerFailed,
    ceiling,
    free_port,
    sower,
    sower_pusher,
    spawn,
    stop,
    wait_for_port,
)

NCHAN_MODULE = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")

NCHAN_CONFIG = """\
load_module {module};
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 60000; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    nchan_max_reserved_memory 256M;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location ~ ^/sub/(.+)$ {{ nchan_subscriber websocket; nchan_channel_id $1; nchan_subscriber_first_message newest; }}
        location ~ ^/pub/(.+)$ {{ nchan_publisher; nchan_channel_id $1; nchan_message_buffer_length {kept}; }}
    }}
}}
"""

SOKETI = Path(__file__).parent / "peers"
"""A package.json that names soketi, a Node that its binary part was built for, and that part."""


@contextmanager
def nchan(core: int | None) -> Iterator[Server]:
    """nginx with nchan, one worker."""
    if not NCHAN_MODULE.exists():
        _apt("nginx-light", "libnginx-mod-nchan")
    with tempfile.TemporaryDirectory(prefix="sower-bench-nchan-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        target = Target(free_port())
        config = folder / "nginx.conf"
        user = "user root;\n" if os.geteuid() == 0 else ""
        config.write_text(user + NCHAN_CONFIG.format(module=NCHAN_MODULE, folder=folder, port=target.port, kept=10))
        log = (folder / "log").open("wb")
        program = shutil.which("nginx") or "/usr/sbin/nginx"
        process = spawn([program, "-c", str(config), "-p", str(folder)], log.fileno(), core)
        try:
            wait_for_port(process, target)
            yield Server("nchan", target, NCHAN, _worker_of(process.pid))
        finally:
            stop(process)
            log.close()


@contextmanager
def soketi(core: int | None) -> Iterator[Server]:
    """soketi, one process."""
    server = SOKETI / "node_modules" / "@soketi" / "soketi" / "bin" / "server.js"
    node = SOKETI / "node_modules" / "node" / "bin" / "node"
    if not server.exists():
        _npm()
    target = Target(free_port(), KEY, SECRET)
    settings = {
        "SOKETI_HOST": target.host,
        "SOKETI_PORT": str(target.port),
        "SOKETI_METRICS_ENABLED": "false",
        "SOKETI_DEFAULT_APP_ID": APP,
        "SOKETI_DEFAULT_APP_KEY": KEY,
        "SOKETI_DEFAULT_APP_SECRET": SECRET,
        "SOKETI_DEBUG": "0",
    }
    process = spawn([str(node), str(server), "start"], subprocess.DEVNULL, core, {**os.environ, **settings})
    try:
        wait_for_port(process, target)
        yield Server("soketi", target, PUSHER, process.pid)
    finally:
        stop(process)


@contextmanager
def plain_trio(core: int | None) -> Iterator[Server]:
    """A broadcaster on trio-websocket's own server, as its examples are written (plain.py)."""
    target = Target(free_port())
    process = spawn([sys.executable, "-m", "tests.bench.plain", str(target.port)], subprocess.DEVNULL, core)
    try:
        wait_for_port(process, target)
        yield Server("trio-websocket", target, NCHAN, process.pid)
    finally:
        stop(process)


SERVERS = {
    "ceiling": ceiling,
    "sower": sower,
    "nchan": nchan,
    "sower-pusher": sower_pusher,
    "sower-ably": partial(sower, dialect=ABLY),
    "sower-ably-msgpack": partial(sower, dialect=ABLY_PACKED),
    "soketi": soketi,
    "trio-websocket": plain_trio,
}
"""What can be started, by name: each takes the core to run on."""


def _worker_of(master: int) -> int:
    """nginx serves in a child of the process that was started."""
    children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
    return int(children[0]) if children else master


def _apt(*packages: str) -> None:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise ServerFailed(f"not installed, and only root on Debian can: {' '.join(packages)}")
    command = ["apt-get", "install", "-qq", "--no-install-recommends", *packages]
    if subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode:
        raise ServerFailed(f"apt-get could not install {' '.join(packages)}")


def _npm() -> None:
    command = [
        "npm",
        "install",
        "--prefix",
        str(SOKETI),
        "--no-package-lock",
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
    ]
    if shutil.which("npm") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        raise ServerFailed("npm could not install soketi")
