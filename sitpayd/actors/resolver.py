"""Resolver: names to addresses, so that a broken name service stops nothing but new dials.

Theory of operation. Whoever asks for a name joins the look-up that is under way for it, or begins
one. It runs in a thread, since the system's resolver blocks, and belongs to nobody who waits: a
device that hangs up leaves the others their answer. Five seconds after its beginning everybody is
told the last answer that was good, if that is younger than a day, and otherwise that there is none.
What comes later is remembered for the next who asks.

The daemon's own names are looked up on trio's default threads, which nothing else uses. Names that
partners chose (of their proxies) have a few threads of their own: a name service that holds them
back can never hold back WhatsApp's.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Literal

import trio

from sitpayd.log import get_logger

# How long one name may keep its askers waiting.
DEADLINE_S: Final = 5.0
# An answer this young is given without asking again: a storm of dials is one question.
FRESH_S: Final = 10.0
# WhatsApp's addresses change seldom: an old one is worth a try where there is no new one.
KEEP_S: Final = 24 * 3600.0
# A thread that has not come back by then never will; the next who asks gets another one.
GIVE_UP_S: Final = 60.0
# Names remembered; the one asked for least lately goes first.
MAX_KNOWN: Final = 4096
THREADS_FOR_OTHERS: Final = 8

# As socket.getaddrinfo has it.
Address = (
    tuple[Literal[socket.AddressFamily.AF_INET], socket.SocketKind, int, str, tuple[str, int]]
    | tuple[
        Literal[socket.AddressFamily.AF_INET6],
        socket.SocketKind,
        int,
        str,
        tuple[str, int, int, int] | tuple[int, bytes],
    ]
)
Question = tuple[bytes | None, int, int, int, int]  # host, family, type, protocol, flags
LookUp = Callable[[bytes | None, None, int, int, int, int], list[Address]]

_log = get_logger()


@dataclass(frozen=True, slots=True)
class _Known:
    addresses: list[Address]
    at: float


@dataclass(slots=True)
class _Flight:
    """A look-up under way."""

    began: float
    ended: trio.Event = field(default_factory=trio.Event)
    failure: OSError | None = None


class Resolver(trio.abc.HostnameResolver):
    """Answers for `trio.socket.getaddrinfo`. Made by `resolving`.

    Args:
        own: names of the daemon's own choice, A-labels.
        look_up: blocks; `socket.getaddrinfo`, or another one for tests.

    Attributes:
        failures: how many look-ups brought nothing; stale: how often an old answer was given.
    """

    def __init__(
        self, nursery: trio.Nursery, own: Iterable[str] = (), look_up: LookUp = socket.getaddrinfo
    ) -> None:
        self._nursery = nursery
        self._own = {name.encode("ascii") for name in own}
        self._look_up = look_up
        self._others = trio.CapacityLimiter(THREADS_FOR_OTHERS)
        self._known: dict[Question, _Known] = {}
        self._flights: dict[Question, _Flight] = {}
        self.failures = 0
        self.stale = 0

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[Address]:
        """Find a name's addresses.

        Raises:
            OSError: As `socket.getaddrinfo`, and EAI_AGAIN if there is no answer in time.
        """
        if not isinstance(port, int):
            raise ValueError("the port must be a number")
        found = await self._resolve((host, family, type, proto, flags))
        return [
            # Asked for without a port, so that one question serves all.
            (family, kind, protocol, name, (place[0], port, *place[2:]))  # type: ignore[misc]
            for family, kind, protocol, name, place in found
        ]

    async def getnameinfo(
        self, sockaddr: tuple[str, int] | tuple[str, int, int, int], flags: int
    ) -> tuple[str, str]:
        """Refuse: nothing here asks for the name of an address."""
        raise NotImplementedError("addresses are not turned into names")

    async def _resolve(self, question: Question) -> list[Address]:
        now = trio.current_time()
        known = self._known.get(question)
        if known is not None and now - known.at < FRESH_S:
            await trio.lowlevel.checkpoint()
            return known.addresses
        flight = self._flights.get(question)
        if flight is None or now - flight.began >= GIVE_UP_S:
            flight = self._flights[question] = _Flight(now)
            self._nursery.start_soon(self._fly, question, flight)
        with trio.move_on_at(flight.began + DEADLINE_S):
            await flight.ended.wait()
        return self._answer(question, flight)

    def _answer(self, question: Question, flight: _Flight) -> list[Address]:
        known = self._known.pop(question, None)
        if known is not None and trio.current_time() - known.at < KEEP_S:
            self._known[question] = known  # the latest one asked for stands last
            if known.at < flight.began:
                self.stale += 1
            return known.addresses
        if flight.failure is not None:
            # A fresh one for each who waits: a traceback grows with every raise.
            raise type(flight.failure)(*flight.failure.args)
        raise socket.gaierror(socket.EAI_AGAIN, "the name service does not answer")

    async def _fly(self, question: Question, flight: _Flight) -> None:
        host, family, kind, protocol, flags = question
        try:
            found = await trio.to_thread.run_sync(
                self._look_up,
                host,
                None,
                family,
                kind,
                protocol,
                flags,
                limiter=None if host in self._own else self._others,
                # At the end of the daemon nobody waits for the system's resolver.
                abandon_on_cancel=True,
            )
        except OSError as failure:
            flight.failure = failure
            self.failures += 1
            _log.debug("dns.failed", error=failure.strerror)
        else:
            self._remember(question, found)
        finally:
            if self._flights.get(question) is flight:
                del self._flights[question]
            flight.ended.set()

    def _remember(self, question: Question, found: list[Address]) -> None:
        self._known.pop(question, None)
        self._known[question] = _Known(found, trio.current_time())
        if len(self._known) > MAX_KNOWN:
            del self._known[next(iter(self._known))]


@asynccontextmanager
async def resolving(
    own: Iterable[str] = (), look_up: LookUp = socket.getaddrinfo
) -> AsyncIterator[Resolver]:
    """Answer every question for a name in this run of trio, as long as the block runs."""
    async with trio.open_nursery() as nursery:
        resolver = Resolver(nursery, own, look_up)
        before = trio.socket.set_custom_hostname_resolver(resolver)
        try:
            yield resolver
        finally:
            trio.socket.set_custom_hostname_resolver(before)
        nursery.cancel_scope.cancel()
