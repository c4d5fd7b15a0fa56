"""T-42 and T-43: which addresses a partner may have dialled."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sitpayd.actors.addresses import is_public

INSIDE = (
    "0.0.0.0",
    "10.1.2.3",
    "100.100.100.200",
    "127.0.0.1",
    "168.63.129.16",
    "169.254.169.254",
    "172.31.255.255",
    "192.0.0.192",
    "192.168.0.1",
    "198.18.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "3fff::1",
    "fc00::1",
    "fe80::1",
    "fe80::1%eth0",
    "2a00::1%eth0",
    "fec0::1",
    "ff02::1",
)
OUTSIDE = (
    "1.1.1.1",
    "100.63.255.255",
    "157.240.0.53",
    "172.32.0.1",
    "193.0.0.1",
    "2a03:2880:f200::1",
    "::ffff:1.1.1.1",
    "64:ff9b::101:101",
    "2002:101:101::1",
)


@pytest.mark.parametrize("address", INSIDE)
def test_address_that_leads_inside_is_not_public(address: str) -> None:
    """T-42: also where IPv4 hides in IPv6, or where the standard library says it is global."""
    assert not is_public(address)


@pytest.mark.parametrize("address", OUTSIDE)
def test_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("text", ["", "localhost", "127.1", "2130706433", "0x7f.1", "0177.0.0.1"])
def test_what_is_no_numeric_address_is_not_public(text: str) -> None:
    """T-42: such literals are resolved before they are judged, never judged as they are."""
    assert not is_public(text)


@given(st.ip_addresses(v=4))
def test_embedding_makes_no_address_more_public(short: IPv4Address) -> None:
    number = int(short)
    wrapped = (
        f"::ffff:{short}",
        str(IPv6Address((0x64_FF9B << 96) | number)),
        str(IPv6Address((0x2002 << 112) | (number << 80))),
    )

    assert {is_public(text) for text in wrapped} == {is_public(str(short))}


@given(st.ip_addresses(v=4))
def test_what_the_standard_library_calls_private_is_never_public(short: IPv4Address) -> None:
    assert not (short.is_private and is_public(str(short)))
