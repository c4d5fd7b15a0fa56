"""Fairness: how much longer a quiet partner waits while another one sends as fast as it may.

Rounds alone and rounds beside the noisy one alternate, so that whatever else the machine does in
the meantime falls on both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import trio

from bench.fleet import Device, Fleet
from bench.http import TooManyRequests
from bench.processes import BenchError
from bench.sends import offer
from bench.spending import percentile_ms
from sitpayd.api.limits import REQUESTS_PER_S

# Requests of the noisy partner under way for each of its devices.
NOISY_PER_DEVICE: Final = 2


@dataclass(frozen=True, slots=True)
class Fairness:
    """A quiet partner's latency from request to ack, ms, alone and beside a noisy one.

    Attributes:
        count: of the quiet partner's messages, alone and beside.
        p99_ratio: beside to alone.
        noisy_per_second: of the noisy partner's messages, acknowledged ones.
        noisy_refused_per_second: requests of it answered 429.
    """

    count: tuple[int, int]
    per_second: float
    alone_p50_ms: float
    alone_p99_ms: float
    beside_p50_ms: float
    beside_p99_ms: float
    p99_ratio: float
    noisy_devices: int
    noisy_per_second: float
    noisy_refused_per_second: float


@dataclass(slots=True)
class _Noise:
    sent: int = 0
    refused: int = 0


async def measure_fairness(
    fleet: Fleet,
    quiet: Sequence[Device],
    noisy: Sequence[Device],
    rounds: int,
    round_s: float,
    per_second: float,
) -> Fairness:
    """Let the quiet devices offer so many messages a second, in each round alone and beside."""
    alone_s: list[float] = []
    beside_s: list[float] = []
    noise, noisy_s = _Noise(), 0.0
    for _ in range(rounds):
        await offer(fleet.send, quiet, per_second, round_s, alone_s)
        began, over = trio.current_time(), trio.Event()
        async with trio.open_nursery() as nursery:
            for device in noisy:
                for _ in range(NOISY_PER_DEVICE):
                    nursery.start_soon(_make_noise, fleet, device, noise, len(noisy), over)
            await offer(fleet.send, quiet, per_second, round_s, beside_s)
            over.set()
        noisy_s += trio.current_time() - began
    if not (alone_s and beside_s):
        raise BenchError("the quiet partner got no answer in time")
    alone, beside = percentile_ms(alone_s, 0.99), percentile_ms(beside_s, 0.99)
    return Fairness(
        count=(len(alone_s), len(beside_s)),
        per_second=per_second,
        alone_p50_ms=percentile_ms(alone_s, 0.5),
        alone_p99_ms=alone,
        beside_p50_ms=percentile_ms(beside_s, 0.5),
        beside_p99_ms=beside,
        p99_ratio=beside / alone,
        noisy_devices=len(noisy),
        noisy_per_second=noise.sent / noisy_s,
        noisy_refused_per_second=noise.refused / noisy_s,
    )


async def _make_noise(
    fleet: Fleet, device: Device, noise: _Noise, devices: int, over: trio.Event
) -> None:
    """Send one after the other; who is refused asks again when its turn may have come."""
    turn_s = devices * NOISY_PER_DEVICE / REQUESTS_PER_S
    while not over.is_set():
        try:
            await fleet.send(device)
        except TooManyRequests:
            noise.refused += 1
            await trio.sleep(turn_s)
        else:
            noise.sent += 1
