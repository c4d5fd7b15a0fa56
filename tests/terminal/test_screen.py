from __future__ import annotations

import io
import unicodedata
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sitpayd.terminal.screen import Colour, Paint, age, cells, clean, fit, moment, pad, wrap
from tests.terminal.builders import NOW, FakeTerminal

WIDTHS = st.integers(min_value=1, max_value=60)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("John iPhone", "John iPhone"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("two\r\nlines", "two\\x0d\\x0alines"),
        ("\x9b31m", "\\x9b31m"),
        ("ab\u202edc", "ab\\u202edc"),
        ("\u2066x\u2069", "\\u2066x\\u2069"),
        ("line\u2028end", "line\\u2028end"),
        ("\ud800", "\\ud800"),
        ("क्‍ष", "क्‍ष"),
        ("José 手机 📱", "José 手机 📱"),
    ],
)
def test_what_a_terminal_would_act_on_is_written_out(text: str, shown: str) -> None:
    """T-28."""
    assert clean(text) == shown


@given(st.text())
def test_no_text_acts_on_a_terminal(text: str) -> None:
    """T-28."""
    acting = {"Cc", "Cs", "Zl", "Zp"}
    shown = clean(text)

    assert not [c for c in shown if unicodedata.category(c) in acting]
    assert not [c for c in shown if unicodedata.bidirectional(c) in {"RLO", "LRO", "RLE", "LRE"}]


@given(st.text(), WIDTHS)
def test_cut_text_fits(text: str, width: int) -> None:
    assert cells(fit(clean(text), width)) <= width


@given(st.text(), WIDTHS)
def test_padded_text_is_exactly_as_wide(text: str, width: int) -> None:
    assert cells(pad(clean(text), width)) == width


@given(st.text(alphabet="ab 手", max_size=80), WIDTHS)
def test_wrapping_loses_no_word(text: str, width: int) -> None:
    assert " ".join(wrap(text, width)) == text


def test_lines_are_broken_between_words() -> None:
    assert wrap("one two three", 8) == ["one two", "three"]


def test_wide_characters_take_two_columns() -> None:
    assert (cells("手机"), fit("手机手机", 5), pad("手", 4)) == (4, "手机…", "手  ")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (7199, "119m"),
        (7200, "2h"),
        (172_799, "47h"),
        (172_800, "2d"),
        (10**9, "999d"),
        (-5, "0s"),
    ],
)
def test_age_takes_four_columns(seconds: int, shown: str) -> None:
    assert age(NOW - timedelta(seconds=seconds), NOW) == shown


def test_what_never_was_has_no_age() -> None:
    assert age(None, NOW) == "-"


def test_moment_of_another_day_tells_the_day() -> None:
    assert moment(NOW, NOW) == "12:00:00"
    assert moment(NOW - timedelta(days=1), NOW) == "2026-11-22 12:00:00"


def test_colours_are_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)

    assert Paint(io.StringIO())(Colour.BAD, "banned") == "banned"
    assert Paint(FakeTerminal())(Colour.BAD, "banned") == "\x1b[31mbanned\x1b[0m"


@pytest.mark.parametrize(("variable", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colours_can_be_turned_off(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(variable, value)

    assert Paint(FakeTerminal())(Colour.BAD, "banned") == "banned"
