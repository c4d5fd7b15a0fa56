from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sitpayd.actors.changes import Change
from sitpayd.actors.phase import Phase
from sitpayd.actors.status import (
    CHECK_EACH_S,
    NO_PROOF,
    PROOF_HOLDS_S,
    DeviceStatus,
    Evidence,
    Proof,
    StatusBoard,
    judged,
)
from tests.actors.builders import NOON

LATER = NOON + timedelta(minutes=1)
PAIRING = DeviceStatus("wa_1", 7, "pairing", None, NOON)
CONNECTED = replace(PAIRING, status="connected", since=LATER)
OTHER = DeviceStatus("wa_2", 8, "unpaired", "qr_expired", NOON)


def test_latest_status_is_found() -> None:
    board = StatusBoard()
    board.publish(PAIRING)
    board.publish(CONNECTED)
    assert board.get("wa_1") == CONNECTED
    assert board.get("wa_2") is None


def test_devices_of_a_partner_are_counted_by_status() -> None:
    board = StatusBoard()
    for status in (PAIRING, replace(PAIRING, session_id="wa_3"), OTHER):
        board.publish(status)
    assert board.count(7) == {"pairing": 2}
    assert board.count(9) == {}


def test_change_is_announced_with_what_was_before() -> None:
    board = StatusBoard()
    board.publish(PAIRING)
    board.publish(CONNECTED)
    board.publish(OTHER)
    assert announced(board) == [
        Change(1, PAIRING, None),
        Change(2, CONNECTED, "pairing"),
        Change(3, OTHER, None),
    ]


@pytest.mark.parametrize("at", [NOON, LATER])
def test_same_status_again_is_no_change(at: datetime) -> None:
    board = StatusBoard()
    board.publish(PAIRING)
    board.publish(replace(PAIRING, since=at))
    assert len(announced(board)) == 1
    assert board.get("wa_1") == PAIRING


@pytest.mark.parametrize(
    "change",
    [replace(PAIRING, reason="qr_limit"), replace(PAIRING, until=LATER)],
    ids=["reason", "end"],
)
def test_other_reason_or_end_is_a_change(change: DeviceStatus) -> None:
    board = StatusBoard()
    board.publish(PAIRING)
    board.publish(change)
    assert announced(board)[1:] == [Change(2, change, "pairing")]


def test_removal_is_told_once() -> None:
    board = StatusBoard()
    board.publish(PAIRING)
    board.remove("wa_1", LATER)
    board.remove("wa_1", LATER)
    removed = DeviceStatus("wa_1", 7, "removed", None, LATER)
    assert announced(board)[1:] == [Change(2, removed, "pairing")]
    assert board.get("wa_1") is None
    assert board.page("", 10) == []
    assert board.counts() == {}


def announced(board: StatusBoard) -> list[Change]:
    return list(board.changes.after(0, 1000))


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["pairing", "waiting", None]))))
def test_counts_and_pages_are_those_of_the_devices_there_are(
    steps: list[tuple[int, str | None]],
) -> None:
    board, model = StatusBoard(), dict[str, str]()
    for number, status in steps:
        name = f"wa_{number}"
        if status is None:
            board.remove(name, LATER)
            model.pop(name, None)
        else:
            board.publish(DeviceStatus(name, number % 2, status, None, NOON))
            model[name] = status

    assert board.counts() == Counter(model.values())
    assert [known.session_id for known in board.page("", 100)] == sorted(model)
    for partner in (0, 1):
        theirs = [s for name, s in model.items() if int(name[-1]) % 2 == partner]
        assert board.count(partner) == Counter(theirs)


def test_watchers_are_counted_while_they_watch() -> None:
    board = StatusBoard()
    with board.subscribe(lambda change, coalesced: True):
        with board.subscribe(lambda change, coalesced: True):
            assert board.watchers == 2
        assert board.watchers == 1
    assert board.watchers == 0


# --- proof of life ---

LINKED = DeviceStatus("wa_1", 7, "connected", None, NOON)
AT = NOON + timedelta(seconds=100)


def test_proof_is_told_by_its_time_and_kind() -> None:
    told = judged(LINKED, Proof(40.0, Evidence.PONG), 110.0, AT)

    assert told == replace(LINKED, verified_at=AT - timedelta(seconds=70), evidence=Evidence.PONG)


def test_connected_is_not_said_without_fresh_proof() -> None:
    told = judged(LINKED, Proof(40.0, Evidence.PONG), 110.1, AT)

    assert (told.status, told.reason, told.evidence) == ("waiting", NO_PROOF, "pong")
    assert told.verified_at == AT - timedelta(seconds=70.1)
    # Doubted since the moment when the proof became too old.
    assert told.since == AT - timedelta(seconds=0.1)


def test_connected_is_not_said_without_any_proof() -> None:
    told = judged(LINKED, None, 110.0, AT)

    assert (told.status, told.reason) == ("waiting", NO_PROOF)
    assert (told.verified_at, told.evidence, told.since) == (None, None, NOON)


@given(st.sampled_from(list(Phase)), st.none() | st.floats(0, 200), st.floats(200, 400))
def test_only_connected_is_ever_doubted(phase: Phase, heard_at: float | None, now: float) -> None:
    known = replace(LINKED, status=phase.value)
    proof = None if heard_at is None else Proof(heard_at, Evidence.ACK)
    told = judged(known, proof, now, AT)

    fresh = heard_at is not None and now - heard_at <= PROOF_HOLDS_S
    assert (told.status == phase) == (phase is not Phase.CONNECTED or fresh)


def test_stale_proof_becomes_a_change_by_itself_before_it_is_too_old() -> None:
    board = StatusBoard()
    board.publish(LINKED)
    proof = Proof(0.0, Evidence.STANZA)
    board.check("wa_1", proof, PROOF_HOLDS_S - CHECK_EACH_S, AT)
    assert board.get("wa_1") == LINKED
    board.check("wa_1", proof, PROOF_HOLDS_S - CHECK_EACH_S + 0.1, AT)
    board.check("wa_1", proof, PROOF_HOLDS_S, AT)

    (change,) = announced(board)[1:]
    assert (change.device.status, change.device.reason) == ("waiting", NO_PROOF)
    assert board.counts() == {"waiting": 1}


def test_device_that_is_heard_again_is_what_it_was() -> None:
    board = StatusBoard()
    board.publish(LINKED)
    board.check("wa_1", Proof(0.0, Evidence.STANZA), 100.0, AT)
    board.check("wa_1", Proof(101.0, Evidence.STANZA), 102.0, AT)

    assert board.get("wa_1") == LINKED
    assert [change.device.status for change in announced(board)] == [
        "connected",
        "waiting",
        "connected",
    ]


def test_actor_that_says_something_else_ends_the_doubt() -> None:
    board = StatusBoard()
    board.publish(LINKED)
    board.check("wa_1", None, 100.0, AT)
    lost = replace(LINKED, status="waiting", reason="network", since=LATER)
    board.publish(lost)
    board.check("wa_1", Proof(100.0, Evidence.STANZA), 101.0, AT)

    assert board.get("wa_1") == lost


def test_removed_device_is_neither_doubted_nor_believed() -> None:
    board = StatusBoard()
    board.publish(LINKED)
    board.check("wa_1", None, 100.0, AT)
    board.remove("wa_1", LATER)
    board.check("wa_1", Proof(100.0, Evidence.STANZA), 101.0, AT)

    assert board.get("wa_1") is None
