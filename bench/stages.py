"""Stages: what is measured one after the other. Each stands on its own and is bounded in time.

Whatever a stage has measured by its end is in the result, also if it fails or its time is over.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from bench.baileys import NoNode
from bench.durability import measure_durability
from bench.fairness import measure_fairness
from bench.feed import measure_flood
from bench.fleet import PARTNERS, Feed, watch_feed
from bench.lives import come_back, pair, rest
from bench.peer import crowd_of_peers
from bench.plan import Plan, Result
from bench.processes import BenchError, cpu_s, rss_kib
from bench.protocol import measure_protocol
from bench.resumption import measure_resumption
from bench.scale import empty_daemon_kib, measure_scale, seeded_scale
from bench.sends import send_closed, send_once, send_paced
from bench.spending import Processes
from bench.stand import Stand, set_up

# A quiet partner and a noisy one, who take turns in getting devices.
QUIET_AND_NOISY: Final = 2
AWAY_WITHIN_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage, and the seconds after which it is broken off."""

    run: Callable[[Plan, Result, Path], Awaitable[None]]
    within_s: float


async def run_protocol(plan: Plan, result: Result, directory: Path) -> None:
    """The protocol's functions beside Baileys' own, in this process and one of Node."""
    _say("comparing with Baileys' functions")
    try:
        result.protocol = await measure_protocol(
            directory, plan.protocol_blocks, plan.protocol_block_s
        )
    except NoNode as missing:
        _say(f"nothing to compare with: {missing}")


async def run_resumption(plan: Plan, result: Result, directory: Path) -> None:
    """Handshakes in full and resumed, in this process."""
    _say(f"shaking hands {plan.resumptions} times in full, resumed, and declined to resume")
    result.handshakes = measure_resumption(plan.resumptions)


async def run_durability(plan: Plan, result: Result, directory: Path) -> None:
    """The pipeline beside a bare loop, in this process."""
    for devices in plan.durable:
        _say(f"weighing the commits of {devices} devices")
        result.durability.append(await measure_durability(directory, devices, plan.durable_s))


async def run_fairness(plan: Plan, result: Result, directory: Path) -> None:
    """A quiet partner alone, and beside a noisy one."""
    async with set_up(directory) as stand, stand.daemon() as processes:
        fleet = stand.fleet
        async with watch_feed(stand.environment) as feed:
            await fleet.prepare(QUIET_AND_NOISY)
            _say(f"linking {plan.fair_devices} devices of two partners")
            await _link_all(stand, feed, processes, plan.fair_devices, plan.few_s)
        quiet = [device for device in fleet.devices if device.number % QUIET_AND_NOISY == 0]
        noisy = [device for device in fleet.devices if device.number % QUIET_AND_NOISY]
        # First messages ask for devices and keys; what is compared are the later ones.
        await send_once(fleet.send, fleet.devices, processes, 1, plan.few_s)
        _say("sending for a quiet partner, alone and beside a noisy one")
        result.fairness = await measure_fairness(
            fleet, quiet, noisy, plan.fair_rounds, plan.fair_round_s, plan.fair_per_second
        )


async def run_feed(plan: Plan, result: Result, directory: Path) -> None:
    """Changes beside readers of the feed that read nothing, in this process."""
    _say(f"changing {plan.feed_per_second:g} devices a second, {plan.feed_stalled} readers stalled")
    result.flood = await measure_flood(
        directory, plan.feed_stalled, plan.feed_devices, plan.feed_per_second, plan.feed_s
    )


async def run_accept(plan: Plan, result: Result, directory: Path) -> None:
    """Requests for devices that are away: what is stored before anything is sent."""
    async with set_up(directory) as stand, stand.daemon() as processes:
        fleet = stand.fleet
        async with watch_feed(stand.environment) as feed:
            await fleet.prepare(PARTNERS)
            _say(f"linking {PARTNERS} devices and taking them away")
            await _link_all(stand, feed, processes, PARTNERS, plan.few_s)
            with trio.move_on_after(AWAY_WITHIN_S) as scope:
                for device in fleet.devices:
                    await fleet.take_away(device, feed)
            if scope.cancelled_caught:
                raise BenchError("a device that was cut off stays connected")
        devices, post = fleet.devices, fleet.queue
        _say(f"offering {plan.accept_per_second:g} requests a second")
        result.accepts.append(
            await send_paced(post, devices, processes, plan.accept_per_second, plan.accept_s)
        )
        _say(f"asking with {plan.accept_concurrent} clients as fast as answers come")
        result.accepts.append(
            await send_closed(post, devices, processes, plan.accept_concurrent, plan.accept_s)
        )


