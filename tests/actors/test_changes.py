from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from sitpayd.actors.changes import (
    BATCH_LEN,
    MAX_BEHIND,
    PATIENCE_S,
    RING_LEN,
    Batch,
    Change,
    ChangeLog,
    Subscription,
)
from sitpayd.actors.status import DeviceStatus
from tests.actors.builders import NOON


def everything(change: Change, coalesced: bool) -> bool:
    return True


def add(log: ChangeLog, number: int, status: str = "waiting", before: str | None = None) -> None:
    log.add(DeviceStatus(f"wa_{number}", 1, status, None, NOON), before)


def flood(log: ChangeLog, count: int, devices: int) -> None:
    """So many changes, of so many devices in turn."""
    for number in range(count):
        add(log, number % devices, str(number))


def numbers(batch: Batch | None) -> list[int]:
    assert batch is not None
    return [change.seq for change in batch.changes]


def take_all(subscription: Subscription) -> list[int]:
    taken: list[int] = []
    while subscription.is_behind:
        taken += numbers(subscription.take())
    return taken


def test_watcher_is_told_what_comes_after_it() -> None:
    log = ChangeLog()
    add(log, 1)
    subscription = Subscription(log, log.seq, everything)
    assert not subscription.is_behind
    add(log, 2)
    add(log, 1)

    assert numbers(subscription.take()) == [2, 3]
    assert subscription.cursor == log.cursor(3)


