from __future__ import annotations

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from sitpayd.actors.dials import DialBucket


async def times_of(bucket: DialBucket, count: int) -> list[float]:
    times = []
    for _ in range(count):
        await bucket.take()
        times.append(trio.current_time())
    return times


async def test_burst_goes_at_once_and_the_rest_at_its_rate(autojump_clock: MockClock) -> None:
    times = await times_of(DialBucket(per_second=10.0, burst=5), 25)
    assert times[:5] == [0.0] * 5
    # 25 dials: the burst, then ten per second.
    assert 1.85 <= times[-1] <= 2.05


async def test_burst_comes_back_with_time_but_never_more(autojump_clock: MockClock) -> None:
    bucket = DialBucket(per_second=10.0, burst=5)
    await times_of(bucket, 25)
    await trio.sleep(100.0)
    began = trio.current_time()
    times = [time - began for time in await times_of(bucket, 15)]
    assert times[:5] == [0.0] * 5
    assert times[-1] >= 0.85


async def test_dials_wait_together_for_their_turns(autojump_clock: MockClock) -> None:
    bucket = DialBucket(per_second=10.0, burst=1)
    async with trio.open_nursery() as nursery:
        for _ in range(11):
            nursery.start_soon(bucket.take)
    assert 0.85 <= trio.current_time() <= 1.05


async def test_no_second_sees_more_than_the_rate_also_after_the_loop_stood_still(
    mock_clock: MockClock,
) -> None:
    bucket, times = DialBucket(per_second=10.0, burst=5), list[float]()

    async def dial() -> None:
        await bucket.take()
        times.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        for _ in range(60):
            nursery.start_soon(dial)
        while len(times) < 60:
            await wait_all_tasks_blocked()
            # Mostly it turns often; now and then it stands still for longer than a turn.
            mock_clock.jump(0.7 if len(times) % 3 == 0 else 0.05)
    assert all(later - earlier >= 1.0 for earlier, later in zip(times, times[10:], strict=False))


async def test_cancelled_turn_holds_up_nobody_for_long(autojump_clock: MockClock) -> None:
    bucket = DialBucket(per_second=10.0, burst=1)
    await times_of(bucket, 2)
    with trio.move_on_after(0.01):
        await bucket.take()
    began = trio.current_time()
    await bucket.take()
    assert trio.current_time() - began <= 0.25
