"""How annotations are summed up."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sower.core import summaries
from sower.core.message import Annotation, Message
from sower.core.summaries import BY_CLIENT, METHODS, check, check_user, clipped, method_of, summed_up
from sower.errors import BadParameter, NotIdentified, TooLarge


def annotation(
    method: str, name: str = "", user: str | None = None, count: int | None = None, *, off: bool = False
) -> Message:
    return Message(2, name, b"null", user=user, about=Annotation(1, f"t:{method}", off, count))


ONE = st.builds(
    annotation,
    st.sampled_from([*METHODS, "unheard.v1"]),
    st.sampled_from(["up", "down", "heart"]),
    st.sampled_from(["ada", "bob", "eve", None]),
    st.sampled_from([None, 1, 3]),
    off=st.booleans(),
)


def sensible(one: Message) -> bool:
    assert isinstance(one.about, Annotation)
    try:
        check_user(one.about, one.user)
    except NotIdentified:
        return False
    return True


class Naive:
    """The same by sets and sums of everything that was ever said, in the order in which it was."""

    def __init__(self, said: list[Message]) -> None:
        self.said = said

    def summary(self) -> dict[str, Any]:
        return {f"t:{method}": entry for method in METHODS if (entry := getattr(self, method[:-3])(method))}

    def of(self, method: str) -> list[tuple[str, str | None, bool, int]]:
        return [
            (m.event, m.user, m.about.withdrawn, m.about.count or 1)
            for m in self.said
            if isinstance(m.about, Annotation) and m.about.type == f"t:{method}"
        ]

    def total(self, method: str) -> dict[str, Any] | None:
        total = 0
        for _, _, off, _ in self.of(method):
            total = max(0, total - 1) if off else total + 1
        return {"total": total} if total else None

    def flag(self, method: str) -> dict[str, Any] | None:
        last = {user: off for _, user, off, _ in self.of(method)}
        return self.list([user for user, off in last.items() if not off])

    def distinct(self, method: str) -> dict[str, Any]:
        last = {(name, user): off for name, user, off, _ in self.of(method)}
        return self.by_name([key for key, off in last.items() if not off])

    def unique(self, method: str) -> dict[str, Any]:
        at: dict[str | None, str] = {}
        for name, user, off, _ in self.of(method):
            if not off:
                at[user] = name
            elif at.get(user) == name:
                del at[user]
        return self.by_name([(name, user) for user, name in at.items()])

    def multiple(self, method: str) -> dict[str, Any]:
        counts: dict[str, dict[str | None, int]] = {}
        for name, user, off, count in self.of(method):
            of_name = counts.setdefault(name, {})
            of_name[user] = 0 if off else of_name.get(user, 0) + count
        found: dict[str, Any] = {}
        for name, of_name in counts.items():
            users = {user: count for user, count in of_name.items() if user is not None and count}
            nobody = of_name.get(None, 0)
            if users or nobody:
                total = sum(users.values()) + nobody
                found[name] = {
                    "total": total,
                    "clientIds": users,
                    "totalUnidentified": nobody,
                    "totalClientIds": len(users),
                }
        return found

    def by_name(self, pairs: list[tuple[str, str | None]]) -> dict[str, Any]:
        names = {name for name, _ in pairs}
        return {name: self.list([user for other, user in pairs if other == name]) for name in names}

    def list(self, users: list[str | None]) -> dict[str, Any] | None:
        return {"total": len(users), "clientIds": sorted(map(str, users))} if users else None


def in_order(entry: Any) -> Any:
    """A summary with the lists of clients sorted."""
    if isinstance(entry, dict):
        return {name: in_order(value) for name, value in entry.items()}
    return sorted(entry) if isinstance(entry, list) else entry


@given(st.lists(ONE.filter(sensible), max_size=40))
def test_a_summary_that_grows_annotation_by_annotation_is_what_a_look_at_all_of_them_gives(said: list[Message]) -> None:
    summary: bytes | None = None
    for number, one in enumerate(said, 1):
        summary = summed_up(summary, one)
        assert in_order(summaries.read(summary)) == Naive(said[:number]).summary()
    assert (summary is None) == (Naive(said).summary() == {})


def test_what_makes_no_sense_is_refused() -> None:
    for about, name, why in [
        (Annotation(1, ""), "", "1 to 256 characters"),
        (Annotation(1, "x" * 257), "", "1 to 256 characters"),
        (Annotation(1, "a\x00b"), "", "1 to 256 characters"),
        (Annotation(1, "likes:unique.v1"), "", "'likes:unique.v1' have a name"),
        (Annotation(1, "likes:multiple.v1", count=0), "up", "1 to 1000000, not 0"),
        (Annotation(1, "likes:multiple.v1", count=1_000_001), "up", "1 to 1000000, not 1000001"),
    ]:
        with pytest.raises(BadParameter, match=why):
            check(about, name)
    for method in BY_CLIENT:
        with pytest.raises(NotIdentified):
            check_user(Annotation(1, f"likes:{method}"), None)
    check_user(Annotation(1, "likes:multiple.v1"), None)
    with pytest.raises(NotIdentified):
        check_user(Annotation(1, "likes:multiple.v1", withdrawn=True), None)


@pytest.mark.parametrize(
    ("about", "name"),
    [
        (Annotation(1, "x"), ""),
        (Annotation(1, "x" * 256), ""),
        (Annotation(1, "likes:flag.v1"), ""),
        (Annotation(1, "likes:multiple.v1", count=1), "up"),
        (Annotation(1, "likes:multiple.v1", count=1_000_000), "up"),
    ],
)
def test_what_is_just_within_its_bounds_is_taken(about: Annotation, name: str) -> None:
    assert check(about, name) is about


def test_of_each_name_as_many_clients_are_told_as_there_is_room_for() -> None:
    def whole(clients: int) -> bytes:
        users = {f"u{number:03d}": 1 for number in range(clients)}
        return msgspec.json.encode(
            {
                "t:multiple.v1": {
                    "up": {"clientIds": users, "total": clients},
                    "down": {"clientIds": {"ada": 2}, "total": 2},
                }
            }
        )

    assert msgspec.json.decode(clipped(whole(900), 2000))["t:multiple.v1"] == {
        "up": {"clientIds": {f"u{number:03d}": 1 for number in range(125)}, "total": 900, "clipped": True},
        "down": {"clientIds": {"ada": 2}, "total": 2},
    }
    short = clipped(whole(900), 2000)
    assert clipped(whole(900), len(short)) == short
    assert len(clipped(whole(900), len(short) - 1)) < len(short)
    nobody = msgspec.json.decode(clipped(whole(900), 1))["t:multiple.v1"]
    assert nobody["up"] == {"clientIds": {}, "total": 900, "clipped": True}
    exactly = msgspec.json.decode(clipped(whole(1000), len(whole(1000)) - 1))["t:multiple.v1"]["up"]
    assert (len(exactly["clientIds"]), exactly["clipped"]) == (500, True)


def test_a_large_summary_is_told_with_fewer_clients_and_the_whole_count_and_one_too_large_is_refused() -> None:
    users = [f"user-{number:05d}" for number in range(10_000)]
    whole = msgspec.json.encode({"t:flag.v1": {"clientIds": users, "total": len(users)}, "t:total.v1": {"total": 7}})
    told = msgspec.json.decode(clipped(whole, 4096))
    assert len(clipped(whole, 4096)) <= 4096
    assert told["t:total.v1"] == {"total": 7}
    flag = told["t:flag.v1"]
    assert (flag["total"], flag["clipped"]) == (10_000, True)
    assert 0 < len(flag["clientIds"]) < 1000
    assert clipped(whole, len(whole)) == whole
    with pytest.raises(TooLarge):
        summed_up(whole, annotation("distinct.v1", "n" * summaries.LARGEST, "ada"))


def test_a_client_is_at_one_name_of_unique_and_at_many_of_distinct() -> None:
    for method, names in (("unique.v1", {"down"}), ("distinct.v1", {"up", "down"})):
        summary = summed_up(summed_up(None, annotation(method, "up", "ada")), annotation(method, "down", "ada"))
        assert summary is not None
        assert set(msgspec.json.decode(summary)[f"t:{method}"]) == names


def test_a_type_ends_with_its_method_behind_a_colon_or_is_not_summed_up() -> None:
    assert [
        method_of(kind) for kind in ("a:flag.v1", "a:b:total.v1", "a:odd.v1", "flag.v1", ":flag.v1", "flag.v1:a")
    ] == [
        "flag.v1",
        "total.v1",
        "",
        "",
        "flag.v1",
        "",
    ]
    assert summed_up(b"{}", annotation("odd.v1")) == b"{}"
    assert summed_up(b"{}", Message(2, "", b"null")) == b"{}"
