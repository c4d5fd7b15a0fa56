"""Seed: linked devices by the thousand, in the simulator and in the daemon's database.

The simulator makes them through its own linking, without sockets, and says what each remembers;
here that is written to the database with the daemon's own queries, before the daemon is started.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.fleet import FIRST_OWNER
from bench.http import Http, Json
from sitpayd.settings import SECRET_FILE
from sitpayd.storage.database import Database, Unit, open_database
from sitpayd.storage.devices import create_device, set_phone
from sitpayd.storage.partners import create_partner, create_user
from sitpayd.storage.sessions import add_prekeys, mark_uploaded, save_credentials
from sitpayd.storage.vault import SECRET_LEN, Vault
from sitpayd.whatsapp.credentials import Credentials

# Asked for and stored at once.
BATCH: Final = 250


@dataclass(frozen=True, slots=True)
class SeededDevice:
    """A device in both: its name and send token, its address and its owner's number."""

    session_id: str
    token: str
    jid: str
    phone: str


@dataclass(frozen=True, slots=True)
class Seed:
    """Devices of one partner, and what that partner asks with."""

    headers: Mapping[str, str]
    devices: Sequence[SeededDevice]


async def seed(directory: Path, control: Http, count: int) -> Seed:
    """Link so many devices in the simulator, and store them as if the daemon had linked them.

    Args:
        directory: the daemon's; its database must be migrated, and the daemon must not run.
    """
    async with open_database(
        f"sqlite:///{directory / 'sitpayd.db'}", _vault(directory)
    ) as database:
        partner, key = await database.write(
            create_partner, "Bench", "bench@example.com", "example.com"
        )
        user = await database.write(create_user, partner.id, "Bench", "bench@example.com")
        devices: list[SeededDevice] = []
        while len(devices) < count:
            wanted = min(BATCH, count - len(devices))
            first = str(FIRST_OWNER + len(devices))
            made = await control.post("/devices", {"first": first, "count": wanted})
            devices += await _store(database, partner.id, user.id, len(devices), made["devices"])
    return Seed({"x-api-key": key, "x-user-token": user.token}, devices)


async def _store(
    database: Database, partner_id: int, user_id: int, number: int, told: object
) -> list[SeededDevice]:
    assert isinstance(told, list)
    return await database.write(_insert, partner_id, user_id, number, told)


def _insert(
    unit: Unit, partner_id: int, user_id: int, number: int, told: Sequence[Json]
) -> list[SeededDevice]:
    seeded = []
    for offset, device in enumerate(told):
        blob = base64.b64decode(str(device["credentials"]))
        paired = Credentials.from_bytes(blob).paired
        assert paired is not None
        record = create_device(unit, partner_id, user_id, f"Device {number + offset}")
        save_credentials(unit, record.id, blob)
        set_phone(unit, record.id, paired.jid.user)
        prekeys = device["prekeys"]
        assert isinstance(prekeys, dict)
        keys = [(int(key_id), base64.b64decode(key)) for key_id, key in prekeys.items()]
        add_prekeys(unit, record.id, keys)
        mark_uploaded(unit, record.id, [key_id for key_id, _ in keys])
        seeded.append(
            SeededDevice(record.session_id, record.token, str(paired.jid), paired.jid.user)
        )
    return seeded


def _vault(directory: Path) -> Vault:
    """The vault of the daemon's secret; a new one is put where the daemon finds it."""
    path = directory / SECRET_FILE
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_bytes(SECRET_LEN).hex())
    return Vault(bytes.fromhex(path.read_text()))
