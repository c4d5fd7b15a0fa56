from __future__ import annotations

from datetime import timedelta

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from sitpayd.actors.messages import Deliver, Remove, StartPairing
from sitpayd.actors.registry import (
    MAILBOX_SIZE,
    DeviceBusyError,
    DeviceHandle,
    DeviceRegistry,
    ShownQr,
)
from tests.actors.builders import NOON, a_record

SECRET = "2@secret,keys"
QR = ShownQr(SECRET, NOON + timedelta(minutes=1))


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


async def test_released_device_is_forgotten() -> None:
    registry = DeviceRegistry()
    await registry.adopt(a_record())
    await registry.adopt(a_record(2))
    registry.release("wa_1")
    registry.release("wa_1")
    assert registry.get("wa_1") is None
    assert [handle.session_id for handle in registry] == ["wa_2"]
