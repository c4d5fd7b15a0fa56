from __future__ import annotations

from sitpayd.actors.comeback import BROUGHT_ALONG, Comeback
from sitpayd.actors.messages import Deliver, Reachable
from sitpayd.actors.registry import MAILBOX_SIZE, DeviceHandle
from tests.actors.builders import a_record


def mail(handle: DeviceHandle) -> list[object]:
    count = handle.mailbox.statistics().current_buffer_used
    return [handle.mailbox.receive_nowait() for _ in range(count)]


def some_handles(count: int) -> list[DeviceHandle]:
    return [DeviceHandle(a_record(number)) for number in range(count)]


def test_who_gets_through_brings_those_along_that_wait_longest() -> None:
    comeback, handles = Comeback(), some_handles(BROUGHT_ALONG + 1)
    for handle in handles:
        comeback.waits(handle)
    comeback.got_through()
    assert [mail(handle) for handle in handles] == [[Reachable()]] * BROUGHT_ALONG + [[]]
    comeback.got_through()
    assert mail(handles[-1]) == [Reachable()]


def test_who_waits_no_more_is_let_alone() -> None:
    comeback, (first, second) = Comeback(), some_handles(2)
    comeback.waits(first)
    comeback.waits(second)
    comeback.left(first)
    comeback.left(first)
    comeback.got_through()
    assert [mail(first), mail(second)] == [[], [Reachable()]]


def test_busy_device_is_passed_over() -> None:
    comeback, (busy, other) = Comeback(), some_handles(2)
    for _ in range(MAILBOX_SIZE):
        busy.post(Deliver())
    comeback.waits(busy)
    comeback.waits(other)
    comeback.got_through()
    assert Reachable() not in mail(busy)
    assert mail(other) == [Reachable()]
