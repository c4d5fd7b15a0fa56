from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
import trio

from sitpayd.actors.status import MAX_CHANGES_BEHIND, Change, DeviceStatus, StatusBoard
from tests.actors.builders import NOON

LATER = NOON + timedelta(minutes=1)
PAIRING = DeviceStatus("wa_1", 7, "pairing", None, NOON)
CONNECTED = replace(PAIRING, status="connected", since=LATER)
OTHER = DeviceStatus("wa_2", 8, "unpaired", "qr_expired", NOON)


def test_latest_status_is_found() -> None:
    board = StatusBoard()
    board.publish(PAIRING)
    board.publish(CONNECTED)
    assert board.get("wa_1") == CONNECTED
    assert board.get("wa_2") is None


def test_devices_of_a_partner_are_counted_by_status() -> None:
    board = StatusBoard()
    for status in (PAIRING, replace(PAIRING, session_id="wa_3"), OTHER):
        board.publish(status)
    assert board.count(7) == {"pairing": 2}
    assert board.count(9) == {}


async def test_watcher_gets_a_snapshot_and_every_change_after_it() -> None:
    board = StatusBoard()
    board.publish(PAIRING)
    with board.subscribe() as subscription:
        assert (subscription.seq, subscription.snapshot) == (1, [PAIRING])
        board.publish(CONNECTED)
        board.publish(OTHER)
        assert await subscription.changes.receive() == Change(2, CONNECTED)
        assert await subscription.changes.receive() == Change(3, OTHER)


@pytest.mark.parametrize("at", [NOON, LATER])
async def test_same_status_again_is_no_change(at: datetime) -> None:
    board = StatusBoard()
    board.publish(PAIRING)
    with board.subscribe() as subscription:
        board.publish(replace(PAIRING, since=at))
        with pytest.raises(trio.WouldBlock):
            subscription.changes.receive_nowait()
    assert board.get("wa_1") == PAIRING


@pytest.mark.parametrize(
    "change",
    [replace(PAIRING, reason="qr_limit"), replace(PAIRING, until=LATER)],
    ids=["reason", "end"],
)
async def test_other_reason_or_end_is_a_change(change: DeviceStatus) -> None:
    board = StatusBoard()
    board.publish(PAIRING)
    with board.subscribe() as subscription:
        board.publish(change)
        assert subscription.changes.receive_nowait().seq == 2


async def test_removal_is_told_once() -> None:
    board = StatusBoard()
    board.publish(PAIRING)
    with board.subscribe() as subscription:
        board.remove("wa_1", LATER)
        board.remove("wa_1", LATER)
        removed = DeviceStatus("wa_1", 7, "removed", None, LATER)
        assert subscription.changes.receive_nowait() == Change(2, removed)
        with pytest.raises(trio.WouldBlock):
            subscription.changes.receive_nowait()
    assert board.get("wa_1") is None


async def test_watcher_that_falls_behind_is_cut_off_and_hinders_nobody() -> None:
    board = StatusBoard()
    with board.subscribe() as slow, board.subscribe() as quick:
        for number in range(MAX_CHANGES_BEHIND + 3):
            board.publish(replace(PAIRING, reason=str(number)))
            assert quick.changes.receive_nowait().seq == number + 1
        seen = [change.seq async for change in slow.changes]
    assert seen == list(range(1, MAX_CHANGES_BEHIND + 1))


async def test_watcher_that_left_is_told_nothing() -> None:
    board = StatusBoard()
    with board.subscribe() as subscription:
        subscription.changes.close()
        board.publish(PAIRING)
    board.publish(CONNECTED)
    with pytest.raises(trio.ClosedResourceError):
        subscription.changes.receive_nowait()
