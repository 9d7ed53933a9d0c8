"""The dashboard's cookie: an admin token that scripts cannot read, and that only the dashboard's own pages can use.

Rule 1: it is HttpOnly and SameSite=Strict. It names no path and no age: so it goes to what is beneath /dashboard
        alone (RFC 6265 section 5.1.4, whatever prefix a proxy adds), and ends with the browser, or with its token.
Rule 2: it counts only in what a page of this origin asks for: SameSite takes other ports of a host for the same site.
Rule 3: it never counts beside another credential, and nothing but the dashboard's routes reads it.
"""

from __future__ import annotations

from collections.abc import Mapping

from sower.core.command import Credentials
from sower.dialects.interface import HttpCall
from sower.errors import NotAuthorised, NotSameOrigin

NAME = "sower-dashboard"

Header = tuple[str, str]


def read(call: HttpCall) -> Credentials:
    """What a request of one of the dashboard's pages shows. Raises NotSameOrigin, NotAuthorised."""
    check_own_page(call)
    for pair in call.headers.get("cookie", "").split(";"):
        name, _, value = pair.strip().partition("=")
        if name == NAME and value:
            return Credentials(token=value)
    raise NotAuthorised("Nobody is signed in here.")


def check_own_page(call: HttpCall) -> None:
    """Whether a page of this origin asks. Raises NotSameOrigin.

    Browsers say it in Sec-Fetch-Site or in Origin, which scripts cannot set; older ones say nothing of a simple GET,
    whose answer no other origin can read.
    """
    headers = call.headers
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if site == "same-origin" or (origin is not None and origin.partition("://")[2] == headers.get("host")):
        return
    if origin is None and site in (None, "none") and call.method in ("GET", "HEAD"):
        return
    raise NotSameOrigin(f"This was asked for by {(origin or site or 'nobody')[:100]!r}.")


def write(token: str, headers: Mapping[str, str]) -> Header:
    """The header that signs a browser in. headers: those of its request, which tell whether it came over TLS."""
    secure = "; Secure" if headers.get("origin", "").startswith("https://") else ""
    return "Set-Cookie", f"{NAME}={token}; HttpOnly; SameSite=Strict{secure}"


GONE: Header = ("Set-Cookie", f"{NAME}=; HttpOnly; SameSite=Strict; Max-Age=0")
"""The header that signs a browser out."""
