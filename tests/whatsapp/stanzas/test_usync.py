from __future__ import annotations

import pytest

from sitpayd.whatsapp.errors import RemoteProtocolError
from sitpayd.whatsapp.jid import HOSTED_LID_SERVER, HOSTED_SERVER, Jid
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import usync
from sitpayd.whatsapp.stanzas.usync import (
    NO_ANSWER,
    Contact,
    Device,
    QueriedUser,
    UserAnswer,
    UserDevices,
    UsyncQuery,
)

from .wire import OWN_LID, OWN_PN, PEER_LID, PEER_PN, sent

DEVICES = (Device(0), Device(4, key_index=2))


def answer_of(*users: Node) -> Node:
    return sent(Node("iq", {}, (Node("usync", {}, (Node("list", {}, users),)),)))


def devices_user(*devices: dict[str, str]) -> Node:
    listed = Node("device-list", {}, tuple(Node("device", attrs) for attrs in devices))
    return Node("user", {"jid": PEER_PN}, (Node("devices", {}, (listed,)),))


def test_query_asks_for_devices_and_lids_of_people_not_of_devices() -> None:
    query = usync.parse_query(sent(usync.devices_query("5", [PEER_PN, OWN_LID], sid="6")))
    assert query == UsyncQuery(
        frozenset({"devices", "lid"}), (QueriedUser(PEER_PN), QueriedUser(OWN_LID.bare))
    )


def test_query_has_the_attributes_of_the_web_client() -> None:
    element = sent(usync.devices_query("5", [PEER_PN], sid="6")).required("usync")
    assert element.attrs == {
        "sid": "6",
        "mode": "query",
        "last": "true",
        "index": "0",
        "context": "message",
    }
    assert element.required("query").required("devices").text("version") == "2"


def test_devices_cross_the_wire_under_the_address_asked_for() -> None:
    query = sent(usync.devices_query("5", [PEER_PN, OWN_PN], sid="6"))
    answer = usync.answer(
        query,
        [
            UserAnswer(PEER_PN, lid=PEER_LID, devices=DEVICES, key_index_list=(b"signed", 7)),
            UserAnswer(OWN_PN.bare, devices=()),
        ],
    )
    assert usync.parse_devices(sent(answer)) == {
        PEER_PN: UserDevices(PEER_PN, PEER_LID, DEVICES),
        OWN_PN.bare: UserDevices(OWN_PN.bare, None, ()),
    }


def test_signed_list_of_key_indexes_stands_beside_the_devices() -> None:
    query = usync.devices_query("5", [PEER_PN], sid="6")
    answer = usync.answer(
        query, [UserAnswer(PEER_PN, devices=DEVICES, key_index_list=(b"signed", 7))]
    )
    user = sent(answer).required("usync").required("list").children[0]
    element = user.required("devices").required("key-index-list")
    assert (element.data, element.number("ts")) == (b"signed", 7)


def test_unknown_person_is_an_error_not_an_empty_list() -> None:
    query = usync.devices_query("5", [PEER_PN], sid="6")
    answer = usync.answer(query, [UserAnswer(PEER_PN)])
    assert usync.parse_devices(sent(answer))[PEER_PN].error == 404


def test_devices_that_were_not_asked_for_are_not_told() -> None:
    query = usync.contact_query("5", ["15557654321"], sid="6")
    answer = usync.answer(query, [UserAnswer(PEER_PN, devices=DEVICES, contact=("1", True))])
    user = answer.required("usync").required("list").children[0]
    assert user.child("devices") is None


@pytest.mark.parametrize(
    "content",
    [(), (Node("devices"),), (Node("devices", {}, (Node("error"),)),)],
    ids=["nothing", "no list", "error without code"],
)
def test_missing_answer_is_no_empty_list(content: tuple[Node, ...]) -> None:
    answer = answer_of(Node("user", {"jid": PEER_PN}, content))
    assert usync.parse_devices(answer)[PEER_PN] == UserDevices(PEER_PN, None, (), NO_ANSWER)


def test_rate_limit_of_one_user_is_told() -> None:
    error = Node("devices", {}, (Node("error", {"code": "429"}),))
    answer = answer_of(Node("user", {"jid": PEER_PN}, (error,)))
    assert usync.parse_devices(answer)[PEER_PN].error == 429


def test_companion_without_key_index_is_dropped() -> None:
    answer = answer_of(devices_user({"id": "0"}, {"id": "3"}, {"id": "4", "key-index": "2"}))
    assert usync.parse_devices(answer)[PEER_PN].devices == DEVICES


def test_device_listed_twice_counts_once() -> None:
    answer = answer_of(devices_user({"id": "0"}, {"id": "0"}))
    assert usync.parse_devices(answer)[PEER_PN].devices == (Device(0),)


