"""Writes corpora anew: few inputs that reach, together, all that many reached.

What failed once stays in any case: it stands in its file above the line `DISTILLED`.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from tests.fuzz import corpus
from tests.fuzz.coverage import Line, LineCoverage
from tests.fuzz.engine import Fuzzer
from tests.fuzz.target import Outcome, Target
from tests.fuzz.targets import TARGETS

DISTILLED: Final = (
    "reach together what many inputs reached; made by `python -m tests.fuzz --distil`"
)


def distil(targets: Sequence[str], seed: int, seconds: float) -> int:
    """Fuzz each target for a while and keep what is needed of it; returns the exit status."""
    for name in targets:
        target = TARGETS[name]()
        fuzzer = Fuzzer(target, Random(seed), coverage=LineCoverage())
        tally = fuzzer.run(seconds=seconds)
        if tally.findings:
            print(f"{name}: {tally.findings[0].what}; fix that first")
            return 1
        few = needed(target, fuzzer.kept)
        path = corpus.path_of(name)
        text = path.read_text() if path.exists() else ""
        corpus.write(path, DISTILLED, few, kept=text.partition(f"# {DISTILLED}\n")[0])
        print(f"{name}: {len(few)} of {len(fuzzer.kept)} inputs")
    return 0


def needed(target: Target, inputs: Sequence[bytes]) -> list[bytes]:
    """A few of these inputs with all outcomes and lines of all of them, the shortest first."""
    reached = {data: _reached(target, data) for data in inputs}
    left: set[Line | Outcome] = set().union(*reached.values())
    few = []
    while left:
        best = max(reached, key=lambda data: (len(reached[data] & left), -len(data)))
        few.append(best)
        left -= reached.pop(best)
    return sorted(few, key=lambda data: (len(data), data))


def _reached(target: Target, data: bytes) -> set[Line | Outcome]:
    return LineCoverage().trace(target.check, data) | set(target.check(data))
