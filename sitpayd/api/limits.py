"""Limits: how many partners may register, and how often each may ask."""

from __future__ import annotations

import ipaddress
from collections import Counter
from typing import Final

import trio
from quart import Request

WINDOW_S: Final = 3600.0
# Of one partner, over all its devices; far above what WhatsApp allows them.
REQUESTS_PER_S: Final = 100.0
REQUEST_BURST: Final = 200
# So many go ahead as they come; the rest of a burst is spread, or everybody else would wait for it.
REQUESTS_AT_ONCE: Final = 20
_IPV6_SITE_LEN: Final = 64  # bits; one customer has at least this much


class RegistrationLimit:
    """Counts registrations in windows of an hour, by address and in all.

    Memory is bounded by `in_all`: only what was let through is counted.
    """

    def __init__(self, per_address: int, in_all: int) -> None:
        self._per_address = per_address
        self._in_all = in_all
        self._counts: Counter[str] = Counter()
        self._ends = 0.0

    def take(self, address: str) -> float | None:
        """Count a registration. None: go on; otherwise seconds until the next try makes sense."""
        now = trio.current_time()
        if now >= self._ends:
            self._counts.clear()
            self._ends = now + WINDOW_S
        if self._counts.total() >= self._in_all or self._counts[address] >= self._per_address:
            return self._ends - now
        self._counts[address] += 1
        return None


class RequestLimit:
    """A queue per partner, so that one cannot take the others' share of the API.

    It moves at a steady pace, is bounded, and its head start is small. Memory is bounded by the
    number of partners, and of requests by that of connections.
    """

    def __init__(self) -> None:
        self._next: dict[int, float] = {}

    async def turn(self, partner_id: int) -> float | None:
        """Wait for a request's turn. None: go on; otherwise seconds until the next one may come."""
        interval = 1.0 / REQUESTS_PER_S
        now = trio.current_time()
        due = max(self._next.get(partner_id, now), now)
        too_early = due - now - (REQUEST_BURST - 1) * interval
        if too_early > 0:
            return too_early
        self._next[partner_id] = due + interval
        starts = due - (REQUESTS_AT_ONCE - 1) * interval
        if starts > now:
            await trio.sleep_until(starts)
        return None


def client_site(request: Request) -> str:
    """Name where a request comes from: an IPv4 address or an IPv6 /64.

    A proxy on this machine appends the caller's address to X-Forwarded-For; nobody else's header is
    believed.
    """
    client = request.scope.get("client")
    address = _address(client[0]) if client else None
    if address is not None and address.is_loopback:
        forwarded = ",".join(request.headers.getlist("x-forwarded-for"))
        address = _address(forwarded.rpartition(",")[2].strip()) or address
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((int(address), _IPV6_SITE_LEN), strict=False))
    return str(address)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