async def run_fleet(plan: Plan, result: Result, directory: Path) -> None:
    """More and more connected devices; then all of them after a restart of the daemon."""
    async with set_up(directory) as stand:
        async with stand.daemon() as processes:
            empty = (rss_kib(processes.daemon), cpu_s(processes.daemon))
            async with watch_feed(stand.environment) as feed:
                await stand.fleet.prepare(PARTNERS)
                await _grow(plan, result, stand, feed, processes)
            devices = stand.fleet.devices
            _say(f"sending {plan.pace:g} messages a second")
            result.paced_sends = await send_paced(
                stand.fleet.send, devices, processes, plan.pace, plan.pace_s
            )
            result.violations = len(await stand.fleet.violations())
        _say("starting the daemon again")
        result.reconnect = await come_back(stand, len(devices), empty)


async def run_scale(plan: Plan, result: Result, directory: Path) -> None:
    """Thousands of seeded devices: start, rest, storms; some with TLS; another library beside."""
    directories = (directory / "plain", directory / "tls", directory / "peers")
    for part in directories:
        part.mkdir()
    plain, encrypted, peers = directories
    for part, devices, tls, away_s in (
        (encrypted, plan.scale_tls_devices, True, ()),
        (plain, plan.scale_devices, False, plan.scale_away_s),
    ):
        async with set_up(part, tls=tls) as stand:
            empty_kib = await empty_daemon_kib(stand)
            _say(f"seeding {devices} devices{' with TLS' if tls else ''}")
            scale, seeded = await seeded_scale(stand, devices, tls=tls)
            result.scales.append(scale)
            _say("starting the daemon, letting all rest, and taking the server away")
            await measure_scale(stand, scale, seeded, empty_kib, plan.scale_idle_s, away_s)
    async with set_up(peers) as stand:
        _say(f"letting {plan.scale_peers} connections of Baileys rest in one process")
        result.peers = await crowd_of_peers(stand, plan.scale_peers, plan.scale_idle_s)


STAGES: Final[Mapping[str, Stage]] = {
    "protocol": Stage(run_protocol, 115.0),
    "resumption": Stage(run_resumption, 30.0),
    "durability": Stage(run_durability, 45.0),
    "fairness": Stage(run_fairness, 75.0),
    "feed": Stage(run_feed, 95.0),
    "accept": Stage(run_accept, 55.0),
    "fleet": Stage(run_fleet, 340.0),
    "scale": Stage(run_scale, 470.0),
}
# What runs where no stage is named: `scale` would take all the time there is for itself, and `feed`
# what the last stage needs.
BY_DEFAULT: Final = tuple(name for name in STAGES if name not in ("scale", "feed"))


async def _grow(plan: Plan, result: Result, stand: Stand, feed: Feed, processes: Processes) -> None:
    """Link more and more devices; send from them, and let the last lot rest before that.

    Ends with as many as were linked in the time for that.
    """
    fleet, left_s = stand.fleet, plan.pair_s
    for size in plan.fleets:
        if left_s <= 0:
            return
        before = (len(fleet.devices), rss_kib(processes.daemon))
        _say(f"linking devices up to {size}")
        paired = await pair(fleet, feed, processes, size, left_s)
        result.pairing.append(paired)
        left_s -= paired.seconds
        linked = len(fleet.devices)
        if size == plan.fleets[-1]:
            _say(f"letting {linked} devices rest")
            result.idle = await rest(processes, linked, before, plan.idle_s)
        _say(f"sending from {linked} devices")
        concurrent = min(linked, plan.concurrent)
        result.first_sends.append(
            await send_once(
                fleet.send, fleet.devices[before[0] :], processes, concurrent, plan.first_s
            )
        )
        result.sends.append(
            await send_closed(fleet.send, fleet.devices, processes, concurrent, plan.send_s)
        )


async def _link_all(
    stand: Stand, feed: Feed, processes: Processes, count: int, within_s: float
) -> None:
    paired = await pair(stand.fleet, feed, processes, count, within_s)
    if paired.count < count:
        raise BenchError(f"{paired.count} of {count} devices were linked in {within_s:g} s")


def _say(text: str) -> None:
    print(f"  • {text} …", file=sys.stderr, flush=True)