@pytest.mark.parametrize("devices", [1, 7, 10_000])
def test_each_change_is_told_to_who_is_within_the_bound(devices: int) -> None:
    log = ChangeLog()
    subscription = Subscription(log, 0, everything)
    for _ in range(3 * RING_LEN // MAX_BEHIND):
        first = log.seq + 1
        flood(log, MAX_BEHIND, devices)
        assert take_all(subscription) == list(range(first, log.seq + 1))


def test_who_is_further_behind_is_told_the_newest_of_each_device() -> None:
    log = ChangeLog()
    subscription = Subscription(log, 0, everything)
    flood(log, MAX_BEHIND + 1, 10)

    batch = subscription.take()

    assert batch is not None
    assert batch.coalesced
    assert numbers(batch) == list(range(log.seq - 9, log.seq + 1))
    assert not subscription.is_behind


def test_more_devices_than_the_bound_overflow() -> None:
    log = ChangeLog()
    subscription = Subscription(log, 0, everything)
    flood(log, MAX_BEHIND + 1, MAX_BEHIND)
    assert subscription.take() is not None
    subscription = Subscription(log, 0, everything)
    flood(log, MAX_BEHIND + 1, MAX_BEHIND + 1)
    assert subscription.take() is None


def test_ring_that_went_round_overflows() -> None:
    log = ChangeLog()
    flood(log, RING_LEN, 10)
    assert Subscription(log, 0, everything).take() is not None
    add(log, 1)
    assert Subscription(log, 0, everything).take() is None


def test_after_a_snapshot_only_what_follows_is_told() -> None:
    log = ChangeLog()
    subscription = Subscription(log, 0, everything)
    flood(log, 2 * RING_LEN, 1000)
    subscription.restart(log.seq)
    add(log, 1)

    assert numbers(subscription.take()) == [log.seq]


def test_only_what_concerns_is_counted_and_told() -> None:
    log = ChangeLog()
    subscription = Subscription(log, 0, lambda change, _: change.device.session_id == "wa_1")
    flood(log, RING_LEN, MAX_BEHIND + 1)

    assert len(take_all(subscription)) == 1
    assert subscription.seq == log.seq


def test_what_follows_a_change_that_was_left_out_is_told_as_coalesced() -> None:
    log = ChangeLog()
    told: list[tuple[int, bool]] = []

    def concerns(change: Change, coalesced: bool) -> bool:
        told.append((change.seq, coalesced))
        return True

    subscription = Subscription(log, 0, concerns)
    add(log, 1, "waiting", "connected")
    for number in range(2, MAX_BEHIND + 1):
        add(log, number)
    add(log, 1, "connecting", "waiting")
    again = log.seq
    # The first batch brings it within the bound; the change of wa_1 comes later.
    assert again not in numbers(subscription.take())
    assert again - subscription.seq < MAX_BEHIND
    told.clear()
    assert again in take_all(subscription)
    assert (again, True) in told
    assert (again, False) not in told

    add(log, 1, "connected", "connecting")
    told.clear()
    take_all(subscription)
    assert told == [(again + 1, False)]


def test_resumed_watcher_may_catch_up_over_the_whole_ring() -> None:
    log = ChangeLog()
    flood(log, RING_LEN, RING_LEN)
    assert Subscription(log, 0, everything).take() is None
    subscription = Subscription(log, 0, everything, resumed=True)

    assert take_all(subscription) == list(range(1, RING_LEN + 1))
    flood(log, MAX_BEHIND + 1, MAX_BEHIND + 1)
    assert subscription.take() is None


def test_cursor_leads_back_as_long_as_the_ring_reaches() -> None:
    log = ChangeLog()
    add(log, 1)
    cursor = log.cursor(1)
    assert log.place(cursor) == 1
    flood(log, RING_LEN, 5)
    assert log.place(cursor) == 1
    add(log, 1)
    assert log.place(cursor) is None


@pytest.mark.parametrize("suffix", ["", "-", "-x", "--1", "-9", "-1.0", "-¹", "-" + "9" * 30])
def test_cursor_that_makes_no_sense_leads_nowhere(suffix: str) -> None:
    log = ChangeLog()
    add(log, 1)
    assert log.place(log.epoch + suffix) is None


def test_cursor_of_another_life_leads_nowhere() -> None:
    log, other = ChangeLog(), ChangeLog()
    add(log, 1)
    assert log.place(other.cursor(1)) is None


def test_memory_of_removed_devices_goes_round_with_the_ring() -> None:
    log = ChangeLog()
    flood(log, 3 * RING_LEN, 3 * RING_LEN)
    assert len(log._newest) == RING_LEN


def test_watcher_is_given_up_when_it_overflows_for_too_long() -> None:
    log = ChangeLog()
    subscription = Subscription(log, 0, everything)
    flood(log, 1000, 1000)
    assert not subscription.is_given_up(100.0)
    assert not subscription.is_given_up(100.0 + PATIENCE_S - 0.1)
    assert subscription.is_given_up(100.0 + PATIENCE_S)


def test_watcher_that_takes_a_snapshot_in_is_patient_anew() -> None:
    log = ChangeLog()
    subscription = Subscription(log, 0, everything)
    flood(log, 1000, 1000)
    assert not subscription.is_given_up(100.0)
    subscription.restart(log.seq)
    flood(log, 1000, 1000)
    subscription.caught_up()
    assert not subscription.is_given_up(100.0 + PATIENCE_S)


def test_watcher_that_never_takes_its_snapshot_in_is_given_up() -> None:
    log = ChangeLog()
    subscription = Subscription(log, 0, everything)
    subscription.restart(log.seq)
    flood(log, 1000, 1000)
    assert not subscription.is_given_up(100.0)
    flood(log, 1000, 1000)
    assert subscription.is_given_up(100.0 + PATIENCE_S)


def test_watcher_within_its_bound_is_never_given_up() -> None:
    log = ChangeLog()
    subscription = Subscription(log, 0, everything)
    flood(log, RING_LEN, MAX_BEHIND)
    for now in range(0, 1000, 5):
        assert not subscription.is_given_up(now)


async def test_all_who_wait_are_woken() -> None:
    log = ChangeLog()
    woken = 0

    async def wait() -> None:
        nonlocal woken
        await log.news()
        woken += 1

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        add(log, 1)
    assert woken == 3


@given(
    st.lists(
        st.one_of(
            st.integers(1, 2 * MAX_BEHIND).map(lambda n: ("flood", n)),
            st.integers(1, 5).map(lambda n: ("take", n)),
        ),
        max_size=40,
    ),
    st.sampled_from([1, 3, MAX_BEHIND, 2 * MAX_BEHIND]),
)
def test_whoever_takes_all_knows_the_last_status_of_each_device(
    steps: list[tuple[str, int]], devices: int
) -> None:
    log = ChangeLog()
    subscription = Subscription(log, 0, everything)
    truth: dict[str, str] = {}
    known: dict[str, str] = {}
    told = 0

    def take() -> None:
        nonlocal told
        batch = subscription.take()
        if batch is None:
            subscription.restart(log.seq)
            known.clear()
            known.update(truth)
            told = log.seq
            return
        assert len(batch.changes) <= BATCH_LEN
        for change in batch.changes:
            assert change.seq > told
            told = change.seq
            known[change.device.session_id] = change.device.status

    count = 0
    for step, number in steps:
        for _ in range(number):
            if step == "flood":
                count += 1
                name, status = count % devices, str(count)
                add(log, name, status)
                truth[f"wa_{name}"] = status
            else:
                take()
    while subscription.is_behind:
        take()

    assert known == truth
