from __future__ import annotations

from datetime import timedelta

from sitpayd.terminal.device import device_page
from sitpayd.terminal.screen import cells
from sitpayd.terminal.views import DeviceHistory, Json
from tests.terminal.builders import NOW, plain, told_history


def event(seconds_ago: float, text: str) -> Json:
    at = NOW - timedelta(seconds=seconds_ago)
    return {"at": at.isoformat(), "kind": "lost", "detail": None, "text": text}


def page(told: Json, width: int = 100) -> list[str]:
    return device_page(DeviceHistory.parse(told), NOW, width, plain())


def banned(*events: Json) -> Json:
    told = told_history(
        *events,
        status="banned",
        reason="temporary_ban",
        since=(NOW - timedelta(minutes=5)).isoformat(),
        until=(NOW + timedelta(days=1)).isoformat(),
    )
    return told | {
        "explanation": {
            "cause": "WhatsApp has banned the account for a time.",
            "next": "The ban is said to end tomorrow.",
            "advice": "The account's owner looks at the phone.",
        }
    }


def test_page_answers_why_since_when_and_what_next() -> None:
    assert page(banned(event(300, "It was lost."), event(86_400, "It logged in."))) == [
        "wa_7Hq2mXy0CpWZ4tR8kVbN",
        "device   John iPhone, of ABC Reseller, number ending in 3210",
        "status   banned, temporary_ban, for 5m, since 11:55:00 UTC",
        "until    2026-11-24 12:00:00 UTC",
        "proof    WhatsApp answered a ping 12s ago, 11:59:48 UTC",
        "cause    WhatsApp has banned the account for a time.",
        "next     The ban is said to end tomorrow.",
        "do       The account's owner looks at the phone.",
        "",
        "history, the latest last; times in UTC",
        "2026-11-22 12:00:00  It logged in.",
        "11:55:00             It was lost.",
    ]


def test_device_that_needs_nobody_has_nothing_to_do() -> None:
    assert not [line for line in page(told_history()) if line.startswith("do")]


def test_reason_that_says_no_more_than_the_status_is_not_repeated() -> None:
    told = page(told_history(status="replaced", reason="replaced"))

    assert told[2].startswith("status   replaced for 3h")


def test_missing_proof_is_told_as_missing() -> None:
    told = page(told_history(verified_at=None, evidence=None))

    assert "proof    none since the daemon started" in told


def test_page_fits_a_narrow_terminal() -> None:
    told = banned(event(1, "A sentence that is a good deal longer than a narrow terminal is wide."))

    assert max(map(cells, page(told, 60))) <= 60


def test_page_lets_nobody_draw() -> None:
    """T-28."""
    told = told_history(
        event(1, "\x1b]0;title\x07"), device_name="\x1b[1A", partner_name="\u202e", reason="\r"
    )
    told["explanation"] = {"cause": "\x1b", "next": "\x9b", "advice": "\x07"}

    text = "\n".join(page(told))

    assert not set(text) & {"\x1b", "\x9b", "\x07", "\r", "\u202e"}
