"""Arming: sessions and a text in; new sessions and the finished stanza out. Pure.

Everything is computed on values; what the caller holds stays as it was. The result may be used only
after it is committed (storage/outbox.py `arm`), and the sessions with it, in one transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from sitpayd.actors.commands import Arm, AskPhone, Resend
from sitpayd.storage.records import Address, OutboxRow
from sitpayd.whatsapp.codec import encode
from sitpayd.whatsapp.credentials import Credentials
from sitpayd.whatsapp.errors import RemoteProtocolError
from sitpayd.whatsapp.jid import LID_SERVER, Jid
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.signal.session import (
    PreKeyBundle,
    SessionRecord,
    encrypt,
    is_begun_from,
    start,
)
from sitpayd.whatsapp.stanzas.content import device_sent, pad, placeholder_request, text_message
from sitpayd.whatsapp.stanzas.message import Participant, outgoing, peer, resend, unhosted
from sitpayd.whatsapp.stanzas.privacy import Proof

# Of people who are named by LID already.
NO_LIDS: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ArmedMessage:
    """A message encrypted for every device of those wanted that can be reached.

    Attributes:
        stanza: encoded, before Noise.
        sessions: after the ratchet steps, by address.
        devices: for whom it was encrypted by this.
    """

    stanza: bytes
    sessions: Mapping[Address, SessionRecord]
    devices: tuple[Jid, ...]


def address_of(device: Jid, lids: Mapping[str, str] = NO_LIDS) -> Address:
    """The Signal address of a device: by LID where one is known, hosted devices like ordinary ones.

    Args:
        lids: LIDs by number, of the people concerned.
    """
    device = canonical(device, lids)
    return str(device.bare), device.device


def canonical(device: Jid, lids: Mapping[str, str] = NO_LIDS) -> Jid:
    """The one name of a device among its several: by LID where one is known, never hosted."""
    device = unhosted(device)
    lid = None if device.is_lid else lids.get(device.user)
    return device if lid is None else Jid(lid, LID_SERVER, device.device)


def participants_of(row: OutboxRow) -> tuple[Jid, ...]:
    """For whom a row was encrypted."""
    return tuple(Jid.parse(name) for name in (row.participants or b"").decode().split())


def arm(
    command: Arm,
    credentials: Credentials,
    sessions: Mapping[Address, SessionRecord],
    lids: Mapping[str, str] = NO_LIDS,
    proof: Proof | None = None,
) -> ArmedMessage | None:
    """Encrypt a row for the devices of its recipient and for our own other ones.

    A device without session or usable bundle is left out. None: no device of the recipient is left,
    or, for a row that has missed devices, none at all.

    Args:
        lids: LIDs by number, where the row is addressed by number.
        proof: that we are no strangers to the recipient.
    """
    paired = credentials.paired
    assert paired is not None
    message = text_message(command.row.text)
    fanout = _Fanout(credentials, sessions, command.bundles, lids)
    reached = fanout.add(command.devices, message)
    missed = command.row.missed_devices
    if command.devices and not (reached or missed):
        return None
    reached += fanout.add(command.own_devices, device_sent(command.to, message))
    if not reached:
        return None
    stanza = outgoing(
        command.row.wa_message_id,
        command.to,
        fanout.participants,
        peer_recipient_pn=command.pn,
        device_identity=paired.signed_identity,
        partial=missed,
        proof=proof,
    )
    return ArmedMessage(encode(stanza), fanout.stepped, tuple(reached))


@dataclass(frozen=True, slots=True)
class ArmedResend:
    """Something encrypted for one device alone: a message anew under its id, or a peer message."""

    stanza: Node
    sessions: Mapping[Address, SessionRecord]


def arm_resend(
    row: OutboxRow,
    command: Resend,
    credentials: Credentials,
    record: SessionRecord | None,
    lids: Mapping[str, str] = NO_LIDS,
) -> ArmedResend | None:
    """Encrypt a sent message for the device whose retry receipt asks for it.

    Args:
        record: our session with that device.
        lids: LIDs by number, where the device is named by number.

    None: there is neither a session nor usable keys.
    """
    asked, paired = command.receipt, credentials.paired
    retry, device = asked.retry, asked.from_
    assert paired is not None
    assert retry is not None
    assert device is not None
    message = text_message(row.text)
    if device.user in (paired.jid.user, paired.lid.user):
        message = device_sent(asked.recipient or device.bare, message)
    kept, bundle = None if command.anew else record, command.bundle
    if kept is not None and bundle is not None and is_begun_from(kept, bundle):
        # Its receipt comes again if its ack was lost.
        bundle = None
    bundles = {} if bundle is None else {device: bundle}
    sessions = {} if kept is None else {address_of(device, lids): kept}
    fanout = _Fanout(credentials, sessions, bundles, lids)
    if not fanout.add((device,), message):
        return None
    stanza = resend(
        row.wa_message_id,
        fanout.participants[0],
        count=retry.count,
        t=retry.t or int(row.created_at.timestamp()),
        recipient=asked.recipient,
        device_identity=paired.signed_identity,
    )
    return ArmedResend(stanza, fanout.stepped)


def arm_phone_request(
    command: AskPhone, id: str, credentials: Credentials, record: SessionRecord | None
) -> ArmedResend | None:
    """Encrypt for our phone the question for a message that could not be read.

    Args:
        id: of the question itself.
        record: our session with the phone; None: there is neither one nor usable keys.
    """
    paired = credentials.paired
    assert paired is not None
    phone = paired.jid.bare
    lids = {paired.jid.user: paired.lid.user}
    bundles = {} if command.bundle is None else {phone: command.bundle}
    sessions = {} if record is None else {address_of(phone, lids): record}
    fanout = _Fanout(credentials, sessions, bundles, lids)
    if not fanout.add((phone,), placeholder_request(command.message.name)):
        return None
    stanza = peer(id, fanout.participants[0], device_identity=paired.signed_identity)
    return ArmedResend(stanza, fanout.stepped)


class _Fanout:
    def __init__(
        self,
        credentials: Credentials,
        sessions: Mapping[Address, SessionRecord],
        bundles: Mapping[Jid, PreKeyBundle],
        lids: Mapping[str, str],
    ) -> None:
        self._keys = credentials.keys
        self._sessions = sessions
        self._bundles = bundles
        self._lids = lids
        self.participants: list[Participant] = []
        self.stepped: dict[Address, SessionRecord] = {}

    def add(self, devices: Iterable[Jid], message: bytes) -> list[Jid]:
        reached = []
        for device in devices:
            record = self._record(device)
            if record is None:
                continue
            encrypted = encrypt(
                record, self._keys.identity, self._keys.registration_id, pad(message)
            )
            self.stepped[address_of(device, self._lids)] = encrypted.record
            self.participants.append(Participant(device, encrypted.kind, encrypted.body))
            reached.append(device)
        return reached

    def _record(self, device: Jid) -> SessionRecord | None:
        record = self._sessions.get(address_of(device, self._lids))
        bundle = self._bundles.get(device)
        if bundle is None:
            return record
        try:
            return start(bundle, self._keys.identity, previous=record)
        except RemoteProtocolError:
            return record  # a bundle that does not verify is as good as none
