"""users.py: who is online, and who is told of it."""

from __future__ import annotations

from typing import Any, cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sower.core.answer import Watched
from sower.core.command import Proof, SignIn
from sower.core.grants import Grant
from sower.net.session import Session
from sower.users import Users


class Socket:
    """Of a session, what Users asks for; it keeps what it was told as a list of who is online."""

    def __init__(self, app: str = "1") -> None:
        self.grant = Grant(app, "key")
        self.words: list[Watched] = []

    def tell(self, word: Watched) -> None:
        self.words.append(word)

    @property
    def sees(self) -> set[str]:
        online: set[str] = set()
        for word in self.words:
            online = online.union(word.online).difference(word.offline)
        return online


def session(socket: Socket) -> Session:
    return cast(Any, socket)


def sign_in(user: str, *watchlist: str) -> SignIn:
    return SignIn(Proof("key", "", ""), user, None, watchlist, "")


def test_a_second_socket_is_no_news_and_neither_is_the_end_of_the_first() -> None:
    users, ada, tab1, tab2 = Users(), Socket(), Socket(), Socket()
    users.came(session(ada), sign_in("ada", "bob"))
    assert ada.words == [Watched(offline=("bob",))]
    users.came(session(tab1), sign_in("bob"))
    users.came(session(tab2), sign_in("bob"))
    users.went(session(tab1))
    assert ada.words[1:] == [Watched(online=("bob",))]
    users.went(session(tab2))
    assert ada.words[2:] == [Watched(offline=("bob",))]


def test_a_user_who_signs_in_again_over_the_same_socket_is_no_news() -> None:
    users, ada, bob = Users(), Socket(), Socket()
    users.came(session(ada), sign_in("ada", "bob"))
    users.came(session(bob), sign_in("bob"))
    users.came(session(bob), sign_in("bob", "ada"))
    assert ada.words == [Watched(offline=("bob",)), Watched(online=("bob",))]
    assert bob.words == [Watched(online=("ada",))]


def test_users_of_another_app_are_others() -> None:
    users, ada, other = Users(), Socket("1"), Socket("2")
    users.came(session(ada), sign_in("ada", "bob"))
    users.came(session(other), sign_in("bob"))
    assert ada.sees == set()
    assert list(users.sessions("1", "bob")) == []
    assert list(users.sessions("2", "bob")) == [session(other)]


def test_a_socket_that_never_signed_in_goes_quietly() -> None:
    users, socket = Users(), Socket()
    users.went(session(socket))
    assert users.user_of(session(socket)) is None
    assert socket.words == []


NAMES = st.sampled_from("abc")


class ComingAndGoing(RuleBasedStateMachine):
    """At any time each socket's list of who of its watchlist is online, made from what it was told, is true."""

    def __init__(self) -> None:
        super().__init__()
        self.users = Users()
        self.signed_in: dict[Socket, tuple[str, set[str]]] = {}

    @rule(user=NAMES, watchlist=st.lists(NAMES, max_size=4))
    def come(self, user: str, watchlist: list[str]) -> None:
        socket = Socket()
        self.users.came(session(socket), sign_in(user, *watchlist))
        self.signed_in[socket] = (user, set(watchlist))

    @rule(data=st.data())
    def go(self, data: st.DataObject) -> None:
        if self.signed_in:
            socket = data.draw(st.sampled_from(list(self.signed_in)))
            del self.signed_in[socket]
            self.users.went(session(socket))

    @invariant()
    def everybody_sees_who_is_there(self) -> None:
        online = {user for user, _ in self.signed_in.values()}
        for socket, (user, watchlist) in self.signed_in.items():
            assert socket.sees == watchlist & online
            assert session(socket) in self.users.sessions("1", user)


TestComingAndGoing = ComingAndGoing.TestCase
TestComingAndGoing.settings = settings(max_examples=50, stateful_step_count=20, deadline=None)
