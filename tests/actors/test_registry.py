from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from sitpayd.actors.messages import Deliver, PairingWish, Remove, StartPairing
from sitpayd.actors.registry import (
    MAILBOX_SIZE,
    MAX_ARRIVALS,
    DeviceBusyError,
    DeviceHandle,
    DeviceRegistry,
    ShownCode,
    ShownQr,
)
from tests.actors.builders import NOON, a_record

SECRET = "2@secret,keys"
QR = ShownQr(SECRET, NOON + timedelta(minutes=1))
CODE = ShownCode("ABCD-1234", "4915112345678", NOON + timedelta(minutes=1))


def test_ring_sets_the_doorbell_and_wakes_the_actor() -> None:
    handle = DeviceHandle(a_record())
    handle.ring()
    assert handle.doorbell
    assert handle.mailbox.receive_nowait() == Deliver()


def test_ring_cannot_fail() -> None:
    handle = DeviceHandle(a_record())
    for _ in range(MAILBOX_SIZE):
        handle.post(StartPairing())
    handle.ring()
    assert handle.doorbell


def test_full_mailbox_refuses_what_people_ask_for() -> None:
    handle = DeviceHandle(a_record())
    for _ in range(MAILBOX_SIZE):
        handle.ring()
    with pytest.raises(DeviceBusyError, match="wa_1"):
        handle.post(Remove())


async def test_reader_waits_for_room() -> None:
    handle = DeviceHandle(a_record())
    for _ in range(MAILBOX_SIZE):
        handle.ring()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(handle.deliver, StartPairing())
        await wait_all_tasks_blocked()
        assert handle.mailbox.statistics().tasks_waiting_send == 1
        handle.mailbox.receive_nowait()


async def test_qr_code_wakes_who_waits_for_it() -> None:
    handle = DeviceHandle(a_record())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(handle.changed)
        nursery.start_soon(handle.changed)
        await wait_all_tasks_blocked()
        handle.show_qr(QR)
    assert handle.qr == QR


async def test_pairing_code_wakes_who_waits_for_it() -> None:
    handle = DeviceHandle(a_record())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(handle.changed)
        await wait_all_tasks_blocked()
        handle.show_code(CODE)
    assert handle.code == CODE


def test_neither_code_nor_number_shows_where_a_code_is_printed() -> None:
    assert CODE.text not in repr(CODE)
    assert CODE.phone not in repr(CODE)


def test_wish_to_link_is_in_the_mailbox_and_counted() -> None:
    handle, wish = DeviceHandle(a_record()), PairingWish(relink=True)
    handle.ask_to_pair(wish)
    assert handle.mailbox.receive_nowait() == StartPairing(wish)
    assert handle.pairs


def test_wish_that_found_no_room_is_not_counted() -> None:
    handle = DeviceHandle(a_record())
    for _ in range(MAILBOX_SIZE):
        handle.ring()
    with pytest.raises(DeviceBusyError):
        handle.ask_to_pair(PairingWish())
    assert not handle.pairs


async def test_devices_being_linked_are_counted_by_partner() -> None:
    registry = DeviceRegistry()
    for number, partner_id in enumerate((1, 1, 1, 2)):
        record = replace(a_record(), session_id=f"wa_{number}", partner_id=partner_id)
        handle = await registry.adopt(record)
        handle.pairs = number != 0
    assert (registry.pairing_count(1), registry.pairing_count(2)) == (2, 1)


async def test_old_news_wake_nobody(autojump_clock: MockClock) -> None:
    handle = DeviceHandle(a_record())
    handle.notify()
    with trio.move_on_after(1.0) as waiting:
        await handle.changed()
    assert waiting.cancelled_caught


def test_qr_text_does_not_show_in_logs() -> None:
    assert SECRET not in repr(QR)


async def test_adopted_device_arrives_at_the_supervisor() -> None:
    registry = DeviceRegistry()
    handle = await registry.adopt(a_record())
    assert registry.get("wa_1") is handle
    assert registry.arrivals.receive_nowait() is handle


async def test_expected_device_takes_messages_before_it_starts() -> None:
    registry = DeviceRegistry()
    handles = [registry.expect(a_record(number)) for number in range(2 * MAX_ARRIVALS)]
    handles[-1].post(StartPairing())
    arrived: list[DeviceHandle] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(registry.start, handles)
        while len(arrived) < len(handles):
            arrived.append(await registry.arrivals.receive())
    assert arrived == handles
    assert handles[-1].mailbox.receive_nowait() == StartPairing()


async def test_released_device_is_forgotten() -> None:
    registry = DeviceRegistry()
    await registry.adopt(a_record())
    await registry.adopt(a_record(2))
    registry.release("wa_1")
    registry.release("wa_1")
    assert registry.get("wa_1") is None
    assert [handle.session_id for handle in registry] == ["wa_2"]
