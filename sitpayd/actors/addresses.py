"""Which addresses are public: where a partner's proxy may be. Pure.

Decided on the address that is dialled, never on how somebody wrote it. Python's `is_global` says
yes to addresses that lead inside (embedded IPv4, site-local, multicast), so the list is our own.

Source: IANA IPv4 and IPv6 Special-Purpose Address Registries; RFC 6052, RFC 3056.
"""

from __future__ import annotations

from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

_CLOSED_4: Final = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # shared address space; a cloud's metadata service lives here
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's host, at a public-looking address
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
# Global unicast, and nothing else of IPv6, but for what holds an IPv4 address.
_OPEN_6: Final = IPv6Network("2000::/3")
_CLOSED_6: Final = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",
        "3fff::/20",
    )
)
_NAT64: Final = IPv6Network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Whether a numeric address is one of the public internet."""
    try:
        return _is_public_4(IPv4Address(address))
    except AddressValueError:
        pass
    try:
        long = IPv6Address(address)
    except AddressValueError:
        return False
    embedded = long.ipv4_mapped or long.sixtofour
    if embedded is None and long in _NAT64:
        embedded = IPv4Address(int(long) & 0xFFFF_FFFF)
    if embedded is not None:
        return _is_public_4(embedded)
    # With a zone it means an address of one link.
    return (
        long.scope_id is None
        and long in _OPEN_6
        and not any(long in network for network in _CLOSED_6)
    )


def _is_public_4(short: IPv4Address) -> bool:
    return not any(short in network for network in _CLOSED_4)
