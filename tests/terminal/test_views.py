from __future__ import annotations

import pytest

from sitpayd.terminal.views import AnswerError, DeviceHistory, DeviceView, Json
from tests.terminal.builders import NOW, told_device, told_history


@pytest.mark.parametrize(
    "told",
    [
        None,
        [],
        {},
        told_device(session_id=7),
        told_device(status=None),
        told_device(since="yesterday"),
        told_device(since="2026-11-23T12:00:00"),
        told_device(partner="3"),
        told_device(evidence=[]),
    ],
)
def test_answer_of_another_shape_is_refused_in_words(told: object) -> None:
    with pytest.raises(AnswerError, match="the daemon's answer"):
        DeviceView.parse(told)


def test_history_is_turned_to_the_latest_last() -> None:
    newest: Json = {"at": NOW.isoformat(), "kind": "lost", "detail": None, "text": "It was lost."}
    oldest: Json = {"at": NOW.isoformat(), "kind": "login", "detail": None, "text": "It logged in."}

    history = DeviceHistory.parse(told_history(newest, oldest))

    assert [event.kind for event in history.events] == ["login", "lost"]
