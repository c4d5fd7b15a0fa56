"""Builders for storage tests: a vault, a clock, a tenant with a device, a message."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from sitpayd.storage.database import Database, Unit
from sitpayd.storage.devices import create_device
from sitpayd.storage.partners import create_partner, create_user
from sitpayd.storage.records import DeviceRecord, NewMessage, PartnerRecord, UserRecord
from sitpayd.storage.vault import Vault, new_message_id

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
RECIPIENT = "919876543210@s.whatsapp.net"
TEXT = "Hello!"

_ids = itertools.count(1)


def some_vault(fill: int = 7) -> Vault:
    return Vault(bytes([fill]) * 32)


class Clock:
    """A wall clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **by: float) -> datetime:
        self.now += timedelta(**by)
        return self.now


@dataclass(frozen=True, slots=True)
class Tenant:
    partner: PartnerRecord
    key: str
    user: UserRecord
    device: DeviceRecord


def make_tenant(unit: Unit, name: str = "ABC Reseller") -> Tenant:
    partner, key = create_partner(unit, name, "abc@reseller.com", "api.reseller.com")
    user = create_user(unit, partner.id, "John Doe", "john@example.com")
    return Tenant(partner, key, user, create_device(unit, partner.id, user.id, "John iPhone"))


def merged(recent: bytes, other: bytes) -> bytes:
    """What stands in for the making of one session of two: both, in their order."""
    return recent + b" before " + other


async def some_tenant(database: Database) -> Tenant:
    return await database.write(make_tenant)


def a_message(device: DeviceRecord, **changes: object) -> NewMessage:
    message = NewMessage(
        device_id=device.id,
        message_id=new_message_id(),
        wa_message_id=f"3EB0{next(_ids):018X}",
        recipient=RECIPIENT,
        text=TEXT,
        idempotency_key=None,
        body_hash=b"h" * 32,
        expires_at=NOON + timedelta(days=1),
    )
    return replace(message, **changes)  # type: ignore[arg-type]  # names and types of NewMessage
