"""Targets: for which devices a row is encrypted, and by which addresses. Pure.

Everything of one stanza stands in one form, by LID or by number: WhatsApp refuses a mixture. A
device has the same number in either.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sitpayd.actors.arming import participants_of
from sitpayd.storage.records import OutboxRow
from sitpayd.whatsapp.jid import Jid
from sitpayd.whatsapp.stanzas.message import phash
from sitpayd.whatsapp.stanzas.pairing import PairedIdentity
from sitpayd.whatsapp.stanzas.usync import UserDevices


@dataclass(frozen=True, slots=True)
class Target:
    """Whom a stanza addresses.

    Attributes:
        to: the chat, without device.
        pn: its number, if `to` is a LID; None for a note to oneself.
        devices: the recipient's.
        own_devices: our other ones.
        phash: of all devices of both sides.
    """

    to: Jid
    pn: Jid | None
    devices: tuple[Jid, ...]
    own_devices: tuple[Jid, ...]
    phash: str


def target_of(
    own: PairedIdentity, ours: UserDevices, theirs: UserDevices | None, lid: Jid | None
) -> Target:
    """Make the target of a message.

    Args:
        ours: the devices of our account.
        theirs: the recipient's, by number; None: a note to oneself.
        lid: what the recipient is addressed by; None: by its number.
    """
    by_name = None if theirs is None else lid or theirs.jid
    to = by_name or own.lid.bare
    me = own.lid if to.is_lid else own.jid
    own_devices = ours.addresses(me.bare)
    devices = () if theirs is None else theirs.addresses(to)
    return Target(
        to=to,
        pn=theirs.jid if theirs is not None and to.is_lid else None,
        devices=devices,
        own_devices=tuple(jid for jid in own_devices if jid != me),
        phash=phash({*devices, *own_devices, me}),
    )


def missed_of(target: Target, row: OutboxRow, own: PairedIdentity) -> Target:
    """The part of a target that a row was not encrypted for."""
    ourselves = (own.jid.user, own.lid.user)
    # By number alone: the form may have changed.
    had = participants_of(row)
    ours = {jid.device for jid in had if jid.user in ourselves}
    theirs = {jid.device for jid in had if jid.user not in ourselves}
    return replace(
        target,
        devices=tuple(jid for jid in target.devices if jid.device not in theirs),
        own_devices=tuple(jid for jid in target.own_devices if jid.device not in ours),
    )


def falls_short(row: OutboxRow, own: PairedIdentity) -> bool:
    """Whether a row was not encrypted for every device of the lists it was armed for."""
    reached = participants_of(row)
    if not reached:
        return False
    me = own.lid if reached[0].is_lid else own.jid
    return phash({*reached, me}) != row.phash
