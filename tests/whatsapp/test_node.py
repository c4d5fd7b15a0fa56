from __future__ import annotations

import pytest

from sitpayd.whatsapp.errors import RemoteProtocolError
from sitpayd.whatsapp.jid import SERVER_JID, pn
from sitpayd.whatsapp.node import Node

NODE = Node(
    "iq",
    {"id": "7", "from": pn("1"), "to": "s.whatsapp.net", "name": "x@", "t": "1" * 21},
    (Node("ref", {}, b"a"), Node("item", {}, "b"), Node("ref", {}, b"c")),
)


def test_children_with_a_tag_come_in_order() -> None:
    assert [ref.data for ref in NODE.named("ref")] == [b"a", b"c"]


def test_child_is_the_first_with_its_tag() -> None:
    assert NODE.child("ref") == Node("ref", {}, b"a")


def test_absent_child_is_none() -> None:
    assert NODE.child("nothing") is None


def test_required_child_that_is_absent_is_a_remote_error() -> None:
    with pytest.raises(RemoteProtocolError, match="<iq> lacks <nothing>"):
        NODE.required("nothing")


def test_error_is_short_whatever_an_element_is_called() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        Node("x" * 2**20).required("nothing")
    assert len(str(caught.value)) < 80


def test_node_with_bytes_has_no_children() -> None:
    assert Node("ref", {}, b"a").children == ()


def test_address_reads_as_text() -> None:
    assert NODE.text("from") == "1@s.whatsapp.net"


def test_absent_attribute_is_none() -> None:
    assert (NODE.text("x"), NODE.number("x"), NODE.jid("x")) == (None, None, None)


def test_required_text_is_returned() -> None:
    assert NODE.required_text("id") == "7"


def test_required_text_that_is_absent_is_a_remote_error() -> None:
    with pytest.raises(RemoteProtocolError, match="lacks the attribute x"):
        NODE.required_text("x")


def test_number_is_read() -> None:
    assert NODE.number("id") == 7


@pytest.mark.parametrize("name", ["to", "t"])
def test_text_or_too_many_digits_are_no_number(name: str) -> None:
    with pytest.raises(RemoteProtocolError, match="is not a number"):
        NODE.number(name)


def test_address_is_returned_as_it_is() -> None:
    assert NODE.required_jid("from") == pn("1")


def test_bare_server_token_is_taken_as_its_address() -> None:
    assert NODE.jid("to") == SERVER_JID


def test_text_that_is_no_address_is_a_remote_error() -> None:
    with pytest.raises(RemoteProtocolError):
        NODE.jid("name")


def test_required_address_that_is_absent_is_a_remote_error() -> None:
    with pytest.raises(RemoteProtocolError, match="lacks the attribute x"):
        NODE.required_jid("x")


def test_text_content_reads_as_bytes() -> None:
    assert NODE.required("item").data == b"b"


def test_no_content_reads_as_empty_bytes() -> None:
    assert Node("x").data == b""


def test_children_are_no_bytes() -> None:
    with pytest.raises(RemoteProtocolError, match="holds children where bytes belong"):
        _ = NODE.data


def test_bytes_of_a_child_are_returned_if_the_length_fits() -> None:
    assert NODE.data_of("ref", 1) == b"a"


def test_bytes_of_a_child_with_another_length_are_a_remote_error() -> None:
    with pytest.raises(RemoteProtocolError, match="<ref> has 1 bytes instead of 32"):
        NODE.data_of("ref", 32)
