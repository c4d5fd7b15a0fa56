"""Some troubles of the database, and whether the lane would notice; all are `make torture`."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

from sitpayd.storage.records import RowState
from tests.torture.crash_play import Row, Witnessed
from tests.torture.full_disk import Answer, Case, Suffered, judge
from tests.torture.trouble import Kind, Trouble
from tests.torture.verdict import Broken

SENT = Row("3EB0AA", RowState.SENT)
WAITING = Row("3EB0BB", RowState.ACCEPTED)
SUFFERED = Suffered(
    refused=("arm", "accept"),
    was_ready=False,
    answers=(
        Answer("before", 200, None),
        Answer("send-0", 202, None),
        Answer("send-1", 503, "storage_full"),
    ),
    left=frozenset({"3EB0AA"}),
    rows=(SENT, WAITING),
    final=tuple(Answer(key, 200, None) for key in ("before", "send-0", "send-1")),
    final_rows=(SENT, replace(WAITING, state=RowState.SENT), Row("3EB0CC", RowState.SENT)),
    recovered_s=1.0,
)
SEEN = Witnessed(("before x", "send-0 x", "send-1 x"), {"3EB0AA": [b"1"]}, ())
FINE = Case(Trouble(Kind.LOG, 3), SUFFERED, SEEN, ())


def broken(**changes: object) -> list[Broken]:
    suffered = replace(SUFFERED, **changes)  # type: ignore[arg-type]  # names of Suffered
    return [finding.broken for finding in judge(replace(FINE, suffered=suffered))]


def test_a_refused_request_that_is_repeated_later_is_fine() -> None:
    assert judge(FINE) == []


def test_a_stanza_that_leaves_before_it_is_armed_is_found() -> None:
    assert broken(left=frozenset({"3EB0AA", "3EB0BB"})) == [Broken.REENCRYPTED]


def test_a_row_behind_a_refusal_is_found() -> None:
    assert broken(rows=(SENT, WAITING, WAITING)) == [Broken.LOST]


def test_a_row_given_up_for_a_full_disk_is_found() -> None:
    assert broken(rows=(SENT, replace(WAITING, state=RowState.FAILED))) == [Broken.UNSETTLED]


def test_a_daemon_that_calls_itself_ready_is_found() -> None:
    assert broken(was_ready=True) == [Broken.REFUSED]


def test_an_answer_that_nothing_here_deserves_is_found() -> None:
    answers = (*SUFFERED.answers[:2], Answer("send-1", 500, "internal"))
    assert Broken.REFUSED in broken(answers=answers)


def test_two_rows_for_one_key_are_found() -> None:
    assert broken(final_rows=(*SUFFERED.final_rows, SENT)) == [Broken.SPLIT]


def test_a_message_that_is_not_shown_once_is_found() -> None:
    for shown, expected in ((SEEN.shown[1:], Broken.LOST), (SEEN.shown * 2, Broken.TWICE)):
        case = replace(FINE, witnessed=replace(SEEN, shown=shown))
        assert {finding.broken for finding in judge(case)} == {expected}


def test_a_commit_that_was_done_must_not_be_refused() -> None:
    assert Broken.UNSETTLED in {
        finding.broken for finding in judge(replace(FINE, trouble=Trouble(Kind.UNANSWERED, 1)))
    }


def test_a_database_in_trouble_breaks_no_promise() -> None:
    lane = [sys.executable, "-m", "tests.torture.full_disk", "--cases=4", "--seed=1"]
    done = subprocess.run(lane, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 cases in" in done.stdout
