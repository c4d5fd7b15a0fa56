"""F-17, S-11: ten thousand devices lose their server at once, and come back without a stampede.

The real bucket, backoff, verdicts and comeback on a mock clock; each device is reduced to these.
Where an outage makes tens of thousands of dials, fleet and bucket are a fifth of the real ones: the
same times, in a fifth of the work.
"""

from __future__ import annotations

from random import Random

import pytest
import trio
from trio.testing import MockClock

from sitpayd.actors.comeback import Comeback
from sitpayd.actors.dials import DIALS_PER_S, DialBucket
from sitpayd.actors.events import LossKind
from sitpayd.actors.failures import LOSSES
from sitpayd.actors.phase import Phase
from sitpayd.actors.recovery import Recovery
from sitpayd.actors.registry import DeviceHandle
from tests.actors.builders import a_record

HEALTHY_S = 400.0
BACK_WITHIN_S = 120.0
LATENCY_S = 0.3


class Fleet:
    """Devices that are connected, until the server goes away."""

    def __init__(self, devices: int, dials_per_s: float) -> None:
        self.devices = devices
        self.bucket = DialBucket(dials_per_s)
        self.comeback = Comeback()
        self.dials: list[float] = []
        self.is_away = False
        self.outage = trio.Event()
        self.connected = 0
        self.all_back = trio.Event()

    async def live(self, number: int) -> None:
        recovery, handle = Recovery(Random(number)), DeviceHandle(a_record(number))
        while True:
            self.connect(recovery)
            await self.outage.wait()
            self.connected -= 1
            self.lose(recovery, handle, Phase.CONNECTED)
            while not await self.dial(recovery, handle):
                self.lose(recovery, handle, Phase.CONNECTING)

    def connect(self, recovery: Recovery) -> None:
        recovery.connected(trio.current_time())
        self.connected += 1
        self.comeback.got_through()
        if self.connected == self.devices:
            self.all_back.set()

    def lose(self, recovery: Recovery, handle: DeviceHandle, phase: Phase) -> None:
        now = trio.current_time()
        verdict = recovery.judge(LOSSES[LossKind.NETWORK], phase, now)
        recovery.stop()
        assert not recovery.plan(verdict, now)
        assert recovery.shared
        self.comeback.waits(handle)

    async def dial(self, recovery: Recovery, handle: DeviceHandle) -> bool:
        while not recovery.due(trio.current_time()):
            assert recovery.redial_at is not None
            with trio.move_on_at(recovery.redial_at):
                await handle.mailbox.receive()
                recovery.hasten(trio.current_time())
        self.comeback.left(handle)
        await self.bucket.take()
        self.dials.append(trio.current_time())
        await trio.sleep(LATENCY_S)
        return not self.is_away

    async def go_away(self, seconds: float) -> float:
        """Be away for so long; gives the seconds until all are back after it."""
        self.dials.clear()
        self.all_back = trio.Event()
        self.is_away = True
        self.outage.set()
        self.outage = trio.Event()
        await trio.sleep(seconds)
        self.is_away = False
        back_at = trio.current_time()
        await self.all_back.wait()
        return trio.current_time() - back_at


@pytest.mark.parametrize(
    ("away_s", "devices", "dials_per_s"),
    [
        (10.0, 2_000, DIALS_PER_S / 5),
        (60.0, 10_000, DIALS_PER_S),
        (300.0, 2_000, DIALS_PER_S / 5),
        # Few dial often while the server is away, and wait for minutes in the end.
        (300.0, 300, DIALS_PER_S),
    ],
)
def test_all_are_back_within_two_minutes_of_an_outage(
    away_s: float, devices: int, dials_per_s: float
) -> None:
    """F-17, S-11: never more dials within a second than the bucket lets go."""

    async def play() -> tuple[float, list[float]]:
        fleet = Fleet(devices, dials_per_s)
        async with trio.open_nursery() as nursery:
            for number in range(devices):
                nursery.start_soon(fleet.live, number)
            await trio.sleep(HEALTHY_S)
            took_s = await fleet.go_away(away_s)
            nursery.cancel_scope.cancel()
        return took_s, fleet.dials

    took_s, dials = trio.run(play, clock=MockClock(autojump_threshold=0))
    assert took_s <= BACK_WITHIN_S
    limit = int(dials_per_s)
    # The clock counts in floats: a dial a second after another may be told a hair before it.
    gaps = [later - earlier for earlier, later in zip(dials, dials[limit:], strict=False)]
    assert min(gaps) >= 1.0 - 1e-6
