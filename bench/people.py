"""People: linked devices with keys, rows and sessions, for what is measured in this process."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import trio

from bench.fleet import FIRST_OWNER, FIRST_RECIPIENT, TEXT
from sitpayd.actors.arming import arm
from sitpayd.actors.commands import Arm
from sitpayd.actors.events import Armed
from sitpayd.actors.memory import DeviceMemory
from sitpayd.actors.outcomes import Outcomes
from sitpayd.storage import outbox
from sitpayd.storage.database import Database
from sitpayd.storage.devices import create_device
from sitpayd.storage.partners import create_partner, create_user
from sitpayd.storage.records import Accepted, Address, NewMessage, OutboxRow, utc_now
from sitpayd.storage.vault import new_message_id
from sitpayd.whatsapp.credentials import Credentials
from sitpayd.whatsapp.jid import Jid, lid, pn
from sitpayd.whatsapp.keys import DeviceKeys, KeyPair
from sitpayd.whatsapp.message_id import new_wa_message_id
from sitpayd.whatsapp.signal.session import PreKeyBundle, SessionRecord
from sitpayd.whatsapp.stanzas import pairing
from sitpayd.whatsapp.stanzas.message import phash

COMPANION: Final = 1
FIRST_LID: Final = 100_000_000_000_000
HOUR: Final = timedelta(hours=1)


@dataclass(slots=True)
class Sender:
    """A linked device that writes to one person, who has one device, as our own account has."""

    database: Database
    memory: DeviceMemory
    device_id: int
    credentials: Credentials
    recipient: Jid
    recipient_pn: Jid
    own_phone: Jid
    first_row: OutboxRow
    # Of the bare loop; those of the pipeline are the memory's.
    sessions: dict[Address, SessionRecord] = field(default_factory=dict)

    def order(self, row: OutboxRow, bundles: dict[Jid, PreKeyBundle] | None = None) -> Arm:
        """What the machine says when a row is to be armed."""
        devices, own = (self.recipient,), (self.own_phone,)
        everybody = phash({*devices, *own, self.own_phone.with_device(COMPANION)})
        return Arm(row, self.recipient, self.recipient_pn, devices, own, everybody, bundles or {})

    async def accept(self) -> OutboxRow:
        """Store one message to be sent."""
        return await _accept(self.database, self.device_id, self.recipient_pn.user)


async def make_senders(database: Database, count: int) -> list[Sender]:
    """Make linked devices; each has begun its sessions with a first message."""
    keygen = trio.CapacityLimiter(1)
    outcomes = Outcomes()
    partner, _ = await database.write(create_partner, "Bench", "bench@example.com", "example.com")
    user = await database.write(create_user, partner.id, "Bench", "bench@example.com")
    senders = []
    for number in range(count):
        device = await database.write(create_device, partner.id, user.id, f"Device {number}")
        memory = DeviceMemory(database, outcomes, device.id, keygen)
        keys = await memory.make_keys()
        own_phone = lid(str(FIRST_LID + number))
        await memory.save_identity(_linked(keys, number, own_phone))
        assert memory.credentials is not None
        recipient_pn = pn(str(FIRST_RECIPIENT + number))
        senders.append(
            Sender(
                database,
                memory,
                device.id,
                memory.credentials,
                lid(str(2 * FIRST_LID + number)),
                recipient_pn,
                own_phone,
                await _accept(database, device.id, recipient_pn.user),
            )
        )
        await _begin(senders[-1])
    return senders


def _linked(keys: DeviceKeys, number: int, own_phone: Jid) -> pairing.PairedIdentity:
    now = int(time.time())
    signed = pairing.make_signed_identity(
        KeyPair.generate(),
        keys.identity.public_key,
        keys.adv_secret,
        key_index=COMPANION,
        timestamp=now,
        raw_id=number,
    )
    told = pairing.pair_success(
        "1",
        signed,
        jid=pn(str(FIRST_OWNER + number), COMPANION),
        lid=own_phone.with_device(COMPANION),
        platform="android",
        t=now,
    )
    paired, _ = pairing.accept_pair_success(told, keys)
    return paired


async def _begin(sender: Sender) -> None:
    """Begin the sessions of the pipeline, in the database, and those of the bare loop."""
    bundles = {jid: _bundle() for jid in (sender.recipient, sender.own_phone)}
    order = sender.order(sender.first_row, bundles)
    begun = arm(order, sender.credentials, {})
    assert begun is not None
    sender.sessions.update(begun.sessions)
    armed = await sender.memory.arm(order)
    assert isinstance(armed, Armed)
    await sender.database.write(
        outbox.mark_sent, sender.device_id, sender.first_row.wa_message_id, utc_now()
    )


def _bundle() -> PreKeyBundle:
    """What the server hands out of somebody's keys."""
    keys, prekey = DeviceKeys.generate(), KeyPair.generate()
    signed = keys.signed_prekey
    return PreKeyBundle(
        registration_id=keys.registration_id,
        identity=keys.identity.public_key,
        signed_prekey_id=signed.key_id,
        signed_prekey=signed.key_pair.public_key,
        signature=signed.signature,
        prekey_id=1,
        prekey=prekey.public_key,
    )


async def _accept(database: Database, device_id: int, to: str) -> OutboxRow:
    accepted = await database.write(
        outbox.accept,
        NewMessage(
            device_id=device_id,
            message_id=new_message_id(),
            wa_message_id=new_wa_message_id(),
            recipient=to,
            text=TEXT,
            idempotency_key=None,
            body_hash=bytes(32),
            expires_at=utc_now() + HOUR,
        ),
    )
    assert isinstance(accepted, Accepted)
    return accepted.row
