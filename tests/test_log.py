from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest
import structlog

from sitpayd import log

TOKEN = "dt_" + "9aZ" * 16


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What is logged as text."""
    yield from _configured("text")


@pytest.fixture
def json_lines() -> Iterator[io.StringIO]:
    """What is logged as JSON."""
    yield from _configured("json")


def _configured(log_format: log.LogFormat) -> Iterator[io.StringIO]:
    stream = io.StringIO()
    hook = sys.excepthook
    log.configure("info", log_format, stream)
    yield stream
    log.configure("info", "text")
    sys.excepthook = hook


def test_event_is_one_line_of_keys_and_values(lines: io.StringIO) -> None:
    log.get_logger().info(
        "device.connected", session_id="wa_1", generation=2, seconds=0.25, ok=True
    )

    text = lines.getvalue()
    assert text.endswith(
        "Z level=info event=device.connected session_id=wa_1 generation=2 seconds=0.25 ok=true\n"
    )
    assert text.startswith("at=20")


def test_fields_without_a_value_are_left_out(lines: io.StringIO) -> None:
    log.get_logger().info("device.waiting", reason=None)

    assert "reason" not in lines.getvalue()


def test_json_is_one_object_a_line(json_lines: io.StringIO) -> None:
    log.get_logger().warning("device.lost", session_id="wa_1", label='a "b"\n')

    event = json.loads(json_lines.getvalue())
    assert event["level"] == "warning"
    assert event["event"] == "device.lost"
    assert event["label"] == 'a "b"\n'


@pytest.mark.parametrize(
    "value",
    [
        "a\nlevel=info event=forged",
        "a\rb",
        "\x1b[31mred",
        "\x9b31m",
        "a\u2028b",
        "\u202eb",
        "\ud800",
    ],
)
@pytest.mark.parametrize("stream", ["lines", "json_lines"])
def test_value_cannot_forge_a_line_or_reach_the_terminal(
    value: str, stream: str, request: pytest.FixtureRequest
) -> None:
    written: io.StringIO = request.getfixturevalue(stream)

    log.get_logger().info("partner.created", name=value)

    text = written.getvalue()
    assert len(text.splitlines()) == 1
    assert text.rstrip("\n").isprintable()
    text.encode("utf-8")


def test_token_is_masked_in_values_tracebacks_and_foreign_loggers(lines: io.StringIO) -> None:
    try:
        raise RuntimeError(f"no device for {TOKEN}")
    except RuntimeError:
        log.get_logger().exception("api.failed", path=f"/wa/{TOKEN}/send")
        logging.getLogger("hypercorn.error").exception("Error for %s", TOKEN)
    sys.excepthook(ValueError, ValueError(TOKEN), None)

    text = lines.getvalue()
    assert text.count("\n") == 3
    assert TOKEN[3:] not in text
    assert text.count("dt_***") == 5


def test_exception_is_an_error_with_its_traceback_on_one_line(lines: io.StringIO) -> None:
    try:
        raise RuntimeError("it broke")
    except RuntimeError as error:
        log.get_logger().error("actor.crashed", exc_info=error)

    text = lines.getvalue()
    assert text.count("\n") == 1
    assert "level=error event=actor.crashed" in text
    assert r"\nRuntimeError: it broke" in text


def test_foreign_loggers_go_the_same_way(json_lines: io.StringIO) -> None:
    logging.getLogger("alembic").warning("revision %s", "0001")

    event = json.loads(json_lines.getvalue())
    assert event["event"] == "python.log"
    assert (event["level"], event["logger"]) == ("warning", "alembic")
    assert event["message"] == "revision 0001"


def test_context_of_the_request_is_on_every_line(lines: io.StringIO) -> None:
    with structlog.contextvars.bound_contextvars(request_id="req_1"):
        log.get_logger().info("outbox.accepted")

    assert "request_id=req_1" in lines.getvalue()


def test_public_ids_are_not_masked() -> None:
    assert log.mask("wa_" + "a" * 20 + " msg_" + "b" * 22) == "wa_" + "a" * 20 + " msg_" + "b" * 22


def test_level_filters_and_interrupt_stays_an_interrupt() -> None:
    program = (
        "from sitpayd import log\n"
        "log.configure('warning', 'text')\n"
        "log.get_logger().info('unseen')\n"
        "log.get_logger().warning('seen')\n"
        "raise KeyboardInterrupt\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert "event=seen" in done.stderr
    assert "unseen" not in done.stderr
    assert "\nKeyboardInterrupt\n" in done.stderr
