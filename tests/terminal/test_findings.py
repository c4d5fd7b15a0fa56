from __future__ import annotations

from sitpayd.terminal.findings import fail, finding_lines, ok, verdict, warn
from sitpayd.terminal.screen import cells
from tests.terminal.builders import plain


def test_state_stands_first_and_advice_below() -> None:
    finding = fail("database", "it is damaged", "restore a backup")

    assert finding_lines(finding, 80, plain()) == [
        "fail  database       it is damaged",
        "                     > restore a backup",
    ]


def test_details_follow_what_was_found() -> None:
    finding = ok("configuration", "all defaults", ["listen = 127.0.0.1:1 (SITPAYD_LISTEN)"])

    assert finding_lines(finding, 80, plain())[1:] == [
        "                     listen = 127.0.0.1:1 (SITPAYD_LISTEN)"
    ]


def test_long_findings_are_broken_into_lines() -> None:
    lines = finding_lines(warn("secret", "word " * 40, "advice " * 40), 80, plain())

    assert max(map(cells, lines)) <= 80


def test_answer_of_a_server_cannot_draw() -> None:
    """T-28."""
    finding = fail("daemon", "it said \x1b[2J", "do\r\nthis")

    assert not set("".join(finding_lines(finding, 80, plain()))) & {"\x1b", "\r", "\n"}


def test_verdict_counts() -> None:
    assert verdict([ok("a", "x"), ok("b", "x"), warn("c", "x", "y")]) == "2 ok, 1 warn, 0 fail"
