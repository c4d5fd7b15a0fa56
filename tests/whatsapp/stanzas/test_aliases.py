from __future__ import annotations

import pytest

from sitpayd.whatsapp.errors import RemoteProtocolError
from sitpayd.whatsapp.jid import SERVER_JID, Jid, lid, pn
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas.aliases import (
    MAX_PARTICIPANTS,
    LidMapping,
    in_notification,
    in_receipt,
    paired,
)

PN, LID = pn("919876543210"), lid("123456789012345")
GROUP = Jid("120363000000000000", "g.us")
FRIEND = LidMapping(PN, LID)
OTHER = LidMapping(pn("1"), lid("a"))


@pytest.mark.parametrize(("one", "other"), [(PN, LID), (LID, PN), (PN.with_device(2), LID)])
def test_number_and_lid_are_a_pair_whichever_comes_first(one: Jid, other: Jid) -> None:
    assert paired(one, other) == FRIEND


@pytest.mark.parametrize(
    ("one", "other"),
    [(PN, None), (None, LID), (PN, PN), (LID, LID), (PN, SERVER_JID), (GROUP, LID), (PN, GROUP)],
)
def test_anything_else_is_no_pair(one: Jid | None, other: Jid | None) -> None:
    assert paired(one, other) is None


@pytest.mark.parametrize(
    "attrs",
    [
        {"from": PN, "sender_lid": LID},
        {"from": LID.with_device(3), "sender_pn": PN},
        {"from": GROUP, "participant": LID, "participant_pn": PN},
        {"from": GROUP, "participant": PN, "participant_lid": LID},
        {"from": lid("77"), "recipient": LID, "peer_recipient_pn": PN},
    ],
)
def test_receipt_tells_the_other_address_of_whom_it_names(attrs: dict[str, Jid]) -> None:
    assert in_receipt(Node("receipt", attrs)) == (FRIEND,)


def test_receipt_may_tell_of_two_people() -> None:
    attrs: dict[str, Jid | str] = {
        "from": LID,
        "sender_pn": PN,
        "recipient": OTHER.lid,
        "peer_recipient_pn": OTHER.pn,
    }
    assert in_receipt(Node("receipt", attrs)) == (FRIEND, OTHER)


def test_receipt_that_names_one_address_tells_nothing() -> None:
    assert in_receipt(Node("receipt", {"from": LID, "sender_lid": LID})) == ()


def notification(kind: str, *children: Node, **attrs: Jid) -> Node:
    return Node("notification", {"type": kind, "from": PN, **attrs}, children)


def test_notice_of_an_identity_tells_the_lid() -> None:
    assert in_notification(notification("encrypt", Node("identity"), lid=LID)) == (FRIEND,)


def test_notice_of_devices_tells_the_lid_of_the_person_and_of_each_device() -> None:
    device = Node("device", {"jid": PN.with_device(2), "lid": LID.with_device(2)})
    assert in_notification(notification("devices", Node("add", {}, (device,)), lid=LID)) == (
        FRIEND,
    )
    assert in_notification(notification("devices", Node("remove", {}, (device,)))) == (FRIEND,)


def participant(mapping: LidMapping, *, by_lid: bool) -> Node:
    if by_lid:
        return Node("participant", {"jid": mapping.lid, "phone_number": mapping.pn})
    return Node("participant", {"jid": mapping.pn, "lid": mapping.lid})


@pytest.mark.parametrize("by_lid", [True, False])
def test_notice_of_a_group_tells_the_addresses_of_its_participants(by_lid: bool) -> None:
    people = (participant(FRIEND, by_lid=by_lid), participant(OTHER, by_lid=by_lid))
    for change in (Node("add", {}, people), Node("create", {}, (Node("group", {}, people),))):
        node = Node("notification", {"type": "w:gp2", "from": GROUP}, (change,))
        assert in_notification(node) == (FRIEND, OTHER)


def test_notice_of_a_group_tells_who_made_the_change() -> None:
    attrs: dict[str, Jid | str] = {"type": "w:gp2", "from": GROUP}
    node = Node("notification", {**attrs, "participant": LID, "participant_pn": PN})
    assert in_notification(node) == (FRIEND,)


def test_participants_beyond_any_group_are_not_looked_at() -> None:
    people = [participant(LidMapping(pn(f"1{n}"), lid(f"2{n}")), by_lid=True) for n in range(3000)]
    node = Node("notification", {"type": "w:gp2", "from": GROUP}, (Node("add", {}, tuple(people)),))
    assert len(in_notification(node)) == MAX_PARTICIPANTS


def test_other_notices_are_not_believed_about_anybody() -> None:
    assert in_notification(notification("picture", lid=LID)) == ()


def test_address_that_is_none_is_refused() -> None:
    with pytest.raises(RemoteProtocolError):
        in_receipt(Node("receipt", {"from": PN, "sender_lid": "x@y@z"}))
