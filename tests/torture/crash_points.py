"""Crash points: the process dies at every bytecode of our own from accept to ack of one send.

    python -m tests.torture.crash_points [--share] [--seed N] [--minutes M] [--mutant NAME]

A first child sends one message, the first to that person, through the real route, and notes every
bytecode of `sitpayd` on the way, those of the writer's thread as well. A child dies at each of
them, at the execution that the seed draws. While there is time, more die at the same bytecodes in
other stages (so many transactions begun, so many stanzas encrypted), then at all other executions.

The server is a process of its own and outlives the dead. An heir opens the same file, finishes what
it finds, and gets the request again with the same Idempotency-Key, as from a client without answer.
"""

from __future__ import annotations

import argparse
import gc
import secrets
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Final

import trio

from sitpayd.api import app
from sitpayd.api.sending import send
from sitpayd.storage.records import RowState
from sitpayd.storage.vault import Vault
from tests.torture.children import Child, Tell
from tests.torture.crash_play import TEXT, Observed, Play
from tests.torture.death import ANY, Place, Target
from tests.torture.lanes import Lane
from tests.torture.mutant_daemon import MUTANTS
from tests.torture.scene import SECRET, Scene
from tests.torture.verdict import REUSED_TEXT, Broken, Finding

# Two processors; a little of a point is waiting.
WORKERS: Final = 3
# On two processors that have nothing else to do, all bytecodes take sixteen or seventeen.
MINUTES: Final = 20.0
SHARE_MINUTES: Final = 0.4
TELL_EVERY_S: Final = 60.0
MEMORY_DISK: Final = Path("/dev/shm")
MAX_TOLD: Final = 20
OK: Final = 200

_ARRIVED: Final = (RowState.SENT, RowState.DELIVERED, RowState.READ)


# --- the verdict ---


def judge(seen: Observed) -> list[Finding]:
    """Compare what was seen with what was promised."""
    return [Finding(broken, f"{text} (died at {seen.target})") for broken, text in _judge(seen)]


def _judge(seen: Observed) -> Iterator[tuple[Broken, str]]:
    shown, taken = seen.witnessed.shown, seen.witnessed.taken
    if not shown:
        yield Broken.LOST, "the phone shows nothing"
    if len(shown) > 1:
        yield Broken.TWICE, f"the phone shows {len(shown)} messages"
    if any(text != TEXT for text in shown):
        yield Broken.FORGED, "the phone shows another text"
    if len(taken) > 1:
        yield Broken.TWICE, f"{len(taken)} ids on the wire"
    for wa_message_id, stanzas in taken.items():
        if len(set(stanzas)) > 1:
            yield Broken.REENCRYPTED, f"{wa_message_id} with other bytes"
    for violation in seen.witnessed.violations:
        yield Broken.REUSED if REUSED_TEXT in violation else Broken.VIOLATION, violation
    for complaint in seen.complaints:
        yield Broken.COMPLAINT, complaint
    if seen.answer not in (None, OK):
        yield Broken.REFUSED, f"answered {seen.answer} before it died"
    if seen.finished is None:
        yield Broken.DIED, "the heir did not finish"
        return
    found, rows = seen.finished.found, seen.finished.rows
    for row in (*found, *rows):
        if row.state not in _ARRIVED:
            yield Broken.UNSETTLED, f"{row.wa_message_id} is {row.state}"
    if seen.answer == OK and not found:
        yield Broken.LOST, "answered 200, and the row is gone"
    if seen.finished.status != OK:
        yield Broken.REFUSED, f"the repeated request was answered {seen.finished.status}"
    if len(rows) != 1 or rows[0].wa_message_id != seen.finished.wa_message_id:
        yield Broken.TWICE, f"{len(rows)} rows after the repeated request"


# --- which points ---


@dataclass(frozen=True, slots=True)
class Points:
    """The points of a run, each list in the order of its turn.

    Attributes:
        way: the place of each executed bytecode.
        every: one execution of each bytecode.
        staged: one more of each bytecode for every further stage it is executed in.
        rest: all other executions.
    """

    way: Sequence[Place]
    every: Sequence[Target]
    staged: Sequence[Target]
    rest: Sequence[Target]

    @property
    def all(self) -> list[Target]:
        """All of them."""
        return [*self.every, *self.staged, *self.rest]


def draw(way: Sequence[Place], seed: int) -> Points:
    """Draw which executions come first."""
    random = Random(seed)
    targets = [
        Target(place, execution)
        for place, executions in Counter(way).items()
        for execution in range(executions)
    ]
    random.shuffle(targets)
    every: dict[Place, Target] = {}
    staged: dict[Place, Target] = {}
    rest = []
    for target in targets:
        bytecode = replace(target.place, stage=ANY)
        if bytecode not in every:
            every[bytecode] = staged[target.place] = target
        elif target.place not in staged:
            staged[target.place] = target
        else:
            rest.append(target)
    first = set(every.values())
    further = [target for target in staged.values() if target not in first]
    return Points(way, list(every.values()), further, rest)


# --- the workers ---


@dataclass(frozen=True, slots=True)
class Played:
    """One point was played.

    Attributes:
        died: whether the victim came there and died.
    """

    died: bool
    took_s: float
    findings: tuple[Finding, ...]


