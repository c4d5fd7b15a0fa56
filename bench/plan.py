"""Plan and result: how much is measured, and everything that was."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from bench.durability import Durability
from bench.fairness import Fairness
from bench.feed import Flood
from bench.lives import Idle, Pairing, Reconnect
from bench.machine import Machine
from bench.peer import PeerCrowd
from bench.protocol import Protocol
from bench.resumption import HandshakeCost
from bench.scale import Scale
from bench.sends import Sends


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured; seconds, and counts.

    Attributes:
        durable: numbers of devices whose pipelines run at once.
        durable_s: for each part of a run with one of these numbers.
        few_s: for pairing the devices of a small stage.
        fair_devices: of the quiet partner and the noisy one, together.
        fair_per_second: messages a second of the quiet partner.
        accept_per_second: requests a second that are offered without waiting for answers.
        accept_concurrent: requests under way at saturation.
        feed_stalled: readers of the feed that read nothing; feed_per_second: changes.
        fleets: numbers of connected devices, growing.
        concurrent: requests under way in closed loops; fewer where there are fewer devices.
        first_s: for all first messages, as far as it reaches.
        pair_s: for all pairings; then it goes on with the devices that there are.
        pace: messages a second that are offered without waiting for acks.
        scale_devices: seeded ones of the stage `scale`; scale_tls_devices: of its part with TLS.
        scale_away_s: how long the server is away, one outage after the other.
        scale_peers: connections of another library, in one process.
        resumptions: handshakes of each kind, resumed and in full.
        protocol_blocks: of each row and side, one after the other; protocol_block_s: each, about.
    """

    durable: tuple[int, ...] = (1, 16, 64)
    durable_s: float = 4.0
    few_s: float = 20.0
    fair_devices: int = 16
    fair_rounds: int = 4
    fair_round_s: float = 5.0
    fair_per_second: float = 20.0
    accept_per_second: float = 200.0
    accept_concurrent: int = 8
    accept_s: float = 8.0
    feed_stalled: int = 100
    feed_devices: int = 1000
    feed_per_second: float = 10_000.0
    feed_s: float = 30.0
    fleets: tuple[int, ...] = (1, 100, 1000)
    concurrent: int = 16
    send_s: float = 6.0
    first_s: float = 12.0
    pace: float = 100.0
    pace_s: float = 12.0
    idle_s: float = 10.0
    pair_s: float = 180.0
    scale_devices: int = 1000
    scale_tls_devices: int = 500
    scale_idle_s: float = 60.0
    scale_away_s: tuple[float, ...] = (60.0, 10.0)
    scale_peers: int = 50
    resumptions: int = 1000
    protocol_blocks: int = 15
    protocol_block_s: float = 0.015


FULL: Final = Plan()
QUICK: Final = Plan(
    durable=(1, 16),
    durable_s=1.5,
    few_s=15.0,
    fair_devices=6,
    fair_rounds=2,
    fair_round_s=2.0,
    feed_stalled=20,
    feed_s=5.0,
    accept_s=2.0,
    fleets=(1, 10, 40),
    concurrent=8,
    send_s=2.0,
    first_s=2.0,
    pace=50.0,
    pace_s=3.0,
    idle_s=2.0,
    pair_s=12.0,
    scale_devices=100,
    scale_tls_devices=50,
    scale_idle_s=5.0,
    scale_away_s=(2.0,),
    scale_peers=10,
    resumptions=100,
    protocol_blocks=5,
    protocol_block_s=0.01,
)


@dataclass(slots=True)
class Result:
    """Everything that was measured, as it stands in the JSON; None: it was not, or not in time."""

    machine: Machine
    quick: bool
    durability: list[Durability] = field(default_factory=list)
    fairness: Fairness | None = None
    flood: Flood | None = None
    accepts: list[Sends] = field(default_factory=list)
    sends: list[Sends] = field(default_factory=list)
    first_sends: list[Sends] = field(default_factory=list)
    pairing: list[Pairing] = field(default_factory=list)
    paced_sends: Sends | None = None
    idle: Idle | None = None
    reconnect: Reconnect | None = None
    scales: list[Scale] = field(default_factory=list)
    peers: PeerCrowd | None = None
    protocol: Protocol | None = None
    handshakes: list[HandshakeCost] = field(default_factory=list)
    violations: int | None = None
    seconds: float = 0.0
