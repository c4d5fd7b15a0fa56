"""F-16: the resolver, with look-ups that hang as the system's do, in real threads."""

from __future__ import annotations

import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from sitpayd.actors import resolver
from sitpayd.actors.resolver import Address, Resolver, resolving

FIRST, SECOND = "192.0.2.1", "192.0.2.2"
PATIENCE_S = 10.0


class NameService:
    """The system's resolver: answers, fails, or hangs until it is let go."""

    def __init__(self) -> None:
        self.address: str | None = FIRST
        self.asked: list[bytes | None] = []
        self.free = threading.Event()
        self.free.set()

    def look_up(self, host: bytes | None, *_: object) -> list[Address]:
        self.asked.append(host)
        address = self.address
        assert self.free.wait(PATIENCE_S)
        if address is None:
            raise socket.gaierror(socket.EAI_AGAIN, "no name server")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> NameService:
    monkeypatch.setattr(resolver, "DEADLINE_S", 0.3)
    monkeypatch.setattr(resolver, "FRESH_S", 0.0)
    return NameService()


@asynccontextmanager
async def asking(names: NameService, *own: str) -> AsyncIterator[Resolver]:
    with trio.fail_after(PATIENCE_S):
        try:
            async with resolving(own, names.look_up) as asked:
                yield asked
        finally:
            names.free.set()


async def address_of(host: str = "web.whatsapp.test", port: int = 443) -> tuple[str, int]:
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    address, number, *_ = found[0][4]
    assert isinstance(address, str)
    assert isinstance(number, int)
    return address, number


async def test_name_is_resolved_with_the_port_asked_for(names: NameService) -> None:
    async with asking(names):
        assert await address_of(port=5222) == (FIRST, 5222)


async def test_numeric_address_asks_nobody(names: NameService) -> None:
    async with asking(names):
        assert await address_of("127.0.0.1", 80) == ("127.0.0.1", 80)
    assert names.asked == []


async def test_many_who_ask_at_once_are_one_question(names: NameService) -> None:
    answers: list[tuple[str, int]] = []

    async def ask(port: int) -> None:
        answers.append(await address_of(port=port))

    async with asking(names), trio.open_nursery() as nursery:
        names.free.clear()
        for port in range(1, 101):
            nursery.start_soon(ask, port)
        await wait_all_tasks_blocked()
        names.free.set()
    assert len(names.asked) == 1
    assert sorted(answers) == [(FIRST, port) for port in range(1, 101)]


async def test_who_asks_first_and_leaves_takes_nobodys_answer_away(names: NameService) -> None:
    async with asking(names), trio.open_nursery() as nursery:
        names.free.clear()
        leaving = trio.CancelScope()

        async def leave() -> None:
            with leaving:
                await address_of()

        nursery.start_soon(leave)
        await wait_all_tasks_blocked()
        nursery.start_soon(address_of)
        await wait_all_tasks_blocked()
        leaving.cancel()
        await wait_all_tasks_blocked()
        names.free.set()
    assert len(names.asked) == 1


async def test_fresh_answer_is_given_again(
    names: NameService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver, "FRESH_S", 60.0)
    async with asking(names):
        assert await address_of() == await address_of() == (FIRST, 443)
    assert len(names.asked) == 1


async def test_old_answer_is_replaced(names: NameService) -> None:
    async with asking(names):
        await address_of()
        names.address = SECOND
        assert await address_of() == (SECOND, 443)


async def test_name_service_that_fails_is_told_at_once(names: NameService) -> None:
    names.address = None
    async with asking(names) as asked:
        with pytest.raises(socket.gaierror, match="no name server"):
            await address_of()
        assert asked.failures == 1


async def test_last_good_answer_outlives_the_name_service(names: NameService) -> None:
    """F-16: a name that was resolved within a day needs no name service."""
    async with asking(names) as asked:
        await address_of()
        names.address = None
        assert await address_of() == (FIRST, 443)
        assert asked.stale == 1


async def test_answer_of_yesterday_is_forgotten(
    names: NameService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolver, "KEEP_S", 0.0)
    async with asking(names):
        names.address = None
        with pytest.raises(socket.gaierror):
            await address_of()
        names.address = FIRST
        monkeypatch.setattr(resolver, "KEEP_S", 60.0)
        await address_of()
        monkeypatch.setattr(resolver, "KEEP_S", 0.0)
        names.address = None
        with pytest.raises(socket.gaierror):
            await address_of()


async def test_name_service_that_hangs_costs_its_deadline_and_no_more(names: NameService) -> None:
    """F-16: who asks later does not wait again for what hangs already."""
    async with asking(names):
        names.free.clear()
        began = trio.current_time()
        for _ in range(20):
            with pytest.raises(socket.gaierror, match="does not answer"):
                await address_of()
        assert 0.3 <= trio.current_time() - began < 1.5
    assert len(names.asked) == 1


async def test_answer_that_comes_too_late_serves_the_next(names: NameService) -> None:
    async with asking(names):
        names.free.clear()
        with pytest.raises(socket.gaierror):
            await address_of()
        names.free.set()
        while True:
            try:
                assert await address_of() == (FIRST, 443)
                break
            except socket.gaierror:
                await wait_all_tasks_blocked(0.01)
    assert len(names.asked) <= 2


async def test_look_up_that_never_comes_back_is_given_up(
    names: NameService, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with asking(names):
        names.free.clear()
        with pytest.raises(socket.gaierror):
            await address_of()
        monkeypatch.setattr(resolver, "GIVE_UP_S", 0.0)
        names.address = SECOND
        with pytest.raises(socket.gaierror):
            await address_of()
    assert len(names.asked) == 2


async def test_names_of_partners_do_not_hold_whatsapps_up(names: NameService) -> None:
    """F-16: forty of their proxies' names hang; ours is resolved."""
    held = NameService()
    held.free.clear()

    def look_up(host: bytes | None, *rest: object) -> list[Address]:
        service = names if host == b"web.whatsapp.test" else held
        return service.look_up(host, *rest)

    async def hang(number: int) -> None:
        with suppress(socket.gaierror):
            await address_of(f"proxy{number}.test")

    with trio.fail_after(PATIENCE_S):
        async with (
            resolving(["web.whatsapp.test"], look_up),
            trio.open_nursery() as nursery,
        ):
            for number in range(60):
                nursery.start_soon(hang, number)
            await wait_all_tasks_blocked()
            assert await address_of() == (FIRST, 443)
            held.free.set()


async def test_memory_is_bounded(names: NameService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "MAX_KNOWN", 3)
    monkeypatch.setattr(resolver, "FRESH_S", 60.0)
    async with asking(names):
        for host in ("a.test", "b.test", "c.test", "d.test", "c.test", "a.test"):
            await address_of(host)
    # The oldest had to go for the fourth; the third was still known.
    assert names.asked == [b"a.test", b"b.test", b"c.test", b"d.test", b"a.test"]


async def test_resolver_ends_although_a_look_up_hangs(names: NameService) -> None:
    names.free.clear()
    with trio.fail_after(5):
        async with resolving(look_up=names.look_up):
            with pytest.raises(socket.gaierror):
                await address_of()
    names.free.set()


async def test_addresses_are_not_turned_into_names(names: NameService) -> None:
    async with asking(names) as asked:
        with pytest.raises(NotImplementedError):
            await asked.getnameinfo(("127.0.0.1", 80), 0)
