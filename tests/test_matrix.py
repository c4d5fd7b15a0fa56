"""The interop page rests on tests that pass, and has no cell without a proof or a reason."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.matrix import (
    SENDS,
    SIDES,
    SIMULATOR,
    Client,
    Feature,
    Proof,
    Reason,
    Side,
    faults,
    page,
)

ROOT = Path(__file__).parent.parent
SENDER = Side(Client.BAILEYS, SENDS)
EVERYTHING = tuple(Feature)


def proof(feature: Feature, side: Side, *, has_daemon: bool = True) -> Proof:
    return Proof(feature, side, "peers/test_x.py::test_y", has_daemon)


def excused_but(feature: Feature, side: Side) -> list[Reason]:
    """Reasons for all cells but one."""
    others = tuple(other for other in SIDES if other != side)
    rows = tuple(row for row in Feature if row != feature)
    return [Reason("Never.", (feature,), others), Reason("Nowhere.", rows, SIDES)]


# --- what is wrong with a matrix ---


def test_cell_without_proof_and_reason_is_named() -> None:
    reasons = excused_but(Feature.TYPING, SENDER)

    assert faults([], reasons) == ["TYPING, Baileys sends: neither proved nor excused"]
    assert faults([proof(Feature.TYPING, SENDER)], reasons) == []


def test_reason_for_a_proved_cell_is_named() -> None:
    reasons = [Reason("Never.", EVERYTHING, SIDES)]

    assert faults([proof(Feature.TYPING, SIMULATOR)], reasons) == [
        "TYPING, simulator: there is a reason although it is proved"
    ]


def test_cell_with_two_reasons_is_named() -> None:
    reasons = [
        Reason("Never.", EVERYTHING, SIDES),
        Reason("Nowhere.", (Feature.TYPING,), (SENDER,)),
    ]

    assert faults([], reasons) == ["TYPING, Baileys sends: two reasons"]


# --- the page ---


def test_page_shows_proofs_reasons_and_tests() -> None:
    reasons = excused_but(Feature.TYPING, SENDER)

    with_daemon = page([proof(Feature.TYPING, SENDER)], reasons)
    alone = page([proof(Feature.TYPING, SENDER, has_daemon=False)], reasons)

    assert "| typing and recording | 1 | ✓ | 1 |" in with_daemon
    assert "| typing and recording | 1 | ○ | 1 |" in alone
    assert "| read marks | 2 | 2 | 2 |" in alone
    assert "\n1. Never.\n2. Nowhere.\n" in alone
    assert "- typing and recording\n  - `peers/test_x.py::test_y`: Baileys sends\n" in alone


# --- from a run ---

TESTS = """
import pytest
from tests.support.matrix import RECEIVES, SENDS, SIDES, Client, Feature, Reason, by, proves
from tests.support import matrix

matrix.faults.__defaults__ = ([],)
matrix.SIDES = matrix.SIDES[:3]
pytestmark = [proves(feature) for feature in Feature]

@pytest.fixture(params=[pytest.param(1, marks=by(Client.BAILEYS))])
def start(): ...

def other(function):
    for feature in Feature:
        function = proves(feature, SENDS, RECEIVES)(function)
    return function

@other
def test_with_a_client(start): ...

def test_alone():
    OUTCOME
"""


def run(folder: Path, outcome: str, *arguments: str) -> tuple[int, str, Path]:
    """Run tests that claim every cell; the status, what was said, and the page."""
    path = folder / "test_it.py"
    path.write_text(TESTS.replace("OUTCOME", outcome))
    written = folder / "page.md"
    command = [sys.executable, "-m", "pytest", "-p", "tests.support.proofs"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""}
    done = subprocess.run(
        [*command, "--matrix", str(written), *arguments, str(path)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, written


def test_page_is_written_when_all_have_passed(tmp_path: Path) -> None:
    status, said, written = run(tmp_path, "pass")

    assert status == 0, said
    assert "test_it.py::test_with_a_client`: " in written.read_text()


@pytest.mark.parametrize("outcome", ["raise ValueError", "pytest.skip('no Node')"])
def test_page_is_not_written_where_a_proof_failed_or_was_skipped(
    tmp_path: Path, outcome: str
) -> None:
    status, said, written = run(tmp_path, outcome)

    assert status == pytest.ExitCode.TESTS_FAILED
    assert "matrix: test_it.py::test_alone has not passed" in said
    assert "test_with_a_client[" not in said
    assert not written.exists()


def test_page_is_not_written_where_a_proof_was_left_out(tmp_path: Path) -> None:
    status, said, written = run(tmp_path, "pass", "-k", "client")

    assert status == pytest.ExitCode.TESTS_FAILED
    assert "matrix: test_it.py::test_alone has not passed" in said
    assert not written.exists()


# --- our page ---


def test_interop_page_is_what_its_tests_claim(tmp_path: Path) -> None:
    written = tmp_path / "interop.md"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-qq", "--matrix", str(written)],
        cwd=ROOT,
        env={**os.environ, "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, [line for line in done.stdout.splitlines() if "matrix:" in line]
    assert (ROOT / "docs" / "interop.md").read_text() == written.read_text(), "make matrix"
