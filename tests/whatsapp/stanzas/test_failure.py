from __future__ import annotations

import pytest

from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas.failure import (
    ConnectFailure,
    StreamError,
    failure,
    parse_failure,
    parse_stream_error,
    stream_error,
)

from .wire import sent


@pytest.mark.parametrize(
    "value",
    [
        ConnectFailure(401, location="frc"),
        ConnectFailure(402, expire_s=3600, ban_code=101),
        ConnectFailure(403, text="This account is locked"),
        ConnectFailure(405, location="vll"),
    ],
)
def test_failure_crosses_the_wire(value: ConnectFailure) -> None:
    assert parse_failure(sent(failure(value))) == value


def test_failure_may_speak_to_a_person_in_its_header() -> None:
    node = Node("failure", {"reason": "403", "logout_message_header": "Log in again"})
    assert parse_failure(node) == ConnectFailure(403, "Log in again")


@pytest.mark.parametrize("attrs", [{}, {"reason": "soon"}, {"reason": "-1", "expire": "never"}])
def test_failure_without_readable_code_is_still_a_failure(attrs: dict[str, str]) -> None:
    assert parse_failure(Node("failure", attrs)) == ConnectFailure(0)


@pytest.mark.parametrize(
    "value",
    [
        StreamError(515),
        StreamError(401, conflict="device_removed"),
        StreamError(conflict="replaced"),
        StreamError(503),
        StreamError(child="xml-not-well-formed"),
        StreamError(500, child="ack", acked_id="3EB0"),
    ],
)
def test_stream_error_crosses_the_wire(value: StreamError) -> None:
    assert parse_stream_error(sent(stream_error(value))) == value


def test_conflict_without_type_is_still_a_conflict() -> None:
    assert parse_stream_error(Node("stream:error", {}, (Node("conflict"),))).conflict == ""


def test_id_of_an_unanswered_ping_is_no_acked_id() -> None:
    node = Node("stream:error", {"code": "x"}, (Node("ping", {"id": "7"}),))
    assert parse_stream_error(node) == StreamError(child="ping")
