from __future__ import annotations

import re
import tracemalloc
from datetime import UTC, datetime

import pytest

from sitpayd.actors.recorder import EVENTS, MAX_DETAIL_LEN, FlightRecorder, Noted

# Bytes for each of ten thousand devices.
MAX_MEMORY = 4096


def told(recorder: FlightRecorder) -> list[tuple[str, str | None]]:
    return [(event.kind.value, event.detail) for event in recorder.events()]


def test_new_recorder_has_nothing_to_tell() -> None:
    assert FlightRecorder().events() == []


def test_newest_is_told_first_with_its_time() -> None:
    recorder = FlightRecorder()
    before = datetime.now(UTC)
    recorder.note(Noted.DIAL)
    recorder.note(Noted.LOST, "network")

    assert told(recorder) == [("lost", "network"), ("dial", None)]
    assert all(before <= event.at <= datetime.now(UTC) for event in recorder.events())


@pytest.mark.parametrize("count", [EVENTS - 1, EVENTS, EVENTS + 1, 5 * EVENTS + 7])
def test_oldest_makes_room(count: int) -> None:
    recorder = FlightRecorder()
    noted = [(list(Noted)[number % 7], str(number)) for number in range(count)]
    for kind, detail in noted:
        recorder.note(kind, detail)

    assert told(recorder) == noted[-EVENTS:][::-1]


def test_detail_is_bounded() -> None:
    recorder = FlightRecorder()
    recorder.note(Noted.CRASH, "E" * 1000)

    assert told(recorder) == [("crash", "E" * MAX_DETAIL_LEN)]


@pytest.mark.parametrize("kind", list(Noted))
@pytest.mark.parametrize("detail", [None, "5"])
def test_every_event_has_a_sentence(kind: Noted, detail: str | None) -> None:
    recorder = FlightRecorder()
    recorder.note(kind, detail)

    (event,) = recorder.events()
    assert re.fullmatch(r"[A-Z][^{}]*\.|5 [^{}]*\.", event.text)
    assert (detail is None) == ("5" not in event.text)


def test_full_recorders_of_many_devices_are_small() -> None:
    count = 200
    tracemalloc.start()
    try:
        recorders = [FlightRecorder() for _ in range(count)]
        for recorder in recorders:
            for number in range(2 * EVENTS):
                # Built anew each time, as the machine's words are.
                recorder.note(Noted.PHASE, f"waiting: {number % 7}")
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert taken / count < MAX_MEMORY