@pytest.mark.parametrize(
    "attrs",
    [{"id": "99", "key-index": "1"}, {"id": "7", "key-index": "1", "is_hosted": "true"}],
)
def test_hosted_device_lives_on_a_server_of_its_own(attrs: dict[str, str]) -> None:
    answer = answer_of(devices_user(attrs))
    user = usync.parse_devices(answer)[PEER_PN]
    number = int(attrs["id"])
    assert user.addresses() == (Jid(PEER_PN.user, HOSTED_SERVER, number),)
    assert user.addresses(PEER_LID) == (Jid(PEER_LID.user, HOSTED_LID_SERVER, number),)


def test_hosted_device_crosses_the_wire() -> None:
    devices = (Device(7, key_index=1, is_hosted=True),)
    query = usync.devices_query("5", [PEER_PN], sid="6")
    answer = sent(usync.answer(query, [UserAnswer(PEER_PN, devices=devices)]))
    assert usync.parse_devices(answer)[PEER_PN].devices == devices


def test_one_list_serves_both_addresses_of_a_person() -> None:
    user = UserDevices(PEER_PN, PEER_LID, DEVICES)
    assert user.addresses() == (PEER_PN, PEER_PN.with_device(4))
    assert user.addresses(PEER_LID) == (PEER_LID, PEER_LID.with_device(4))


@pytest.mark.parametrize("attrs", [{}, {"id": "x"}, {"id": "70000"}])
def test_device_without_usable_id_is_refused(attrs: dict[str, str]) -> None:
    with pytest.raises(RemoteProtocolError):
        usync.parse_devices(answer_of(devices_user(attrs)))


def test_lid_that_is_none_is_not_taken() -> None:
    user = Node("user", {"jid": PEER_PN}, (Node("lid", {"val": PEER_PN}),))
    assert usync.parse_devices(answer_of(user))[PEER_PN].lid is None


def test_numbers_are_asked_for_in_international_form() -> None:
    query = sent(usync.contact_query("5", ["15557654321"], sid="6"))
    user = query.required("usync").required("list").children[0]
    assert user.data_of("contact") == b"+15557654321"
    assert "jid" not in user.attrs
    assert usync.parse_query(query).users == (QueriedUser(None, "15557654321"),)


def test_checked_numbers_cross_the_wire() -> None:
    query = sent(usync.contact_query("5", ["15557654321", "1555"], sid="6"))
    answer = usync.answer(
        query,
        [
            UserAnswer(PEER_LID, pn=PEER_PN, lid=PEER_LID, contact=("+15557654321", True)),
            UserAnswer(None, contact=("+1555", False)),
        ],
    )
    assert usync.parse_contacts(sent(answer)) == {
        "15557654321": Contact("15557654321", True, PEER_PN, PEER_LID),
        "1555": Contact("1555", False),
    }


def test_number_may_be_repeated_in_the_old_form() -> None:
    contact = Node("contact", {"type": "in"}, b"15557654321@c.us")
    answer = answer_of(Node("user", {"jid": PEER_PN}, (contact,)))
    assert usync.parse_contacts(answer) == {"15557654321": Contact("15557654321", True, PEER_PN)}


def test_failed_check_is_no_missing_account() -> None:
    contact = Node("contact", {}, (Node("error", {"code": "429"}),))
    answer = answer_of(Node("user", {"jid": PEER_PN}, (contact,)))
    assert usync.parse_contacts(answer)["15557654321"].error == 429


@pytest.mark.parametrize("word", ["out", "invalid"])
def test_checked_number_without_an_account(word: str) -> None:
    contact = Node("contact", {"type": word}, b"+15557654321")
    answer = answer_of(Node("user", {}, (contact,)))
    assert usync.parse_contacts(answer) == {"15557654321": Contact("15557654321", False)}


@pytest.mark.parametrize("attrs", [{}, {"type": "maybe"}])
def test_word_that_nobody_knows_is_no_answer_to_a_check(attrs: dict[str, str]) -> None:
    contact = Node("contact", attrs, b"+15557654321")
    answer = answer_of(Node("user", {}, (contact,)))
    assert usync.parse_contacts(answer)["15557654321"].error == usync.NO_ANSWER


def test_server_may_answer_one_number_with_an_error() -> None:
    query = sent(usync.contact_query("5", ["15557654321", "1555"], sid="6"))
    answer = usync.answer(
        query,
        [
            UserAnswer(PEER_PN, contact=("15557654321", None)),
            UserAnswer(None, contact=("+1555", False)),
        ],
    )
    found = usync.parse_contacts(sent(answer))
    assert (found["15557654321"].error, found["15557654321"].exists) == (429, False)
    assert found["1555"].error is None


def test_user_without_contact_is_no_answer_to_a_check() -> None:
    assert usync.parse_contacts(answer_of(Node("user", {"jid": PEER_PN}))) == {}


def test_query_for_nobody_is_refused() -> None:
    listed = Node("list", {}, (Node("user"),))
    node = Node("iq", {}, (Node("usync", {}, (Node("query"), listed)),))
    with pytest.raises(RemoteProtocolError):
        usync.parse_query(node)
