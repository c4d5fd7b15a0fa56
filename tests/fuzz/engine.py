"""The loop: change an input, try it, keep it if it is news, write it down if it is a finding."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from statistics import median
from typing import Final

from tests.fuzz import corpus
from tests.fuzz.coverage import LineCoverage
from tests.fuzz.findings import Finding, TooSlow, allowed_s, cpu_seconds, finding, place_of
from tests.fuzz.target import Outcome, Target

# One input of so many is traced for its lines.
TRACED_ONE_OF: Final = 64
# Inputs that are kept to be changed further, and how long they may be: long ones cost throughput.
MAX_KEPT: Final = 4096
MAX_KEPT_LEN: Final = 1024
# Different findings of one run; more of them say nothing new.
MAX_FINDINGS: Final = 10
_TIMES: Final = 4096


@dataclass
class Tally:
    """What a run came to.

    Attributes:
        kept: inputs that the corpus has in the end.
        lines: of the protocol that traced inputs reached.
        median_s: wall seconds that an input takes to be tried.
    """

    target: str
    inputs: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0
    kept: int = 0
    outcomes: int = 0
    lines: int = 0
    median_s: float = 0.0
    slowest_s: float = 0.0
    findings: list[Finding] = field(default_factory=list)


class Fuzzer:
    """Fuzzes one target.

    Args:
        rng: draws everything: the same one draws the same inputs, without coverage or on a machine
            that traces the same sample.
        coverage: None traces nothing.
        note: is handed every input before it is tried, for those who come after a crash.
        heartbeat: called between inputs.
    """

    def __init__(
        self,
        target: Target,
        rng: Random,
        *,
        coverage: LineCoverage | None = None,
        note: Callable[[bytes], None] | None = None,
        heartbeat: Callable[[], None] = lambda: None,
    ) -> None:
        self._target = target
        self._rng = rng
        self._coverage = coverage
        self._note = note
        self._heartbeat = heartbeat
        self._outcomes: set[Outcome] = set()
        self._places: set[str] = set()
        self._times: list[float] = []
        self._tally = Tally(target.name)
        saved = corpus.read(corpus.path_of(target.name))
        self._first = [*target.seeds(), *saved]
        self.kept: list[bytes] = list(self._first)

    def run(
        self,
        *,
        inputs: int | None = None,
        seconds: float | None = None,
        findings: int = MAX_FINDINGS,
        large: int | None = None,
    ) -> Tally:
        """Fuzz until so many inputs were tried, so much time is over, or so much was found.

        Args:
            large: how many of the large inputs are tried; None: all, within a quarter of the time.
        """
        tally, begun, cpu_begun = self._tally, time.perf_counter(), time.process_time()
        for data in self._first:
            self._try(data, traced=self._coverage is not None)
        until = None if seconds is None else begun + seconds / 4
        self._try_large(large, until, findings)
        while (
            (inputs is None or tally.inputs < inputs)
            and (seconds is None or time.perf_counter() - begun < seconds)
            and len(tally.findings) < findings
        ):
            traced = self._coverage is not None and tally.inputs % TRACED_ONE_OF == 0
            self._try(self._next(), traced=traced)
        tally.seconds, tally.cpu_s = time.perf_counter() - begun, time.process_time() - cpu_begun
        tally.kept, tally.outcomes = len(self.kept), len(self._outcomes)
        tally.lines = len(self._coverage.lines) if self._coverage else 0
        tally.median_s = median(self._times) if self._times else 0.0
        return tally

    def _try_large(self, count: int | None, until: float | None, findings: int) -> None:
        large = list(self._target.large()) if count != 0 else []
        self._rng.shuffle(large)
        for data in large[:count]:
            is_over = until is not None and time.perf_counter() >= until
            if is_over or len(self._tally.findings) >= findings:
                break
            self._try(data, traced=False)
        self._times.clear()

    def _next(self) -> bytes:
        random, kept = self._rng.random, self.kept
        # What was kept last is where the news is; the rest is never forgotten.
        at = int(len(kept) * (1.0 - random() ** 2)) if random() < 0.5 else int(len(kept) * random())
        data = kept[min(at, len(kept) - 1)]
        other = kept[int(len(kept) * random())]
        return self._target.mutate(self._rng, data, other)

    def _try(self, data: bytes, *, traced: bool) -> None:
        self._heartbeat()
        if self._note is not None:
            self._note(data)
        tally, target = self._tally, self._target
        tally.inputs += 1
        fault: Exception | None = None
        outcomes: Sequence[Outcome] = ()
        begun = time.perf_counter()
        try:
            if traced and self._coverage is not None:
                if self._coverage.trace(target.check, data):
                    self._keep(data)
                return
            outcomes = target.check(data)
        except Exception as error:
            # Looked at outside, where it is nobody's context.
            fault = error
        if fault is not None:
            self._found(data, fault)
            return
        took = time.perf_counter() - begun
        if len(self._times) < _TIMES:
            self._times.append(took)
        else:
            self._times[tally.inputs % _TIMES] = took
        if took > tally.slowest_s:
            tally.slowest_s = took
        if took > target.base_s and took > allowed_s(target, data):
            # Seen on a clock that others hold up, too: what counts is the CPU.
            spent = cpu_seconds(target, data)
            if spent > allowed_s(target, data):
                self._found(data, TooSlow(f"{spent:.3f} s of CPU for {len(data)} bytes"))
                return
        seen, news = self._outcomes, False
        for outcome in outcomes:
            if outcome not in seen:
                seen.add(outcome)
                news = True
        if news:
            self._keep(data)

    def _keep(self, data: bytes) -> None:
        if len(data) > MAX_KEPT_LEN:
            return
        if len(self.kept) < MAX_KEPT:
            self.kept.append(data)
            return
        first = len(self._first)
        self.kept[first + int((MAX_KEPT - first) * self._rng.random())] = data

    def _found(self, data: bytes, error: Exception) -> None:
        place = place_of(error)
        if place in self._places:
            return
        self._places.add(place)
        self._tally.findings.append(finding(self._target, data, error, self._heartbeat))
