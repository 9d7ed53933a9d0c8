"""The generator against the least server: what it counts is what there is."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.bench.dialects import CHANNEL_HOLE, HOLE, MARK, NATIVE, SIGNED_REQUESTS, Target, client_frame, payload
from tests.bench.generator import Generator, LoadFailed, generator
from tests.bench.servers import Server, ceiling, free_port


@pytest.fixture
def server() -> Iterator[Server]:
    with ceiling(None) as server:
        yield server


@pytest.fixture
def load(server: Server) -> Iterator[Generator]:
    with generator(None) as load:
        load.aim(server.target, server.dialect, "any", 100)
        yield load


def test_each_publish_is_delivered_to_each_subscriber(load: Generator) -> None:
    assert load.open(20)["opened"] == 20
    answer = load.run("http", 4, seconds=10, expect=20, most=50)
    assert (answer["publishes"], answer["deliveries"]) == (50, 1000)
    assert 0 < answer["ack50"] <= answer["ack99"]


def test_numbers_go_on_from_one_run_to_the_next(load: Generator) -> None:
    load.open(3)
    for _ in range(3):
        assert load.run("http", 2, seconds=10, expect=3, most=10)["deliveries"] == 30


def test_signed_requests_are_told_apart_when_they_come_round_again(load: Generator, server: Server) -> None:
    signing = replace(server.dialect, sign=lambda _target, path, _body: path + "?signed")
    load.aim(server.target, signing, "any", 100)
    load.open(2)
    most = 2 * SIGNED_REQUESTS + 7
    for _ in range(2):
        assert load.run("http", 8, seconds=10, expect=2, most=most)["deliveries"] == 2 * most


@pytest.mark.slow
def test_a_delivery_that_never_comes_is_told(load: Generator) -> None:
    """With two expected of each publish and one subscriber, the second never comes."""
    load.open(1)
    with pytest.raises(LoadFailed, match="lost"):
        load.run("http", 1, seconds=0.1, expect=2, most=1)


def test_a_server_that_is_not_there_is_told(load: Generator, server: Server) -> None:
    load.aim(Target(free_port()), server.dialect, "any", 100)
    with pytest.raises(LoadFailed, match="cannot connect"):
        load.open(1)


def test_a_payload_has_its_size_and_one_hole_after_the_mark() -> None:
    text = payload(100)
    assert len(text) == 100
    assert text.count(MARK + HOLE) == text.count(HOLE) == 1


@pytest.mark.parametrize("size", [0, 125, 126, 65535])
def test_a_client_frame_is_masked_with_zeros_and_has_its_length(size: int) -> None:
    frame = client_frame("x" * size)
    assert frame[1] & 0x80
    assert frame.endswith(bytes(4) + b"x" * size)


def test_a_signed_protocol_has_many_requests_each_with_its_number() -> None:
    signing = replace(NATIVE, sign=lambda _target, path, _body: path + "?signed")
    requests = signing.requests(Target(1, "key", "secret"), "any", payload(100))
    assert f"{MARK}000000000007".encode() in requests[7]
    assert all(b"?signed HTTP" in request for request in requests)


def test_signed_requests_for_many_channels_are_for_the_same_channel_each_time() -> None:
    signing = replace(NATIVE, sign=lambda _target, path, _body: path + "?signed")
    requests = signing.requests(Target(1, "key", "secret"), f"c-{CHANNEL_HOLE}", payload(100), channels=1000)
    assert b"c-000000000007" in requests[1007]
    assert f"{MARK}000000001007".encode() in requests[1007]
    with pytest.raises(ValueError, match="divide"):
        signing.requests(Target(1), "c", payload(100), channels=999)


def test_a_delivery_on_a_wrong_channel_is_told(load: Generator, server: Server) -> None:
    """The least server sends everything to everybody, whatever the channel."""
    load.aim(server.target, server.dialect, f"c-{CHANNEL_HOLE}", 100, channels=2)
    load.open(2)
    with pytest.raises(LoadFailed, match="stray"):
        load.run("http", 1, seconds=10, expect=1, most=2)


def test_a_paced_run_publishes_at_its_rate_and_counts_from_when_each_was_due(load: Generator) -> None:
    load.open(2)
    answer = load.run("http", 4, seconds=0.25, expect=2, rate=200)
    assert answer["publishes"] == 50
    assert answer["seconds"] < 5


def test_a_socket_that_ends_while_it_is_held_is_told(load: Generator, server: Server) -> None:
    load.open(2)
    assert load.hold(0.01)["pings"] == 0
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    with pytest.raises(LoadFailed, match="hung up"):
        load.hold(10)
