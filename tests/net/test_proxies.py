"""net/proxies.py: who is believed, and both versions of the PROXY protocol, whole and in pieces."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sower.net.proxies import V2, ProxyHeader, Trusted, parse_header

PROXIES = Trusted(("10.0.0.0/8", "192.0.2.1", "unix", "2001:db8::/32"))


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),  # nobody who is believed
        ("10.1.2.3", "", "10.1.2.3"),
        ("10.1.2.3", "198.51.100.1", "198.51.100.1"),
        ("10.1.2.3", "1.1.1.1, 198.51.100.1", "198.51.100.1"),  # what the client itself claims is not believed
        ("10.1.2.3", "1.1.1.1, 198.51.100.1, 10.9.9.9", "198.51.100.1"),
        ("unix", "198.51.100.1", "198.51.100.1"),
        ("10.1.2.3", "nonsense", "10.1.2.3"),
        ("10.1.2.3", "evil, 10.0.0.2", "10.0.0.2"),
        ("2001:db8::1", "2001:DB9::0001", "2001:db9::1"),
    ],
)
def test_the_client_is_the_nearest_who_is_no_trusted_proxy(peer: str, forwarded: str, client: str) -> None:
    assert PROXIES.client(peer, forwarded) == client


@pytest.mark.parametrize("entry", ["localhost", "10.0.0.1/8", "300.1.1.1", ""])
def test_what_is_no_address_is_no_proxy(entry: str) -> None:
    with pytest.raises(ValueError, match=r"does not appear to be|has host bits set"):
        Trusted((entry,))


def v2(command: int, family: int, addresses: bytes) -> bytes:
    return V2 + struct.pack("!BBH", command, family, len(addresses)) + addresses


IPV4 = bytes((198, 51, 100, 1)) + bytes(4) + b"\1\1\2\2"

GOOD = [
    (b"PROXY TCP4 198.51.100.1 10.0.0.1 5000 80\r\n", "198.51.100.1"),
    (b"PROXY TCP6 2001:db8::1 ::1 5000 80\r\n", "2001:db8::1"),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
    (v2(0x21, 0x11, IPV4), "198.51.100.1"),
    (v2(0x21, 0x11, IPV4 + b"\3\0\1x"), "198.51.100.1"),  # with a TLV behind the addresses
    (v2(0x21, 0x21, bytes(15) + b"\1" + bytes(20)), "::1"),
    (v2(0x20, 0, b""), None),  # a health check of the proxy's own
    (v2(0x21, 0x31, bytes(216)), None),  # a unix socket at the proxy's other side
]


@pytest.mark.parametrize(("header", "address"), GOOD)
def test_a_header_says_who_the_client_is_and_where_its_bytes_begin(header: bytes, address: str | None) -> None:
    assert parse_header(header + b"GET / HTTP/1.1\r\n") == ProxyHeader(len(header), address)
    for end in range(len(header)):
        assert parse_header(header[:end]) is None


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"PROXY TCP4 nonsense 10.0.0.1 5000 80\r\n",
        b"PROXY TCP4 198.51.100.1\r\n",
        b"PROXY HTTP 198.51.100.1 10.0.0.1 5000 80\r\n",
        b"PROXY " + b"x" * 200,
        v2(0x31, 0x11, IPV4),
        v2(0x21, 0x11, IPV4[:8]),
        V2 + struct.pack("!BBH", 0x21, 0x11, 60_000),
    ],
)
def test_what_is_no_header_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"PROXY header|does not appear to be"):
        parse_header(data)


@given(
    st.binary(max_size=600)
    | st.binary(max_size=600).map(lambda data: b"PROXY " + data)
    | st.binary(max_size=600).map(lambda data: V2 + data)
)
def test_no_bytes_do_anything_but_parse_wait_or_raise_a_value_error(data: bytes) -> None:
    try:
        header = parse_header(data)
    except ValueError:
        return
    assert header is None or 0 < header.length <= len(data)
