"""What the dashboard's pages ask for: a way in, and beneath /dashboard/api the native protocol for who is signed in.

Rule 1: a secret is sent once, in the body of the request that signs in; after that there is the cookie (web/cookie.py).
Rule 2: no answer is kept by a browser, and none makes it ask for a password of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from sower.core.answer import HttpAnswer, Minted, SocketAnswer
from sower.core.command import Admit, Credentials, SocketCommand, WatchFrames
from sower.dialects.interface import JSON, Asked, Dialect, HttpCall, HttpRoute, Named, Opened, Reply, SocketRoute
from sower.dialects.native.socket import SUBPROTOCOL, NativeConversation
from sower.dialects.native.socket import refuse as refuse_socket
from sower.dialects.native.words import ENCODER
from sower.errors import BadFrame, BadJson, SowerError
from sower.net.http import Request, Response
from sower.web import cookie

SESSION = "/dashboard/session"

API = "/dashboard/api"

SIGNED_IN_FOR = 8 * 3600.0
"""Seconds: a working day."""

PRIVATE = (("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"))

_encode = msgspec.json.Encoder().encode


class _SignIn(msgspec.Struct, forbid_unknown_fields=True):
    key: str | None = None
    secret: str | None = None
    token: str | None = None


_decode = msgspec.json.Decoder(_SignIn).decode


def dashboard(native: Dialect) -> Dialect:
    """The routes. native: the protocol's own."""
    http = (HttpRoute("POST", SESSION, decode_sign_in, refuse), *(_signed_in(route) for route in native.http))
    frames = SocketRoute(API + "/frames/{session}", open_frames, refuse_socket, (SUBPROTOCOL,))
    return Dialect("dashboard", http, (frames, *(_signed_in_socket(route) for route in native.sockets)))


def decode_sign_in(call: HttpCall) -> Asked:
    """POST /dashboard/session: key and secret, or an admin token. Raises NotSameOrigin, BadJson.

    Answers {"expires"}, in seconds since 1970, and the cookie.
    """
    cookie.check_own_page(call)
    try:
        shown = _decode(call.body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadJson(f"The body cannot be read: {error}.") from error
    credentials = Credentials(token=shown.token) if shown.token else Credentials(shown.key, shown.secret or "")

    def admitted(answer: HttpAnswer) -> Reply:
        if not isinstance(answer, Minted):
            return Reply(b"{}")
        headers = (*JSON, *PRIVATE, cookie.write(answer.token, call.headers))
        return Reply(_encode({"expires": int(answer.expires)}), headers=headers)

    return Asked(credentials, Admit(SIGNED_IN_FOR), admitted)


class FramesConversation(NativeConversation):
    """The debug console's socket: it watches one session, and says nothing itself."""

    __slots__ = ("_session",)

    def __init__(self, session: str) -> None:
        super().__init__("", None)
        self._session = session

    def begin(self) -> Sequence[SocketCommand]:
        """Opening the socket is watching."""
        return (WatchFrames(self._session),)

    def receive(self, session: Named, payload: bytes, *, is_text: bool) -> Sequence[SocketCommand]:
        """Nothing. Raises BadFrame."""
        raise BadFrame("This socket is for listening alone.")

    def answer(self, session: Named, command: SocketCommand, answer: SocketAnswer) -> bytes:
        """The frames follow."""
        return _encode({"type": "watching"})

    def ends(self, command: SocketCommand | None) -> bool:
        """A socket that may not watch has nothing left to do."""
        return isinstance(command, WatchFrames)


def open_frames(call: HttpCall) -> Opened:
    """Watch a session. Raises NotSameOrigin, NotAuthorised."""
    return Opened(cookie.read(call), FramesConversation(call.params["session"]), ENCODER)


def tell_cookie(request: Request, params: Mapping[str, str]) -> Response:
    """GET /dashboard/session: whether the browser shows a cookie. Whether it is good, the first question tells."""
    return Response.json({"cookie": f"{cookie.NAME}=" in request.headers.get("cookie", "")}, headers=PRIVATE)


def sign_out(request: Request, params: Mapping[str, str]) -> Response:
    """DELETE /dashboard/session: have the browser forget its cookie."""
    return Response(204, headers=(*PRIVATE, cookie.GONE))


def refuse(call: HttpCall, error: SowerError) -> Reply:
    """An error without the header at which browsers ask for a password."""
    return Reply(_encode({"error": error.as_dict()}), error.status, (*JSON, *PRIVATE))


def _signed_in(route: HttpRoute) -> HttpRoute:
    """The same route for who shows the cookie."""

    def decode(call: HttpCall) -> Asked:
        shown = cookie.read(call)
        asked = route.decode(call)

        def encode(answer: HttpAnswer) -> Reply:
            reply = asked.encode(answer)
            return Reply(reply.body, reply.status, (*reply.headers, *PRIVATE))

        return Asked(shown, asked.command, encode)

    return HttpRoute(route.method, API + route.pattern, decode, refuse)


def _signed_in_socket(route: SocketRoute) -> SocketRoute:
    def open_socket(call: HttpCall) -> Opened:
        shown = cookie.read(call)
        return route.open(call)._replace(credentials=shown)

    return route._replace(pattern=API + route.pattern, open=open_socket)
