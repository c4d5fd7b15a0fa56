from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

import sitpayd.actors
from sitpayd.actors import failures
from sitpayd.actors.explanations import REASONS, STATUSES, explain
from sitpayd.actors.failures import Verdict
from sitpayd.actors.phase import Phase
from sitpayd.actors.status import NO_PROOF, DeviceStatus
from tests.actors.builders import NOON

ACTORS = Path(inspect.getfile(sitpayd.actors)).parent
# Set by the procedure for backups in docs/operators.md.
SET_BY_HAND = {"restored"}
# Where a call that changes a status has its reason.
KEPT_AS = (".reason", ".lapsed")
REASON_AT = {"Verdict": 1, "_enter": 1, "_dial": 0, "DeviceStatus": 3}

SOURCES = [
    path.read_text("utf-8") for path in ACTORS.glob("*.py") if path.name != "explanations.py"
]
NAMED = dict(re.findall(r'(?m)^([A-Z_]+): Final = "([a-z_]+)"$', "\n".join(SOURCES)))


def reasons_in(source: str) -> Iterator[str]:
    """Every word that code gives as the reason of a status."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            at = REASON_AT.get(name)
            if at is not None and len(node.args) > at:
                yield from words(node.args[at])
            if name in REASON_AT:
                yield from (w for k in node.keywords if k.arg == "reason" for w in words(k.value))
        elif isinstance(node, ast.Assign) and is_kept_as_reason(node):
            yield from words(node.value)


def is_kept_as_reason(node: ast.Assign) -> bool:
    return any(ast.unparse(target).endswith(KEPT_AS) for target in node.targets)


def words(value: ast.AST) -> Iterator[str]:
    """The strings in an expression, also those that have a name."""
    for node in ast.walk(value):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.Name) and node.id in NAMED:
            yield NAMED[node.id]


def given_reasons() -> set[str]:
    found = {reason for source in SOURCES for reason in reasons_in(source)}
    rows = [value for value in vars(failures).values() if isinstance(value, dict)]
    verdicts = [verdict for row in rows for verdict in row.values() if isinstance(verdict, Verdict)]
    found |= set(failures.BAN_REASONS.values())
    return found | {verdict.reason for verdict in verdicts}


def test_every_reason_the_code_can_give_is_explained() -> None:
    reasons = given_reasons()

    # One of each place, so that the search itself is known to find something.
    places = {"crashing", "passkey", "storage", "network", "removed", "qr_expired", NO_PROOF}
    assert places <= reasons
    assert reasons - REASONS.keys() == set()


def test_no_explanation_is_for_a_reason_that_nobody_gives() -> None:
    said = {word for source in SOURCES for word in words(ast.parse(source))}

    assert REASONS.keys() - said - SET_BY_HAND == set()


def test_every_status_is_explained() -> None:
    assert STATUSES.keys() == set(Phase)


@pytest.mark.parametrize("status", list(Phase))
@pytest.mark.parametrize("reason", [None, "unheard_of", *REASONS])
@pytest.mark.parametrize("after_s", [None, -1, 90])
def test_explanation_is_whole_sentences(
    status: Phase, reason: str | None, after_s: float | None
) -> None:
    until = None if after_s is None else NOON + timedelta(seconds=after_s)

    told = explain(status, reason, until, NOON)

    for sentence in (told.cause, told.next, told.advice):
        assert sentence is None or re.fullmatch(r"[A-Z][^{}]*\.", sentence)


@pytest.mark.parametrize(
    ("left", "said"),
    [
        (timedelta(seconds=-5), "It dials again any moment."),
        (timedelta(seconds=7), "It dials again at 12:00:07 UTC, in 7 s."),
        (timedelta(seconds=119), "It dials again at 12:01:59 UTC, in 119 s."),
        (timedelta(minutes=5), "It dials again at 12:05:00 UTC, in 5 min."),
        (timedelta(hours=3), "It dials again at 15:00:00 UTC, in 3 h."),
    ],
)
def test_next_dial_is_told_by_its_time(left: timedelta, said: str) -> None:
    assert explain("waiting", "network", NOON + left, NOON).next == said


def test_end_of_a_ban_is_told_by_its_day() -> None:
    told = explain("banned", "temporary_ban", NOON + timedelta(days=3), NOON)

    assert told.next.endswith("UTC, in 3 days.")
    assert f"{NOON + timedelta(days=3):%Y-%m-%d}" in told.next


def test_same_reason_asks_for_nothing_while_the_device_comes_back_by_itself() -> None:
    waiting = explain("waiting", "connection_closed", None, NOON)
    resting = explain("action_required", "http_refused", None, NOON)

    assert waiting.advice is None
    assert resting.advice is not None
    assert "resume" in resting.advice


def test_status_of_the_board_is_explained_as_it_is() -> None:
    known = DeviceStatus("wa_1", 1, "faulted", "crashing", NOON, NOON + timedelta(seconds=30))

    assert "in 30 s" in explain(known.status, known.reason, known.until, NOON).next
