"""The table: what was reached beside what was aimed at."""

from __future__ import annotations

from typing import Final

from bench.durability import Durability
from bench.fairness import Fairness
from bench.feed import Flood
from bench.lives import Idle, Pairing, Reconnect
from bench.peer import PeerCrowd
from bench.plan import Result
from bench.ratios import show_ratios
from bench.resumption import HandshakeCost
from bench.scale import Coming, Scale
from bench.sends import Sends

# What whatsmeow needs for its side of a message is 1.6 ms.
AIM_CPU: Final = "< 1.6 ms"
AIM_KIB: Final = "< 100 KiB"

Row = tuple[str, str, str]


def show(result: Result) -> None:
    """Print everything."""
    about = result.machine
    print(
        f"\n{about.processor}, {about.cores} cores, {about.memory_gib} GiB, Linux {about.kernel},"
        f" {about.filesystem}, Python {about.python}, load {about.load:.1f}; daemon, simulator and"
        f" load generator share it\n"
    )
    for protocol in filter(None, [result.protocol]):
        show_ratios(protocol)
    rows: list[Row] = [("", "reached", "aim")]
    for cost in result.handshakes:
        rows += _handshake(cost)
    for durability in result.durability:
        rows += _durability(durability)
    for fairness in filter(None, [result.fairness]):
        rows += _fairness(fairness)
    for flood in filter(None, [result.flood]):
        rows += _flood(flood)
    for accepts in result.accepts:
        rows += _accepts(accepts)
    for sends in result.sends:
        rows += _sends(f"send to ack, {sends.devices} connected", sends, cpu=AIM_CPU)
    for sends in result.first_sends[-1:]:
        rows += _sends(f"first message to a contact, {sends.devices} devices", sends)
    for sends in filter(None, [result.paced_sends]):
        title = f"send to ack, {sends.devices} connected"
        # The aim is for 100 messages a second from 1,000 devices.
        rows += _sends(title, sends, latency="p99 <= 100 ms", cpu=AIM_CPU)
    for pairing in result.pairing[-1:]:
        rows += _pairing(pairing)
    for idle in filter(None, [result.idle]):
        rows += _idle(idle)
    for reconnect in filter(None, [result.reconnect]):
        rows += _reconnect(reconnect)
    for peers in filter(None, [result.peers]):
        rows += _peers(peers)
    for scale in result.scales:
        rows += _scale(scale, result.peers)
    if result.violations is not None:
        rows.append(("protocol violations seen", str(result.violations), "0"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    # Where the protocol alone was measured there is nothing but the heading.
    for name, reached, aim in rows if len(rows) > 1 else []:
        print(f"{name:<{widths[0]}}  {reached:>{widths[1]}}  {aim:<{widths[2]}}".rstrip())
    print(f"\n{result.seconds:.0f} s in all")


def _handshake(it: HandshakeCost) -> list[Row]:
    return [
        (f"handshake, {it.pattern}", "", ""),
        ("  CPU, client / server", f"{it.client_us:.0f} / {it.server_us:.0f} us", ""),
        ("  bytes, up / down", f"{it.up} / {it.down}", ""),
        ("  messages before the first stanza", str(it.messages), ""),
    ]


def _durability(it: Durability) -> list[Row]:
    return [
        (f"price of durability, {it.devices} at once, no sockets", "", ""),
        # The aim is for group commit: many at once.
        ("  rows accepted", f"{it.accepted_per_second:.0f} /s", ">= 2000 /s with 64"),
        ("  commits of an accepted row", f"{it.accept_commits:.2f} each", ""),
        ("  bare loop, wall / CPU", _pair(it.bare_ms, it.bare_cpu_ms), ""),
        ("  pipeline, wall / CPU", _pair(it.durable_ms, it.durable_cpu_ms), ""),
        ("  commits of the pipeline", f"{it.commits:.2f} each", ""),
        ("  ratio, wall / CPU", f"{it.ratio:.1f} / {it.cpu_ratio:.1f}", ""),
    ]


def _fairness(it: Fairness) -> list[Row]:
    noisy = f"{it.noisy_per_second:.0f} / {it.noisy_refused_per_second:.0f} /s"
    return [
        (f"fairness, a quiet partner with {it.per_second:g} a second", "", ""),
        ("  alone, p50 / p99", f"{it.alone_p50_ms:.1f} / {it.alone_p99_ms:.1f} ms", ""),
        ("  beside a noisy one", f"{it.beside_p50_ms:.1f} / {it.beside_p99_ms:.1f} ms", ""),
        ("  ratio of the p99", f"{it.p99_ratio:.2f}", "<= 1.2"),
        (f"  noisy one, {it.noisy_devices} devices: sent / refused", noisy, ""),
    ]


def _flood(it: Flood) -> list[Row]:
    complete = "all" if it.complete else "not all"
    return [
        (f"feed, {it.stalled} stalled readers, {it.per_second:.0f} changes a second", "", ""),
        ("  telling a change, mean", f"{it.publish_mean_ms:.4f} ms CPU", ""),
        ("  telling a change, p99.9", f"{it.publish_p999_ms:.3f} ms CPU", "< 1 ms"),
        ("  memory, all in all", f"+{it.rss_rise_mib:.1f} MiB", "< 20 MiB"),
        (f"  good reader, {it.good_resyncs} resyncs: knows", complete, "all"),
    ]


def _accepts(it: Sends) -> list[Row]:
    title = f"accept only, {it.devices} devices away"
    if it.offered_per_second is None:
        return _sends(title, it, rate=">= 500 /s")
    return _sends(title, it, latency="<= 10 / 50 ms")


def _sends(title: str, it: Sends, *, rate: str = "", latency: str = "", cpu: str = "") -> list[Row]:
    how = f"{it.concurrent} at a time"
    if it.offered_per_second is not None:
        how = f"{it.offered_per_second:g} a second offered"
    return [
        (f"{title}, {how}", "", ""),
        ("  rate", f"{it.per_second:.0f} /s", rate),
        ("  latency p50 / p99", f"{it.p50_ms:.1f} / {it.p99_ms:.1f} ms", latency),
        ("  daemon CPU", f"{it.daemon_cpu_ms:.2f} ms each", cpu),
        ("  simulator / bench CPU", _pair(it.simulator_cpu_ms, it.bench_cpu_ms), ""),
        ("  commits", f"{it.commits:.2f} each", ""),
    ]


def _pairing(it: Pairing) -> list[Row]:
    return [
        (f"pairings, {it.concurrent} at a time", "", ""),
        ("  devices", f"{it.count} of {it.wanted}", "all"),
        ("  rate", f"{it.per_second:.1f} /s", ""),
        ("  creation to connected, p50", f"{it.p50_ms:.0f} ms", ""),
        ("  daemon CPU", f"{it.daemon_cpu_ms:.1f} ms each", ""),
        ("  simulator / bench CPU", _pair(it.simulator_cpu_ms, it.bench_cpu_ms), ""),
    ]


def _idle(it: Idle) -> list[Row]:
    return [
        (f"idle, {it.devices} connected", "", ""),
        ("  memory, just paired", f"{it.kib_per_device:.1f} KiB each", AIM_KIB),
        ("  daemon, all", f"{it.daemon_rss_mib:.0f} MiB", ""),
        ("  daemon CPU", f"{it.cpu_percent:.1f} % of a core", "<= 5 % at 10,000"),
    ]


def _reconnect(it: Reconnect) -> list[Row]:
    return [
        (f"restart with {it.devices} devices", "", ""),
        ("  start to HTTP ready", f"{it.ready_s:.1f} s", "<= 3 s with 10,000"),
        ("  start to all connected", f"{it.connected_s:.1f} s", "100 dials/s at most"),
        ("  daemon CPU", f"{it.cpu_ms:.2f} ms each", ""),
        ("  memory", f"{it.kib_per_device:.1f} KiB each", AIM_KIB),
        ("  daemon, all", f"{it.daemon_rss_mib:.0f} MiB", ""),
    ]


def _peers(it: PeerCrowd) -> list[Row]:
    return [
        (f"Baileys {it.version}, {it.connections} connected in one process", "", ""),
        ("  memory", f"{it.kib_each:.1f} KiB each", ""),
        ("  idle CPU", f"{it.cpu_percent:.2f} % of a core", ""),
    ]


def _scale(it: Scale, peers: PeerCrowd | None) -> list[Row]:
    rows: list[Row] = [
        (f"{it.devices} devices{' with TLS' if it.tls else ''}, seeded", "", ""),
        ("  start to HTTP ready", f"{it.ready_s:.1f} s", "<= 3 s with 10,000"),
    ]
    if it.cold is not None:
        rows += _coming("start to all connected", it.cold, "<= 120 s with 10,000")
    if it.idle_s:
        # Half a connection's memory is OpenSSL's, where there is TLS.
        aim = "" if it.tls else "<= 64 KiB"
        rows += [
            ("  memory", f"{it.kib_per_device:.1f} KiB each", aim),
            ("  daemon, all", f"{it.daemon_rss_mib:.0f} MiB", "<= 1.2 GiB with 10,000"),
            ("  idle CPU", f"{it.cpu_percent:.2f} % of a core", "<= 5 % with 10,000"),
            ("  idle CPU", f"{1e4 * it.cpu_percent / it.devices:.1f} us a second each", ""),
        ]
        if peers is not None:
            memory = peers.kib_each / it.kib_per_device
            cpu = (peers.cpu_percent / peers.connections) / (it.cpu_percent / it.devices)
            rows.append(("  Baileys to this, memory / idle CPU", f"{memory:.1f} / {cpu:.1f}", ""))
    for storm in it.storms:
        title = f"storm, back from {storm.away_s:g} s away"
        rows += _coming(title, storm.coming, "<= 120 s with 10,000")
    if it.restart_ready_s is not None:
        reached = f"{it.restart_ready_s:.1f} s"
        rows.append(("  restart, start to HTTP ready", reached, "<= 3 s with 10,000"))
    return rows


def _coming(title: str, it: Coming, aim: str) -> list[Row]:
    asked = f"{it.api_p50_ms:.0f} / {it.api_p99_ms:.0f} ms, {it.failed} of {it.count} failed"
    return [
        (f"  {title}", f"{it.seconds:.1f} s", aim),
        ("    dials, most within a second", f"{it.dials}, {it.peak_dials} /s", "<= 100 /s"),
        ("    API meanwhile, p50 / p99", asked, ""),
        ("    CPU daemon / simulator", f"{it.daemon_cpu_s:.1f} / {it.simulator_cpu_s:.1f} s", ""),
    ]


def _pair(one_ms: float, other_ms: float) -> str:
    return f"{one_ms:.2f} / {other_ms:.2f} ms each"
