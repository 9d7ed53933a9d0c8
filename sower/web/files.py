"""The files that browsers are served.

Rule 1: the set of files is fixed when the daemon starts: a path is looked up in it, and never on the disk.
Rule 2: a page loads what this daemon serves and nothing else, and nobody frames it (CSP Level 3).
Rule 3: a browser keeps what it has, and asks each time whether it is still the same (RFC 9111 section 5.2.2.4).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from sower.config import Web
from sower.net.http import Header, Request, Response
from sower.net.routing import HttpEndpoint, Router

FOLDER = Path(__file__).parent / "files"

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".ts": "text/plain; charset=utf-8",
}
"""Types that browsers take. TypeScript has none; `.ts` is MPEG's in the registry."""

POLICY = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"

HEADERS: tuple[Header, ...] = (
    ("Cache-Control", "no-cache"),
    ("Content-Security-Policy", POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
)


def install(router: Router, settings: Web) -> None:
    """Add a route for each file. What is switched off is not there."""
    for path, file in served(settings):
        router.add("GET", path, _endpoint(file))


def served(settings: Web) -> Iterator[tuple[str, Path]]:
    """Each path and its file. A folder's index.html is at the folder's own path."""
    off = [name for name in settings.__struct_fields__ if not getattr(settings, name)]
    for file in sorted(FOLDER.rglob("*.*")):
        place = file.relative_to(FOLDER)
        if place.parts[0] not in off and file.suffix in TYPES:
            yield "/" + str(place.parent if file.name == "index.html" else place), file


def _endpoint(file: Path) -> HttpEndpoint:
    body = file.read_bytes()
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = (("Content-Type", TYPES[file.suffix]), ("ETag", etag), *HEADERS)
    fresh, known = Response(200, body, headers), Response(304, headers=headers)

    def endpoint(request: Request, params: Mapping[str, str]) -> Response:
        given = request.headers.get("if-none-match", "")
        same = given == "*" or etag in [tag.strip().removeprefix("W/") for tag in given.split(",")]
        return known if same else fresh

    return endpoint
