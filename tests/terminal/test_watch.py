from __future__ import annotations

import pytest

from sitpayd.terminal.screen import Colour, cells
from sitpayd.terminal.views import AnswerError
from sitpayd.terminal.wanted import Wanted
from sitpayd.terminal.watch import Board, watch_lines
from tests.terminal.builders import NOW, a_device, plain, told_device

LIVE = (Colour.GOOD, "live from http://127.0.0.1:8080")
LOST = (Colour.BAD, "LOST http://127.0.0.1:8080 12s ago: it is silent; trying again. What was:")


def board(wanted: Wanted | None = None) -> Board:
    """A board after its first message: one connected device."""
    made = Board(wanted or Wanted())
    made.take({"type": "snapshot", "cursor": "e-1", "seq": 1, "devices": [told_device()]})
    return made


def ids(board: Board) -> list[str]:
    return [device.session_id for device in board.devices]


def test_changes_are_laid_over_the_snapshot() -> None:
    seen = board()
    changed = told_device(session_id="wa_b", status="waiting", reason="network")
    seen.take({"type": "status", "cursor": "e-2", "seq": 2, "device": changed})
    seen.take({"type": "heartbeat", "cursor": "e-2", "at": NOW.isoformat()})

    assert [device.status for device in seen.devices] == ["waiting", "connected"]
    assert seen.cursor == "e-2"


@pytest.mark.parametrize("kind", ["removed", "left"])
def test_device_that_is_gone_is_not_shown(kind: str) -> None:
    seen = board()
    seen.take({"type": kind, "cursor": "e-2", "seq": 2, "session_id": told_device()["session_id"]})

    assert seen.devices == []


def test_proof_is_renewed_for_who_is_still_there() -> None:
    seen = board()
    seen.renew(a_device(verified_at=NOW.isoformat()))
    seen.renew(a_device(session_id="wa_gone"))

    assert [device.verified_at for device in seen.devices] == [NOW]


def test_new_snapshot_takes_the_place_of_all() -> None:
    seen = board()
    seen.take({"type": "resync"})
    seen.take({"type": "snapshot", "cursor": "f-9", "devices": [told_device(session_id="wa_b")]})

    assert (ids(seen), seen.cursor) == (["wa_b"], "f-9")


def test_snapshot_in_parts_is_shown_when_it_is_whole() -> None:
    seen = board()
    first = {"cursor": None, "more": True, "devices": [told_device(session_id="wa_b")]}
    last = {"cursor": "f-9", "more": False, "devices": [told_device(session_id="wa_c")]}
    seen.take({"type": "snapshot", **first})
    before = ids(seen), seen.cursor
    seen.take({"type": "more", **last})

    assert before == ([told_device()["session_id"]], "e-1")
    assert (ids(seen), seen.cursor) == (["wa_b", "wa_c"], "f-9")


def test_feed_of_another_shape_is_refused() -> None:
    with pytest.raises(AnswerError):
        board().take({"type": "status", "device": {"session_id": "wa_b"}})


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [
        (Wanted(), True),
        (Wanted(partner="3"), True),
        (Wanted(partner="4"), False),
        (Wanted(partner="abc"), True),
        (Wanted(partner="xyz"), False),
        (Wanted(search="IPHONE"), True),
        (Wanted(search="7Hq2"), True),
        (Wanted(search="reseller"), True),
        (Wanted(search="3210"), True),
        (Wanted(search="210"), False),
        (Wanted(search="android"), False),
    ],
)
def test_only_what_was_asked_for_is_shown(wanted: Wanted, shown: bool) -> None:
    assert bool(board(wanted).devices) is shown


def test_partner_by_name_is_not_asked_of_the_daemon() -> None:
    assert Wanted(partner="abc", status="waiting,banned", search="x").query == {
        "status": "waiting,banned",
        "q": "x",
    }
    assert Wanted(partner="3").query == {"partner": "3"}


def test_screen_tells_first_that_the_feed_is_lost() -> None:
    lines = watch_lines([a_device()], NOW, 100, 24, LOST, plain())

    assert lines[0].startswith("LOST http://127.0.0.1:8080 12s ago: it is silent")
    assert "1 device: 1 connected" in lines


@pytest.mark.parametrize("height", [6, 10, 24, 50])
@pytest.mark.parametrize("count", [0, 1, 19, 200])
def test_screen_is_never_scrolled(count: int, height: int) -> None:
    devices = [a_device(session_id=f"wa_{number:020}") for number in range(count)]
    lines = watch_lines(devices, NOW, 80, height, LIVE, plain())

    assert len(lines) <= height
    assert max(map(cells, lines)) <= 80


def test_what_does_not_fit_is_counted() -> None:
    devices = [a_device(session_id=f"wa_{number:020}") for number in range(50)]
    lines = watch_lines(devices, NOW, 80, 15, LIVE, plain())

    shown = sum(line.startswith("wa_") for line in lines)
    assert lines[-1].startswith(f"and {50 - shown} more")
    assert lines[-1].endswith("Ctrl-C leaves")
