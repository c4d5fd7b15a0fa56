"""A small share of the fuzzing, the same inputs each time; `make fuzz` takes minutes."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.fuzz import corpus
from tests.fuzz.engine import Fuzzer
from tests.fuzz.mutants import MUTANTS, planted
from tests.fuzz.targets import TARGETS

# Some seconds in all; what costs most gets least.
INPUTS = {
    "nodes": 6_000,
    "frames": 8_000,
    "noise": 3_000,
    "protobufs": 8_000,
    "stanzas": 2_500,
    "signal": 2_500,
    "machine": 1_000,
    "device": 60,
}
LARGE = 4


@pytest.mark.parametrize("name", TARGETS)
def test_share_of_the_fuzzing_finds_nothing(name: str) -> None:
    tally = Fuzzer(TARGETS[name](), Random(1)).run(inputs=INPUTS[name], large=LARGE)
    assert [f"{finding.what} ({finding.command})" for finding in tally.findings] == []
    assert tally.inputs == INPUTS[name]


@pytest.mark.parametrize("name", [name for name, mutant in MUTANTS.items() if not mutant.kills])
def test_planted_mistake_is_found(name: str) -> None:
    mutant = MUTANTS[name]
    with planted(mutant):
        fuzzer = Fuzzer(TARGETS[mutant.target](), Random(1))
        tally = fuzzer.run(inputs=8_000, findings=1, large=None if name == "quadratic" else 0)
    assert tally.findings


def test_every_target_has_a_mistake_that_it_must_find() -> None:
    assert {mutant.target for mutant in MUTANTS.values()} == set(TARGETS)


@pytest.mark.parametrize("path", sorted(corpus.DIRECTORY.glob("*")), ids=lambda path: path.name)
def test_every_corpus_belongs_to_a_target(path: Path) -> None:
    assert path.stem in TARGETS
    assert corpus.read(path)
