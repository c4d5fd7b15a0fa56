"""The fuzzing itself: that it repeats itself, tells what it found, and cannot be fooled."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from random import Random
from types import ModuleType

import pytest

from sitpayd.whatsapp.codec import encode
from sitpayd.whatsapp.errors import RemoteProtocolError
from sitpayd.whatsapp.jid import Jid
from sitpayd.whatsapp.node import Node
from tests.fuzz import corpus, discovery
from tests.fuzz.__main__ import Run, main, replay, work
from tests.fuzz.coverage import LineCoverage
from tests.fuzz.distil import needed
from tests.fuzz.engine import Fuzzer, Tally
from tests.fuzz.findings import Finding, smallest
from tests.fuzz.mutants import MUTANTS, planted
from tests.fuzz.target import CANARY, MAX_ERROR_LEN, Outcome, Target, judged
from tests.fuzz.targets import TARGETS
from tests.fuzz.worker import heard, told


class Digits(Target):
    """A parser of digits, for the tests: a seven behind a three is its mistake."""

    name = "digits"
    summary = "digits"

    def __init__(self) -> None:
        self.tried: list[bytes] = []

    def seeds(self) -> Sequence[bytes]:
        return [b"0130"]

    def mutate(self, rng: Random, data: bytes, other: bytes) -> bytes:
        digits = bytearray(data)
        digits[rng.randrange(len(digits))] = rng.choice(b"0123456789")
        return bytes(digits)

    def check(self, data: bytes) -> Sequence[Outcome]:
        self.tried.append(data)
        assert b"37" not in data, "a seven behind a three"
        return (data.count(b"9"),)


def inputs_of(seed: int, *, coverage: bool = False) -> list[bytes]:
    target = TARGETS["frames"]()
    noted: list[bytes] = []
    traced = LineCoverage() if coverage else None
    Fuzzer(target, Random(seed), coverage=traced, note=noted.append).run(inputs=300, large=0)
    return noted


@pytest.mark.parametrize("coverage", [False, True])
def test_same_seed_draws_the_same_inputs(coverage: bool) -> None:
    assert inputs_of(7, coverage=coverage) == inputs_of(7, coverage=coverage)


def test_another_seed_draws_others() -> None:
    assert inputs_of(7) != inputs_of(8)


def test_finding_is_made_small_and_told_once() -> None:
    tally = Fuzzer(Digits(), Random(1)).run(inputs=5000)
    (found,) = tally.findings
    assert found.data == b"37"
    assert found.what == "AssertionError: a seven behind a three"
    assert "test_engine.py" in found.place


def test_input_with_a_new_outcome_is_kept() -> None:
    fuzzer = Fuzzer(Digits(), Random(1))
    fuzzer.run(inputs=2000)
    assert {data.count(b"9") for data in fuzzer.kept} >= {0, 1, 2}


def test_input_that_reaches_new_lines_is_news() -> None:
    coverage, target = LineCoverage(), TARGETS["nodes"]()
    ping = encode(Node("iq", {"id": "1"}))
    assert coverage.trace(target.check, ping)
    assert not coverage.trace(target.check, ping)
    assert coverage.trace(target.check, encode(Node("iq", {"to": Jid("1", "lid", 2)})))


def test_smallest_input_still_fails() -> None:
    assert smallest(b"abcXdefYghi", lambda data: b"X" in data and b"Y" in data) == b"XY"


def test_what_cannot_be_left_out_is_emptied() -> None:
    assert smallest(b"abcX", lambda data: data[3:4] == b"X") == b"\0\0\0X"


def test_tally_crosses_the_process_boundary() -> None:
    finding = Finding("nodes", "what", "place", b"\xff\0", "details")
    tally = Tally("nodes", inputs=3, seconds=1.5, findings=[finding])
    assert heard(json.loads(json.dumps(told(tally)))) == tally


# --- what is told and kept ---


def test_finding_names_the_command_that_replays_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tests.fuzz.findings.DIRECTORY", tmp_path)
    data = encode(Node("iq", {"to": "x"}))
    finding = Finding("nodes", "KeyError: 'id'", "place", data, "one\ntwo")
    finding.save()
    assert finding.command.endswith(f"nodes --replay {finding.path}")
    assert replay("nodes", finding.path) == 0
    with planted(MUTANTS["key_error"]):
        assert replay("nodes", finding.path) == 1
    assert "KeyError: 'id'" in capsys.readouterr().err


def test_corpus_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "nodes.txt"
    corpus.write(path, "heading", [b"\0a", b"b"], kept="# failed once\nff\n")
    assert corpus.read(path) == [b"\xff", b"\0a", b"b"]


def test_few_inputs_reach_what_many_do() -> None:
    assert needed(Digits(), [b"0", b"1", b"9", b"19", b"9999"]) == [b"0", b"9", b"9999"]


def test_unknown_target_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["nonsense"])
    assert "no target nonsense" in capsys.readouterr().err


# --- processes ---


def test_worker_does_its_share(tmp_path: Path) -> None:
    tally = work(Run("frames", "1-0", None, 200, large=0), tmp_path)
    assert (tally.inputs, tally.findings) == (200, [])
    assert tally.lines > 0


def test_input_that_never_ends_is_a_finding(tmp_path: Path) -> None:
    run = Run("nodes", "1-0", None, 5000, mutant="endless", hang_s=3.0, large=0)
    (finding,) = work(run, tmp_path).findings
    assert finding.what == "an input takes for ever"
    assert finding.data[1:2] == b"\0"
    assert "_never_ends" in finding.details


def test_input_that_takes_all_memory_is_a_finding(tmp_path: Path) -> None:
    run = Run("nodes", "1-0", None, 1, mutant="bomb")
    assert [finding.what.partition(":")[0] for finding in work(run, tmp_path).findings] == [
        "MemoryError"
    ]


# --- errors ---


@pytest.mark.parametrize("text", ["x" * (MAX_ERROR_LEN + 1), f"no such type {CANARY}"])
def test_error_that_is_long_or_repeats_the_peer_is_a_finding(text: str) -> None:
    error = RemoteProtocolError(text)
    with pytest.raises(AssertionError) as caught:
        judged(error)
    assert caught.value.__cause__ is error


# --- discovery ---


def module_with(**functions: object) -> ModuleType:
    module = ModuleType("sitpayd.whatsapp.stanzas.novel")
    for name, function in functions.items():
        function.__module__ = module.__name__
        setattr(module, name, function)
    return module


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    discovery.parsers.cache_clear()
    monkeypatch.setattr(discovery, "parsers", discovery.parsers.__wrapped__)
    return monkeypatch


def test_new_parser_is_found(fresh: pytest.MonkeyPatch) -> None:
    def parse_novelty(node: Node, own_pn: Jid) -> Jid:
        return own_pn

    fresh.setattr(discovery, "_modules", lambda: [module_with(parse_novelty=parse_novelty)])
    assert [parser.name for parser in discovery.parsers()] == ["stanzas.novel.parse_novelty"]


def test_parser_with_an_unknown_argument_stops_the_run(fresh: pytest.MonkeyPatch) -> None:
    def parse_novelty(node: Node, weather: Decimal) -> str:
        return str(weather)

    fresh.setattr(discovery, "_modules", lambda: [module_with(parse_novelty=parse_novelty)])
    with pytest.raises(discovery.NotCoveredError, match="weather"):
        discovery.parsers()


def test_parser_of_a_stream_is_given_pieces(fresh: pytest.MonkeyPatch) -> None:
    def read_novelty(pieces: Iterable[bytes], most: int, known: bool | None) -> list[bytes]:
        return [*pieces, bytes((most,))]

    fresh.setattr(discovery, "_modules", lambda: [module_with(read_novelty=read_novelty)])
    (parser,) = discovery.taking(bytes)
    assert parser.call(b"abcdefgh") == [b"a", b"bc", b"def", b"gh", b"\x07"]


def test_module_without_parsers_stops_the_run(fresh: pytest.MonkeyPatch) -> None:
    fresh.setattr(discovery, "_modules", lambda: [module_with()])
    with pytest.raises(discovery.NotCoveredError, match="novel"):
        discovery.parsers()


def test_parser_that_accepts_no_seed_is_told(fresh: pytest.MonkeyPatch) -> None:
    def parse_novelty(node: Node) -> str:
        return node.required_text("novel")

    fresh.setattr(discovery, "_modules", lambda: [module_with(parse_novelty=parse_novelty)])
    assert discovery.unreached(Node, [Node("iq")]) == ["stanzas.novel.parse_novelty"]
    assert discovery.unreached(Node, [Node("iq", {"novel": "yes"})]) == []


def test_excuses_are_needed() -> None:
    found = {parser.name.rpartition(".")[0] for parser in discovery.parsers()}
    assert not found & discovery.OTHERWISE.keys() - {"codec"}
