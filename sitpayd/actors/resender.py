"""Resender: what is encrypted once more for one device, between its machine and the database.

A message for the device that could not read it, and questions for our own phone. Whether that is
done is decided in repairs.py; here the session's step is committed before the stanza is handed out.
"""

from __future__ import annotations

from collections.abc import Mapping

from sitpayd.actors.arming import (
    address_of,
    arm_phone_request,
    arm_resend,
    canonical,
    participants_of,
)
from sitpayd.actors.commands import AskPhone, LookUpResend, Resend
from sitpayd.actors.events import ResendLookedUp, Resent
from sitpayd.actors.memory import DeviceMemory, devices_of
from sitpayd.actors.repairs import MAX_RESENDS
from sitpayd.actors.shelf import serialised
from sitpayd.storage import outbox, resends, sessions
from sitpayd.storage.database import Database, Unit
from sitpayd.storage.records import Address
from sitpayd.whatsapp.message_id import new_wa_message_id


class Resender:
    """One device's second encryptions.

    Args:
        memory: the keys and sessions of the same device.
    """

    def __init__(self, database: Database, memory: DeviceMemory) -> None:
        self._database = database
        self._memory = memory
        self._shelf = memory.shelf
        self._device_id = memory.device_id

    async def look_up(self, command: LookUpResend) -> ResendLookedUp:
        """Find what a device asks for, and what is known of that device."""
        asked = command.receipt
        assert asked.from_ is not None
        read = self._database.read
        row = await read(outbox.row_by_wa_message_id, self._device_id, asked.ids[0])
        participants = () if row is None else participants_of(row)
        lids = await self._shelf.lids_of((asked.from_, *participants))
        device, address = canonical(asked.from_, lids), address_of(asked.from_, lids)
        served = 0
        if row is not None:
            served = await read(resends.served, self._device_id, row.id, str(device))
        record = (await self._shelf.take([address])).get(address)
        return ResendLookedUp(
            asked,
            row if row is not None and row.text else None,
            device,
            frozenset(canonical(jid, lids) for jid in participants),
            served,
            None if record is None else record.current.base_key,
            None if record is None else record.remote_registration_id,
        )

    async def resend(self, command: Resend) -> Resent:
        """Encrypt a message anew for the device that asks, and commit that."""
        credentials, asked = self._memory.credentials, command.receipt
        assert credentials is not None
        assert asked.from_ is not None
        refused = Resent((command.ack,))
        read = self._database.read
        row = await read(outbox.row_by_wa_message_id, self._device_id, asked.ids[0])
        if row is None or not row.text:
            return refused  # forgotten since it was looked up
        lids = await self._shelf.lids_of([asked.from_])
        address = address_of(asked.from_, lids)
        record = (await self._shelf.take([address])).get(address)
        armed = arm_resend(row, command, credentials, record, lids)
        if armed is None:
            return refused
        news = await self._shelf.identities_news(armed.sessions)
        entitled = await self._database.write(
            resends.count_resend,
            self._device_id,
            row.id,
            str(canonical(asked.from_, lids)),
            MAX_RESENDS,
            serialised(armed.sessions),
            news.keys,
        )
        if not entitled:
            return refused
        self._shelf.keep(armed.sessions)
        return Resent((armed.stanza, command.ack), changed=devices_of(news))

    async def ask_phone(self, command: AskPhone) -> Resent:
        """Ask our phone for a message, and commit the step of the session with it."""
        credentials = self._memory.credentials
        assert credentials is not None
        assert credentials.paired is not None
        phone = (str(credentials.paired.lid.bare), 0)
        record = (await self._shelf.take([phone])).get(phone)
        armed = arm_phone_request(command, new_wa_message_id(), credentials, record)
        if armed is None:
            return Resent((), lacks_session=command.bundle is None)
        news = await self._shelf.identities_news(armed.sessions)
        # A phone that is asked twice answers twice, and the answers are told apart: so the stanza
        # itself is not kept. Its keys are, before it leaves.
        await self._database.write(_step, self._device_id, serialised(armed.sessions), news.keys)
        self._shelf.keep(armed.sessions)
        return Resent((armed.stanza,), changed=devices_of(news))


def _step(
    unit: Unit,
    device_id: int,
    stepped: Mapping[Address, bytes],
    identities: Mapping[Address, bytes],
) -> None:
    sessions.save_sessions(unit, device_id, stepped)
    sessions.save_identities(unit, device_id, identities)
