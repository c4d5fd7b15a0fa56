"""mex: what the server says in JSON about the account's restrictions."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sitpayd.whatsapp.errors import RemoteProtocolError
from sitpayd.whatsapp.jid import SERVER_JID
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas.mex import (
    NewChatCap,
    ReachoutTimelock,
    capping_query,
    parse_capping,
    parse_capping_notice,
    parse_timelock,
    parse_timelock_notice,
    timelock_query,
)

CAPPED = {"capping_status": "CAPPED", "cycle_end_timestamp": "1760000000", "used_quota": 5}
LOCKED = {"is_active": True, "time_enforcement_ends": "1760000000", "enforcement_type": "X"}


def answer(value: object) -> Node:
    body = Node("result", {}, json.dumps({"data": value}).encode())
    return Node("iq", {"type": "result", "id": "1", "from": SERVER_JID}, (body,))


def notice(op_name: str, content: bytes) -> Node:
    update = Node("update", {"op_name": op_name}, content)
    return Node("notification", {"type": "mex", "from": SERVER_JID, "id": "1"}, (update,))


def test_query_names_its_question_and_asks_for_nothing_else() -> None:
    query = timelock_query("7").required("query")
    assert query.text("query_id") == "23983697327930364"
    assert json.loads(query.data) == {"variables": {}}


@pytest.mark.parametrize(
    ("told", "meant"),
    [
        (LOCKED, ReachoutTimelock(True, 1760000000)),
        (
            {"is_active": True, "time_enforcement_ends": 1760000000},
            ReachoutTimelock(True, 1760000000),
        ),
        ({"is_active": True}, ReachoutTimelock(True)),
        ({"is_active": True, "time_enforcement_ends": "soon"}, ReachoutTimelock(True)),
        ({"is_active": True, "time_enforcement_ends": "9" * 12}, ReachoutTimelock(True)),
        ({"is_active": False, "time_enforcement_ends": None}, ReachoutTimelock(False)),
        (None, ReachoutTimelock(False)),
        ({"is_active": "yes"}, None),
        ({}, None),
    ],
)
def test_timelock_is_read_as_far_as_it_can_be(told: object, meant: ReachoutTimelock | None) -> None:
    assert parse_timelock(answer({"xwa2_fetch_account_reachout_timelock": told})) == meant


@pytest.mark.parametrize("told", [None, {"data": None}, {"data": {}}, [], "no"])
def test_answer_without_a_timelock_tells_nothing(told: object) -> None:
    body = Node("result", {}, json.dumps(told).encode())
    assert parse_timelock(Node("iq", {"type": "result", "id": "1"}, (body,))) is None


def test_question_for_the_quota_names_what_it_is_about() -> None:
    query = capping_query("7").required("query")
    assert query.text("query_id") == "24503548349331633"
    assert json.loads(query.data) == {"variables": {"input": {"type": "INDIVIDUAL_NEW_CHAT_MSG"}}}


@pytest.mark.parametrize(
    ("told", "meant"),
    [
        (
            {"capping_status": "CAPPED", "cycle_end_timestamp": "1760000000", "total_quota": 50},
            NewChatCap(True, 1760000000),
        ),
        ({"capping_status": "SECOND_WARNING"}, NewChatCap(False)),
        ({"capping_status": "NONE", "cycle_end_timestamp": None}, NewChatCap(False)),
        ({"capping_status": "SOMETHING"}, None),
        (None, None),
    ],
)
def test_quota_is_read_as_far_as_it_can_be(told: object, meant: NewChatCap | None) -> None:
    assert parse_capping(answer({"xwa2_message_capping_info": told})) == meant


def test_update_of_the_timelock_is_read_however_it_is_wrapped() -> None:
    content = json.dumps({"data": {"xwa2_notify": {"timelock": LOCKED}}}).encode()
    told = parse_timelock_notice(notice("NotificationUserReachoutTimelockUpdate", content))
    assert told == ReachoutTimelock(True, 1760000000)


def test_other_updates_say_nothing_about_the_timelock() -> None:
    assert parse_timelock_notice(notice("MessageCappingInfoNotification", b"\xff")) is None
    assert parse_timelock_notice(Node("notification", {"type": "mex"})) is None


@pytest.mark.parametrize(
    ("told", "meant"),
    [
        (CAPPED, NewChatCap(True, 1760000000)),
        ({"capping_status": "CAPPED"}, NewChatCap(True)),
        ({"capping_status": "SECOND_WARNING", "cycle_end_timestamp": 7}, NewChatCap(False, 7)),
        ({"status": "NONE"}, NewChatCap(False)),
        ({"capping_status": "UNHEARD_OF"}, None),
        ({"capping_status": ["CAPPED"]}, None),
        (None, None),
    ],
)
def test_quota_of_new_chats_is_read_as_far_as_it_can_be(
    told: object, meant: NewChatCap | None
) -> None:
    wrapped = {"data": {"xwa2_notify_new_chat_messages_capping_info_update": told}}
    node = notice("MessageCappingInfoNotification", json.dumps(wrapped).encode())
    assert parse_capping_notice(node) == meant


def test_quota_wrapped_too_deep_is_not_looked_for() -> None:
    value: object = CAPPED
    for _ in range(40):
        value = {"deeper": value}
    node = notice("MessageCappingInfoNotification", json.dumps(value).encode())
    assert parse_capping_notice(node) is None


def test_other_updates_say_nothing_about_the_quota() -> None:
    assert parse_capping_notice(notice("NotificationUserReachoutTimelockUpdate", b"\xff")) is None
    assert parse_capping_notice(Node("notification", {"type": "mex"})) is None


@given(st.binary(max_size=60))
def test_any_bytes_about_the_quota_are_a_value_or_a_remote_error(data: bytes) -> None:
    try:
        parse_capping_notice(notice("MessageCappingInfoNotification", data))
    except RemoteProtocolError:
        return


@given(st.binary(max_size=60))
def test_any_bytes_are_a_value_or_a_remote_error(data: bytes) -> None:
    node = Node("iq", {"type": "result", "id": "1"}, (Node("result", {}, data),))
    try:
        parse_timelock(node)
    except RemoteProtocolError:
        return


def test_deep_answers_are_not_followed() -> None:
    value: object = LOCKED
    for _ in range(40):
        value = {"deeper": value}
    assert parse_timelock(answer(value)) is None
    deep = Node("result", {}, b'{"a":' * 100_000)
    with pytest.raises(RemoteProtocolError):
        parse_timelock(Node("iq", {"type": "result", "id": "1"}, (deep,)))


def test_deep_list_in_the_place_of_a_time_is_no_time() -> None:
    """As deep as the decoder of JSON just lets through: writing it out would be too deep."""
    for depth in range(900, 1000):
        value = (
            b'{"is_active": true, "time_enforcement_ends": ' + b"[" * depth + b"]" * depth + b"}"
        )
        for _ in range(7):
            value = b'{"deeper": ' + value + b"}"
        node = Node("iq", {"type": "result", "id": "1"}, (Node("result", {}, value),))
        try:
            assert parse_timelock(node) == ReachoutTimelock(True)
        except RemoteProtocolError:
            assert depth > 900
            return
    raise AssertionError("nothing is too deep")
