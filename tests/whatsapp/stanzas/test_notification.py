from __future__ import annotations

import pytest

from sitpayd.whatsapp.errors import RemoteProtocolError
from sitpayd.whatsapp.jid import SERVER_JID
from sitpayd.whatsapp.node import Attr, Node
from sitpayd.whatsapp.stanzas.notification import (
    AppStateChanged,
    DeviceAction,
    DevicesChanged,
    IdentityChanged,
    ListedDevice,
    Notification,
    OtherNotification,
    OwnDevices,
    PasskeyRequested,
    PreKeyCount,
    PrivacyToken,
    notification,
    parse_notification,
)

from .wire import OWN_LID, OWN_PN, PEER_LID, PEER_PN, sent

COMPANION = ListedDevice(PEER_PN.with_device(4), PEER_LID.with_device(4), 2)


def read(kind: str, *children: Node, **attrs: Attr) -> Notification:
    values: dict[str, Attr] = {"id": "1", "type": kind, "from": PEER_LID, **attrs}
    return parse_notification(Node("notification", values, children))


@pytest.mark.parametrize(
    "value",
    [
        PreKeyCount(3),
        IdentityChanged(PEER_PN, PEER_LID),
        IdentityChanged(PEER_LID),
        DevicesChanged(PEER_PN, PEER_LID, "add", (COMPANION,), "2:hash", "2:lid"),
        DevicesChanged(PEER_LID, None, "remove", (ListedDevice(PEER_LID.with_device(4)),)),
        DevicesChanged(PEER_LID, None, "update", ()),
        OwnDevices((OWN_PN.bare, OWN_PN), "2:hash"),
        OwnDevices(()),
        PasskeyRequested(),
        PrivacyToken(PEER_PN, PEER_LID, b"token", 1_760_000_000),
        AppStateChanged((("regular_low", 3), ("regular", 0))),
        OtherNotification("picture"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_notification_crosses_the_wire(value: Notification) -> None:
    node = sent(notification("1", value, t=7, from_=OWN_PN.bare))
    assert parse_notification(node) == value
    assert (node.text("id"), node.number("t")) == ("1", 7)


def test_own_devices_come_from_our_own_account() -> None:
    node = notification("1", OwnDevices((OWN_LID,)), t=7, from_=OWN_PN.bare)
    assert node.attrs["from"] == OWN_PN.bare


def test_prekey_count_comes_from_the_server() -> None:
    assert notification("1", PreKeyCount(3), t=7).attrs["from"] == SERVER_JID


def test_people_do_not_count_our_prekeys() -> None:
    count = Node("count", {"value": "0"})
    assert read("encrypt", count) == OtherNotification("encrypt")


def test_server_has_no_identity_to_change() -> None:
    changed = read("encrypt", Node("identity"), **{"from": SERVER_JID})
    assert changed == OtherNotification("encrypt")


def test_passkey_is_asked_for_by_the_server_alone() -> None:
    kind = "passkey_prologue_request"
    assert read(kind) == OtherNotification(kind)


def test_passkey_request_is_recognised_whatever_it_holds() -> None:
    asked = read("passkey_prologue_request", **{"from": "s.whatsapp.net"})
    assert asked == PasskeyRequested()


@pytest.mark.parametrize("action", ["add", "remove", "update"])
def test_changed_devices_name_the_person_without_device(action: DeviceAction) -> None:
    attrs: dict[str, Attr] = {"from": PEER_LID.with_device(4), "lid": PEER_LID.with_device(4)}
    changed = read("devices", Node(action), **attrs)
    assert changed == DevicesChanged(PEER_LID, PEER_LID, action, ())


@pytest.mark.parametrize("kind", ["devices", "account_sync", "encrypt", "w:gp2", ""])
def test_notification_of_nothing_we_know_needs_only_its_ack(kind: str) -> None:
    assert read(kind, Node("new")) == OtherNotification(kind)


def test_address_inside_a_token_is_not_the_contacts() -> None:
    token = Node("token", {"type": "trusted_contact", "t": "7", "jid": OWN_LID}, b"token")
    given = read("privacy_token", Node("tokens", {}, (token,)))
    assert given == PrivacyToken(PEER_LID, None, b"token", 7)


def test_tokens_of_another_type_are_left_alone() -> None:
    token = Node("token", {"type": "new"}, b"token")
    assert read("privacy_token", Node("tokens", {}, (token,))) == OtherNotification("privacy_token")


def test_collections_of_the_app_state_that_changed_are_told() -> None:
    changed = read(
        "server_sync",
        Node("collection", {"name": "regular_high", "version": "12"}),
        Node("collection", {"name": "regular"}),
        Node("collection", {"name": "unheard_of", "version": "3"}),
    )
    assert changed == AppStateChanged((("regular_high", 12), ("regular", 0)))


def test_token_does_not_show() -> None:
    assert repr(PrivacyToken(PEER_LID, None, b"secret", 7)) == "PrivacyToken(t=7)"


@pytest.mark.parametrize(
    "node",
    [
        Node("notification", {"type": "picture"}),
        Node("notification", {"type": "encrypt", "from": SERVER_JID}, (Node("count"),)),
        Node("notification", {"type": "privacy_token", "from": PEER_LID}),
        Node(
            "notification",
            {"type": "devices", "from": PEER_LID},
            (Node("add", {}, (Node("device"),)),),
        ),
        Node(
            "notification",
            {"type": "server_sync", "from": PEER_LID},
            (Node("collection", {"version": "1"}),),
        ),
        Node(
            "notification",
            {"type": "account_sync", "from": PEER_LID},
            (Node("devices", {}, (Node("device"),)),),
        ),
    ],
    ids=[
        "no sender",
        "no count",
        "no tokens",
        "nameless device",
        "nameless collection",
        "nameless own device",
    ],
)
def test_malformed_notification_is_refused(node: Node) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_notification(node)
