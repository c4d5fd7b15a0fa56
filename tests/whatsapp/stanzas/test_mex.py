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
    ReachoutTimelock,
    parse_timelock,
    parse_timelock_notice,
    timelock_query,
)

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
        (None, None),
        ({"is_active": "yes"}, None),
    ],
)
def test_timelock_is_read_as_far_as_it_can_be(told: object, meant: ReachoutTimelock | None) -> None:
    assert parse_timelock(answer({"xwa2_fetch_account_reachout_timelock": told})) == meant


def test_update_of_the_timelock_is_read_however_it_is_wrapped() -> None:
    content = json.dumps({"data": {"xwa2_notify": {"timelock": LOCKED}}}).encode()
    told = parse_timelock_notice(notice("NotificationUserReachoutTimelockUpdate", content))
    assert told == ReachoutTimelock(True, 1760000000)


def test_other_updates_say_nothing_about_the_timelock() -> None:
    assert parse_timelock_notice(notice("MessageCappingInfoNotification", b"\xff")) is None
    assert parse_timelock_notice(Node("notification", {"type": "mex"})) is None


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
