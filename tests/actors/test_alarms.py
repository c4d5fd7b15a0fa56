from __future__ import annotations

import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from sitpayd.actors.alarms import Alarms

TIMES = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 50)), min_size=1, max_size=20)


@given(TIMES)
def test_each_alarm_rings_once_at_its_time(times: list[tuple[int, int]]) -> None:
    """Set at a moment, for a moment after it: in any order, sooner ones behind later ones."""
    rung: list[tuple[int, float]] = []

    async def play() -> None:
        alarms, began = Alarms(), trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(alarms.run)

            async def set_one(number: int, at: int, after: int) -> None:
                await trio.sleep(at)
                alarms.set(
                    began + at + after,
                    lambda: rung.append((number, trio.current_time() - began)),
                )

            for number, (at, after) in enumerate(times):
                nursery.start_soon(set_one, number, at, after)
            await trio.sleep(200)
            nursery.cancel_scope.cancel()

    trio.run(play, clock=MockClock(autojump_threshold=0))
    assert sorted(rung) == [(n, float(at + after)) for n, (at, after) in enumerate(times)]
    assert [moment for _, moment in rung] == sorted(moment for _, moment in rung)


async def test_alarm_may_set_the_next_one(autojump_clock: MockClock) -> None:
    alarms, rung = Alarms(), list[float]()

    def ring() -> None:
        rung.append(trio.current_time())
        alarms.set(trio.current_time() + 5.0, ring)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(alarms.run)
        await wait_all_tasks_blocked()
        began = trio.current_time()
        alarms.set(began + 5.0, ring)
        await trio.sleep(16.0)
        nursery.cancel_scope.cancel()
    assert rung == [began + 5.0, began + 10.0, began + 15.0]


async def test_alarm_set_before_the_task_runs_rings(autojump_clock: MockClock) -> None:
    alarms, rung = Alarms(), trio.Event()
    alarms.set(trio.current_time() + 1.0, rung.set)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(alarms.run)
        await rung.wait()
        nursery.cancel_scope.cancel()
