"""The table: what was reached beside what was aimed at."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from bench.__main__ import Result
    from bench.measures import Sends

AIM_CPU_MS: Final = 2.0
AIM_P99_MS: Final = 100.0
AIM_KIB: Final = 100.0
AIM_IDLE_PERCENT: Final = 5.0  # for 10,000 devices


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it was measured."""

    processor: str
    cores: int
    memory_gib: float
    kernel: str
    python: str
    load: float


def machine() -> Machine:
    """Look at this machine; load is the mean number of running tasks in the last minute."""
    processor = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            processor = line.partition(":")[2].strip()
            break
    return Machine(
        processor=processor,
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        kernel=platform.release(),
        python=platform.python_version(),
        load=os.getloadavg()[0],
    )


def show(result: Result) -> None:
    """Print everything."""
    about = result.machine
    print(
        f"\n{about.processor}, {about.cores} cores, {about.memory_gib} GiB, Linux {about.kernel},"
        f" Python {about.python}, load {about.load:.1f}; daemon, simulator and load generator"
        f" share it\n"
    )
    rows = [("", "reached", "aim")]
    for sends in result.sends:
        rows += _sending(f"send to ack, {sends.devices} connected", sends)
    for sends in result.first_sends[-1:]:
        rows += _sending(f"first message to a contact, {sends.devices} devices", sends, "")
    for paced in filter(None, [result.paced_sends]):
        rows += _sending(
            f"offered {paced.offered_per_second:g} a second, {paced.devices} connected",
            paced,
            latency_aim=f"p99 <= {AIM_P99_MS:g} ms at 100 a second",
        )
    for paired in result.pairing[-1:]:
        rows += [
            (f"pairings, {paired.count} devices, {paired.concurrent} at a time", "", ""),
            ("  rate", f"{paired.per_second:.1f} /s", ""),
            ("  creation to connected, p50", f"{paired.p50_ms:.0f} ms", ""),
            ("  daemon CPU", f"{paired.daemon_cpu_ms:.1f} ms each", ""),
            ("  simulator / bench CPU", _pair(paired.simulator_cpu_ms, paired.bench_cpu_ms), ""),
        ]
    for idle in filter(None, [result.idle]):
        rows += [
            (f"idle, {idle.devices} connected", "", ""),
            ("  memory, just paired", f"{idle.kib_per_device:.1f} KiB each", f"< {AIM_KIB:g} KiB"),
            ("  daemon, all", f"{idle.daemon_rss_mib:.0f} MiB", ""),
            (
                "  daemon CPU",
                f"{idle.cpu_percent:.1f} % of a core",
                f"<= {AIM_IDLE_PERCENT:g} % at 10,000",
            ),
        ]
    for again in filter(None, [result.reconnect]):
        rows += [
            (f"restart with {again.devices} devices", "", ""),
            ("  start to HTTP ready", f"{again.ready_s:.1f} s", "<= 3 s with 10,000"),
            ("  start to all connected", f"{again.connected_s:.1f} s", "100 dials/s at most"),
            ("  daemon CPU", f"{again.cpu_ms:.2f} ms each", ""),
            ("  memory", f"{again.kib_per_device:.1f} KiB each", f"< {AIM_KIB:g} KiB"),
            ("  daemon, all", f"{again.daemon_rss_mib:.0f} MiB", ""),
        ]
    if result.violations is not None:
        rows.append(("protocol violations seen", str(result.violations), "0"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for name, reached, aim in rows:
        print(f"{name:<{widths[0]}}  {reached:>{widths[1]}}  {aim:<{widths[2]}}".rstrip())
    print(f"\n{result.seconds:.0f} s in all")


def _sending(
    title: str, sends: Sends, cpu_aim: str = f"< {AIM_CPU_MS:g} ms", latency_aim: str = ""
) -> list[tuple[str, str, str]]:
    concurrent = f", {sends.concurrent} at a time" if sends.concurrent else ""
    return [
        (f"{title}{concurrent}", "", ""),
        ("  rate", f"{sends.per_second:.0f} /s", ""),
        ("  latency p50 / p99", f"{sends.p50_ms:.1f} / {sends.p99_ms:.1f} ms", latency_aim),
        ("  daemon CPU", f"{sends.daemon_cpu_ms:.2f} ms each", cpu_aim),
        ("  simulator / bench CPU", _pair(sends.simulator_cpu_ms, sends.bench_cpu_ms), ""),
        ("  commits", f"{sends.commits:.2f} each", ""),
    ]


def _pair(simulator_ms: float, bench_ms: float) -> str:
    return f"{simulator_ms:.2f} / {bench_ms:.2f} ms each"
