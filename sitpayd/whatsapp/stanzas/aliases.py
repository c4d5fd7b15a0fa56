"""aliases: what stanzas tell about which phone number and which LID are the same person.

Only attributes that the server sets are read here; what people write inside of messages is not.
What follows from a mapping is decided outside.

Source: whatsmeow message.go (parseMessageSource), notification.go, group.go; Baileys
lib/Utils/decode-wa-message.js, lib/Socket/messages-recv.js.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from ..jid import LID_SERVER, PN_SERVER, Jid
from ..node import Node
from .wire import copied

# As `<prefix>_pn` and `<prefix>_lid`: the other address of somebody whom the stanza names.
PREFIXES: Final = ("sender", "participant", "peer_recipient")
# Participants of a notification that are looked at: WhatsApp's largest groups have fewer.
MAX_PARTICIPANTS: Final = 2048


@dataclass(frozen=True, slots=True)
class LidMapping:
    """That a phone number and a LID are the same person; both without device."""

    pn: Jid
    lid: Jid


def paired(one: Jid | None, other: Jid | None) -> LidMapping | None:
    """What two addresses of a person tell; None unless one is a number and one a LID."""
    if one is None or other is None:
        return None
    pn, lid = (other, one) if one.is_lid else (one, other)
    if not (pn.user and pn.server == PN_SERVER and lid.user and lid.server == LID_SERVER):
        return None
    return LidMapping(pn.bare, lid.bare)


def alternates(node: Node) -> dict[str, Jid]:
    """The attributes of a stanza that tell other addresses, by name.

    Raises:
        RemoteProtocolError: If one of them is no address.
    """
    return copied(node, *(f"{prefix}_{form}" for prefix in PREFIXES for form in ("pn", "lid")))


def told_of(jid: Jid, addresses: Mapping[str, Jid], prefix: str) -> LidMapping | None:
    """What attributes with this prefix tell about somebody whom the stanza names."""
    return paired(jid, addresses.get(f"{prefix}_{'pn' if jid.is_lid else 'lid'}"))


def in_receipt(node: Node) -> tuple[LidMapping, ...]:
    """What a receipt tells: of its sender, and of the chat it is about.

    Raises:
        RemoteProtocolError: If an attribute is no address.
    """
    addresses = alternates(node)
    named = (("from", "sender"), ("participant", "participant"), ("recipient", "peer_recipient"))
    people = ((node.jid(name), prefix) for name, prefix in named)
    return _known(told_of(jid, addresses, prefix) for jid, prefix in people if jid is not None)


def in_notification(node: Node) -> tuple[LidMapping, ...]:
    """What a notification about devices, keys or a group tells.

    Raises:
        RemoteProtocolError: If an attribute is no address.
    """
    match node.text("type"):
        case "encrypt":
            return _known([paired(node.jid("from"), node.jid("lid"))])
        case "devices":
            listed = (device for child in node.children for device in child.named("device"))
            devices = (paired(device.jid("jid"), device.jid("lid")) for device in listed)
            return _known([paired(node.jid("from"), node.jid("lid")), *devices])
        case "w:gp2":
            author = node.jid("participant")
            told = None if author is None else told_of(author, alternates(node), "participant")
            return _known([told, *_participants(node)])
        case _:
            return ()


def _participants(node: Node) -> Iterator[LidMapping | None]:
    """Of each participant below a change of a group, or below the group it made."""
    changes = [
        *node.children,
        *(group for child in node.children for group in child.named("group")),
    ]
    participants = (person for change in changes for person in change.named("participant"))
    for count, person in enumerate(participants):
        if count >= MAX_PARTICIPANTS:
            return
        jid = person.jid("jid")
        other = None if jid is None else person.jid("phone_number" if jid.is_lid else "lid")
        yield paired(jid, other)


def _known(told: Iterable[LidMapping | None]) -> tuple[LidMapping, ...]:
    return tuple(dict.fromkeys(mapping for mapping in told if mapping is not None))