def _work(scene: Scene, points: Sequence[Target], until: float, random: Random, tell: Tell) -> None:
    with _directory() as directory:
        play = Play(scene, Path(directory))
        for point in points:
            begun = time.monotonic()
            if begun >= until:
                break
            # Half of the time nothing but the server's ack tells that it took the message.
            silent = random.random() < 0.5
            seen = play.point(point, silent=silent)
            if seen.target is None:
                # Two sends differ a little; any other execution of this bytecode will do.
                seen = play.point(Target(replace(point.place, stage=ANY), 0), silent=silent)
            took_s = time.monotonic() - begun
            tell(Played(seen.target is not None, took_s, tuple(judge(seen))))


def _directory() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(dir=MEMORY_DISK if MEMORY_DISK.is_dir() else None)


def walk(scene: Scene) -> list[Place]:
    """The way of one send, bytecode by bytecode."""
    with _directory() as directory:
        return Play(scene, Path(directory)).walk()


def play(scene: Scene, points: Sequence[Target], minutes: float, seed: int) -> list[Played]:
    """Die at these points, on several processors, until they or the time are over."""
    until = time.monotonic() + 60 * minutes
    workers = [
        Child(partial(_work, scene, points[start::WORKERS], until, Random(f"{seed} {start}")))
        for start in range(WORKERS)
    ]
    while time.monotonic() < until:
        # Each of them is listened to, also behind one that has not ended.
        ended = [worker.listen(TELL_EVERY_S / WORKERS) for worker in workers]
        if all(ended):
            break
        so_far = [played for worker in workers for played in worker.told(Played)]
        broken = sum(bool(played.findings) for played in so_far)
        print(f"  {len(so_far)} of {len(points)}, {broken} broken", flush=True)
    deaths: list[Played] = []
    for worker in workers:
        # What it is about to finish when the time is over takes a little longer.
        assert worker.wait(until - time.monotonic() + 120) == 0
        deaths += worker.told(Played)
    return deaths


def prepare(mutant: str | None = None) -> Scene:
    """Do once what every child would have to do anew; opens nothing."""
    if mutant is not None:
        MUTANTS[mutant]()
    Vault(SECRET)
    # Compiling the rules of all others is most of what a child would do.
    app.ROUTES = tuple(route for route in app.ROUTES if route.handler is send)  # type: ignore[misc]
    scene = Scene.make()
    # What the collector never touches is never copied for a child.
    gc.collect()
    gc.freeze()
    return scene


def report(points: Points, deaths: Sequence[Played], *, complete: bool) -> bool:
    """Print what came out; whether everything held.

    Args:
        complete: a bytecode that was left out counts as a failure.
    """
    died = sum(played.died for played in deaths)
    sizes = [len(points.every), len(points.staged), len(points.rest)]
    done, left = [], len(deaths)
    for size in sizes:
        done.append(min(size, left))
        left -= done[-1]
    files = {place.file for place in points.way}
    print(
        f"  {len(points.way)} executions of {sizes[0]} bytecodes in {len(files)} files,"
        f" {max(place.stage for place in points.way)} stages"
    )
    took_s = sum(played.took_s for played in deaths)
    print(
        f"  {done[0]} of {sizes[0]} bytecodes, {done[1]} of {sizes[1]} in further stages,"
        f" {done[2]} of {sizes[2]} further executions; {died} died there,"
        f" {len(deaths) - died} never came there;"
        f" {1000 * took_s / max(len(deaths), 1):.0f} ms each"
    )
    findings = [finding for death in deaths for finding in death.findings]
    for broken, number in Counter(finding.broken for finding in findings).most_common():
        print(f"  {broken}: {number}")
    for finding in findings[:MAX_TOLD]:
        print(f"    {finding.broken}: {finding.text}")
    if complete and done[0] < sizes[0]:
        print(f"  the time was over before {sizes[0] - done[0]} of the bytecodes")
        return False
    return not findings and bool(deaths)


def main(arguments: Sequence[str]) -> int:
    """Run the lane in this process, which must not have begun anything."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture.crash_points")
    parser.add_argument("--share", action="store_true")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31))
    configure(parser)
    options = parser.parse_args(arguments)
    scene = prepare(options.mutant)
    points = draw(walk(scene), options.seed)
    minutes = options.minutes or (SHARE_MINUTES if options.share else MINUTES)
    played = play(scene, points.all[: options.points], minutes, options.seed)
    is_part = options.share or options.minutes or options.points
    return 0 if report(points, played, complete=not is_part) else 1


# --- the lane ---


def configure(parser: ArgumentParser) -> None:
    """Add the options of this lane."""
    parser.add_argument("--minutes", type=float, help="ends after this time")
    parser.add_argument("--points", type=int, help="ends after so many points")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="a daemon with a mistake")


async def run(options: Namespace) -> bool:
    """Run the lane in a process of its own: this one has an event loop, which cannot be forked."""
    arguments = [f"--seed={options.seed}", *(["--share"] if options.share else [])]
    for name in ("minutes", "points", "mutant"):
        if (value := getattr(options, name)) is not None:
            arguments.append(f"--{name}={value}")
    done = await trio.run_process(
        [sys.executable, "-m", "tests.torture.crash_points", *arguments], check=False
    )
    return done.returncode == 0


LANE: Final = Lane("a death at every bytecode of a send loses and doubles nothing", configure, run)

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
