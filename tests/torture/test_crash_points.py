"""A few of the crash points, and whether the lane would notice; all of them are `make torture`."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace

from sitpayd.storage.records import RowState
from tests.torture.crash_play import TEXT, Finished, Observed, Row, Witnessed
from tests.torture.crash_points import draw, judge
from tests.torture.death import ANY, Place, Target
from tests.torture.verdict import Broken

ID = "3EB0AA"
ROW = Row(ID, RowState.SENT)
HERE = Place("storage/outbox.py", 1, "arm", 2, 3)
SEEN = Witnessed((TEXT,), {ID: [b"stanza", b"stanza"]}, ())
DONE = Finished((ROW,), 200, ID, (ROW,))
FINE = Observed(Target(HERE, 0), None, DONE, SEEN, ())


def broken(seen: Observed) -> list[Broken]:
    return [finding.broken for finding in judge(seen)]


def test_a_repetition_of_the_same_bytes_is_fine() -> None:
    assert judge(FINE) == []


def test_a_message_that_nobody_sees_is_lost() -> None:
    assert broken(replace(FINE, witnessed=replace(SEEN, shown=()))) == [Broken.LOST]


def test_a_message_shown_twice_is_found() -> None:
    assert broken(replace(FINE, witnessed=replace(SEEN, shown=(TEXT, TEXT)))) == [Broken.TWICE]


def test_other_bytes_under_the_same_id_are_found() -> None:
    taken = {ID: [b"stanza", b"another"]}
    assert broken(replace(FINE, witnessed=replace(SEEN, taken=taken))) == [Broken.REENCRYPTED]


def test_a_second_id_on_the_wire_is_found() -> None:
    taken = {ID: [b"stanza"], "3EB0BB": [b"another"]}
    assert broken(replace(FINE, witnessed=replace(SEEN, taken=taken))) == [Broken.TWICE]


def test_a_reused_counter_is_found() -> None:
    violations = ("signal: message 1: to 2: a ratchet counter was used for two messages",)
    seen = replace(FINE, witnessed=replace(SEEN, violations=violations))
    assert broken(seen) == [Broken.REUSED]


def test_a_row_without_end_is_found() -> None:
    stuck = Row(ID, RowState.ARMED)
    seen = replace(FINE, finished=replace(DONE, found=(stuck,), rows=(stuck,)))
    assert set(broken(seen)) == {Broken.UNSETTLED}


def test_an_answer_without_a_row_is_found() -> None:
    seen = replace(FINE, answer=200, finished=replace(DONE, found=()))
    assert broken(seen) == [Broken.LOST]


def test_a_second_row_for_one_key_is_found() -> None:
    rows = (ROW, Row("3EB0BB", RowState.SENT))
    assert broken(replace(FINE, finished=replace(DONE, rows=rows))) == [Broken.TWICE]


def test_an_heir_that_does_not_finish_is_found() -> None:
    assert broken(replace(FINE, finished=None)) == [Broken.DIED]


def test_every_bytecode_comes_before_a_second_one_of_the_same() -> None:
    way = [replace(HERE, offset=offset, stage=stage) for stage in (0, 1) for offset in (0, 2, 2)]
    points = draw(way, seed=1)
    assert {replace(t.place, stage=ANY) for t in points.every} == {
        replace(HERE, offset=offset, stage=ANY) for offset in (0, 2)
    }
    assert len(points.staged) == 2
    assert len({*points.every, *points.staged, *points.rest}) == len(way)


def test_a_death_anywhere_on_the_way_loses_nothing() -> None:
    lane = [sys.executable, "-m", "tests.torture.crash_points", "--points=4", "--seed=4"]
    done = subprocess.run(lane, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    # A child may take another way, as the times of real threads and sockets go.
    told = re.search(r"(\d) died there, (\d) never came there", done.stdout)
    assert told is not None, done.stdout
    died, missed = map(int, told.groups())
    assert died + missed == 4
    assert died >= 2
