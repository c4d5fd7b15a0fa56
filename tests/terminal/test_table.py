from __future__ import annotations

import re
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sitpayd.actors.phase import Phase
from sitpayd.terminal.screen import Paint, cells
from sitpayd.terminal.table import device_lines, summary
from sitpayd.terminal.views import ORDER
from tests.terminal.builders import NOW, FakeTerminal, a_device, plain

BANNED = a_device(
    session_id="wa_0Kq2mXy0CpWZ4tR8kVbN",
    status="banned",
    reason="tmp_ban",
    since=(NOW - timedelta(minutes=5)).isoformat(),
)
# What the narrowest table holds: session id, the longest status, a cut reason, two ages.
NARROWEST = 23 + 15 + 12 + 5 + 5 + 4 * 2


def test_table_is_aligned_and_tells_each_device_in_a_line() -> None:
    lines = device_lines([BANNED, a_device()], NOW, None, plain())

    assert lines == [
        "SESSION ID               PARTNER       NAME         STATUS     REASON   SINCE  PROOF",
        "wa_0Kq2mXy0CpWZ4tR8kVbN  ABC Reseller  John iPhone  banned     tmp_ban  5m     12s",
        "wa_7Hq2mXy0CpWZ4tR8kVbN  ABC Reseller  John iPhone  connected  -        3h     12s",
    ]


def test_eighty_columns_are_enough_for_what_matters() -> None:
    longest = a_device(status="action_required", reason="unanswered_stanza")
    lines = device_lines([BANNED, longest], NOW, 80, plain())

    assert max(map(cells, lines)) <= 80
    assert "wa_7Hq2mXy0CpWZ4tR8kVbN" in lines[2]
    assert "action_required" in lines[2]


@given(
    st.lists(
        st.tuples(st.text(max_size=30), st.text(max_size=30), st.sampled_from(ORDER)), min_size=1
    ),
    st.integers(min_value=NARROWEST, max_value=200),
)
def test_table_is_never_wider_than_its_terminal(
    rows: list[tuple[str, str, str]], width: int
) -> None:
    devices = [a_device(device_name=n, partner_name=p, status=s) for n, p, s in rows]

    assert max(map(cells, device_lines(devices, NOW, width, plain()))) <= width


def test_partner_goes_before_the_name() -> None:
    wide = device_lines([BANNED], NOW, 70, plain())[0]
    narrow = device_lines([BANNED], NOW, 55, plain())[0]

    assert ("PARTNER" in wide, "NAME" in wide) == (False, True)
    assert ("PARTNER" in narrow, "NAME" in narrow) == (False, False)


def test_colour_says_nothing_that_words_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    painted = device_lines([BANNED, a_device()], NOW, 100, Paint(FakeTerminal()))

    assert [re.sub("\x1b\\[[0-9]*m", "", line) for line in painted] == device_lines(
        [BANNED, a_device()], NOW, 100, plain()
    )
    assert "\x1b[31mbanned\x1b[0m" in painted[1]


def test_names_of_partners_cannot_draw() -> None:
    """T-28."""
    evil = a_device(device_name="\x1b[2J\x1b[H", partner_name="a\nb", reason="\u202e")

    text = "\n".join(device_lines([evil], NOW, None, plain()))

    assert "\x1b" not in text
    assert "\u202e" not in text
    assert text.count("\n") == 1


def test_trouble_comes_first_and_of_the_same_trouble_the_latest() -> None:
    old = a_device(session_id="wa_old", status="waiting", since=NOW.replace(hour=1).isoformat())
    new = a_device(session_id="wa_new", status="waiting", since=NOW.replace(hour=2).isoformat())
    unknown = a_device(session_id="wa_odd", status="of_another_version")
    shown = sorted([a_device(), old, new, BANNED, unknown], key=lambda device: device.rank)

    assert [device.status for device in shown[:2]] == ["of_another_version", "banned"]
    assert [device.session_id for device in shown[2:4]] == ["wa_new", "wa_old"]
    assert shown[-1].status == "connected"


def test_every_status_has_its_place() -> None:
    assert set(ORDER) == {phase.value for phase in Phase}


def test_summary_tells_trouble_first() -> None:
    assert summary({"connected": 10, "waiting": 2, "banned": 0}) == (
        "12 devices: 2 waiting, 10 connected"
    )
    assert summary({"connected": 1}) == "1 device: 1 connected"
    assert summary({}) == "no devices"
