"""props: what the server has switched on, told once and known by its hash."""

from __future__ import annotations

import pytest

from sitpayd.whatsapp.errors import LocalProtocolError, RemoteProtocolError
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import iq, props
from sitpayd.whatsapp.stanzas.props import Props

from .wire import sent

KNOWN = Props("h1", tokens_with_messages=True, tokens_for_pictures=False, tokens_to_lid=None)


def told(**values: str) -> Node:
    codes = {code.removeprefix("_"): value for code, value in values.items()}
    return sent(props.answer(props.query("5", Props()), "h2", codes))


def test_first_question_names_no_hash_and_the_next_one_does() -> None:
    assert props.parse_query(sent(props.query("5", Props()))) is None
    assert props.parse_query(sent(props.query("5", KNOWN))) == "h1"


def test_props_are_read_by_their_codes() -> None:
    answer = told(_10518="true", _9666="0", _14303="1", _7="true")
    assert props.parse_props(answer, Props()) == Props("h2", True, False, True)


def test_props_may_go_by_their_names() -> None:
    prop = Node("prop", {"name": "lid_trusted_token_issue_to_lid", "value": "true"})
    node = iq.result(props.query("5", Props()), Node("props", {}, (prop,)))
    assert props.parse_props(node, Props()).tokens_to_lid is True


def test_answer_without_a_list_changes_nothing_but_the_hash() -> None:
    assert props.parse_props(told(), KNOWN) == Props("h2", True, False, None)
    silent = iq.result(props.query("5", KNOWN), Node("props"))
    assert props.parse_props(silent, KNOWN) == KNOWN


def test_prop_without_a_value_is_left_alone() -> None:
    node = iq.result(
        props.query("5", KNOWN), Node("props", {}, (Node("prop", {"config_code": "10518"}),))
    )
    assert props.parse_props(node, KNOWN) == KNOWN


@pytest.mark.parametrize(
    "node",
    [
        iq.result(props.query("5", KNOWN)),
        iq.result(props.query("5", KNOWN), Node("props", {"hash": "h" * 257})),
    ],
    ids=["no props", "a hash without end"],
)
def test_malformed_answer_is_refused(node: Node) -> None:
    with pytest.raises(RemoteProtocolError):
        props.parse_props(node, KNOWN)


@pytest.mark.parametrize("value", [Props(), KNOWN])
def test_props_survive_storage(value: Props) -> None:
    assert Props.from_bytes(value.to_bytes()) == value


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"mystery": 1}', b"\xff"])
def test_damaged_props_are_told_from_others(data: bytes) -> None:
    with pytest.raises(LocalProtocolError):
        Props.from_bytes(data)
