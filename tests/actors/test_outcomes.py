from __future__ import annotations

import trio
from trio.testing import MockClock

from sitpayd.actors.outcomes import Outcomes
from sitpayd.storage.records import RowState


async def test_waiter_is_woken_with_state_and_reason(autojump_clock: MockClock) -> None:
    outcomes = Outcomes()
    async with trio.open_nursery() as nursery:
        with outcomes.watch("msg_1") as watch:
            nursery.start_soon(announce_later, outcomes, RowState.FAILED, "no_devices")
            with trio.fail_after(10.0):
                await watch.changed()
            assert (watch.state, watch.reason) == (RowState.FAILED, "no_devices")


async def announce_later(outcomes: Outcomes, state: RowState, reason: str | None) -> None:
    await trio.sleep(1.0)
    outcomes.announce("msg_1", state, reason)


async def test_announcement_between_watching_and_waiting_is_not_missed() -> None:
    outcomes = Outcomes()
    with outcomes.watch("msg_1") as watch:
        outcomes.announce("msg_1", RowState.SENT)
        await watch.changed()
        assert watch.state is RowState.SENT


async def test_every_waiter_of_a_row_is_woken() -> None:
    outcomes = Outcomes()
    with outcomes.watch("msg_1") as first, outcomes.watch("msg_1") as second:
        outcomes.announce("msg_1", RowState.SENT)
        await first.changed()
        await second.changed()


async def test_later_announcement_wakes_again(autojump_clock: MockClock) -> None:
    outcomes = Outcomes()
    with outcomes.watch("msg_1") as watch:
        outcomes.announce("msg_1", RowState.ACCEPTED, "paced")
        await watch.changed()
        with trio.move_on_after(1.0) as waiting:
            await watch.changed()
        assert waiting.cancelled_caught
        outcomes.announce("msg_1", RowState.SENT)
        await watch.changed()
        assert (watch.state, watch.reason) == (RowState.SENT, None)


async def test_other_rows_wake_nobody() -> None:
    outcomes = Outcomes()
    with outcomes.watch("msg_1") as watch:
        outcomes.announce("msg_2", RowState.SENT)
        assert watch.state is None


async def test_who_left_is_told_nothing_and_the_others_are() -> None:
    outcomes = Outcomes()
    with outcomes.watch("msg_1") as stays:
        with outcomes.watch("msg_1") as leaves:
            pass
        outcomes.announce("msg_1", RowState.SENT)
    outcomes.announce("msg_1", RowState.READ)
    assert leaves.state is None
    assert stays.state is RowState.SENT
