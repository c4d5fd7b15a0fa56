"""What a stolen file tells, and what moving its rows about achieves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sitpayd.errors import SealError
from sitpayd.storage import checks
from sitpayd.storage.account import set_fact
from sitpayd.storage.database import Database, Unit, open_database
from sitpayd.storage.devices import forget_keys, remove_device, set_phone
from sitpayd.storage.inbox import forget_texts as forget_incoming_texts
from sitpayd.storage.inbox import receive
from sitpayd.storage.outbox import accept, arm, forget_texts, mark_sent, next_row
from sitpayd.storage.partners import user_by_token
from sitpayd.storage.people import Token, keep_name, keep_token
from sitpayd.storage.phone import keep_told
from sitpayd.storage.records import Accepted, Incoming, SharedKey, Told
from sitpayd.storage.sessions import (
    add_prekeys,
    learn_mapping,
    lid_of,
    load_identities,
    load_sessions,
    prekey,
    save_credentials,
    save_sessions,
)
from tests.storage.builders import Tenant, a_message, make_tenant, merged, some_vault

PHONE, PN, LID = "4915112345678", "919876543210", "987654321098765"
PEER = f"{LID}@lid"
CANARIES = {
    "text": "canary of an outgoing text",
    "incoming": "canary of an incoming text",
    "push name": "canary of a push name",
    "idempotency key": "canary of an idempotency key",
    "stanza": "canary of a stanza",
    "participants": "canary of the participants",
    "session": "canary of a session",
    "identity": "canary of an identity",
    "credentials": "canary of the credentials",
    "prekey": "canary of a prekey",
    "account fact": "canary of an account fact",
    "phone": PHONE,
    "token": "canary of a privacy token",
    "name": "canary of a name",
    "fact": "canary of a fact",
    "app state key": "canary of an app state key",
    "notice": "canary of a notice",
    "recipient": PN,
    "lid": LID,
}


def live(unit: Unit, tenant: Tenant) -> None:
    """Do everything that stores something secret."""
    device = tenant.device
    save_credentials(unit, device.id, CANARIES["credentials"].encode())
    set_phone(unit, device.id, PHONE)
    add_prekeys(unit, device.id, [(1, CANARIES["prekey"].encode())])
    learn_mapping(unit, device.id, PN, LID, merged)
    set_fact(unit, device.id, "push_name", CANARIES["account fact"].encode())
    checks.note(unit, device.id, {PN: True})
    message = a_message(
        device,
        recipient=PN,
        text=CANARIES["text"],
        idempotency_key=CANARIES["idempotency key"],
    )
    outcome = accept(unit, message)
    assert isinstance(outcome, Accepted)
    arm(
        unit,
        device.id,
        outcome.row.id,
        CANARIES["stanza"].encode(),
        sessions={(PEER, 0): CANARIES["session"].encode()},
        identities={(PEER, 0): CANARIES["identity"].encode()},
        participants=CANARIES["participants"].encode(),
        phash="2:abcdef",
    )
    incoming = Incoming(
        "A1", PEER, PEER, False, CANARIES["incoming"], unit.now, CANARIES["push name"]
    )
    receive(unit, device.id, incoming, sessions={}, identities={})
    keep_token(unit, device.id, PEER, Token(CANARIES["token"].encode(), 1, 2))
    keep_name(unit, device.id, PEER, CANARIES["name"])
    set_fact(unit, device.id, "salt", CANARIES["fact"].encode())
    key = SharedKey(b"id", CANARIES["app state key"].encode(), 1)
    keep_told(unit, device.id, "A2", Told((key,), CANARIES["notice"].encode()))


def forget(unit: Unit, tenant: Tenant) -> None:
    """Do everything that frees pages."""
    row = next_row(unit, tenant.device.id)
    assert row is not None
    mark_sent(unit, tenant.device.id, row.wa_message_id, unit.now)
    later = unit.now.replace(year=unit.now.year + 1)
    forget_texts(unit, later)
    forget_incoming_texts(unit, later)
    remove_device(unit, tenant.device.id)
    forget_keys(unit, tenant.device.id)


def as_integer(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def found_in(directory: Path, secrets: dict[str, str]) -> set[str]:
    content = b"".join(
        file.read_bytes() for file in directory.iterdir() if file.name != "sitpayd.db.lock"
    )
    assert b"SQLite format 3" in content
    # SQLite stores text in UTF-8; a number could also stand as an integer.
    found = {name for name, secret in secrets.items() if secret.encode() in content}
    for name, secret in secrets.items():
        if secret.isdigit() and as_integer(int(secret)) in content:
            found.add(name)
    return found


async def test_no_secret_stands_in_file_log_or_free_pages(tmp_path: Path) -> None:
    async with open_database(f"sqlite:///{tmp_path}/sitpayd.db", some_vault()) as database:
        tenant = await database.write(make_tenant)
        secrets = CANARIES | {
            "partner key": tenant.key,
            "user token": tenant.user.token,
            "device token": tenant.device.token,
        }
        await database.write(live, tenant)
        assert found_in(tmp_path, secrets) == set()
        # The scan can fail: a name that may stand in clear is found.
        assert found_in(tmp_path, {"name": tenant.partner.name}) == {"name"}
        await database.write(forget, tenant)
        assert found_in(tmp_path, secrets) == set()
        await database.truncate_log()
        assert found_in(tmp_path, secrets) == set()
    assert found_in(tmp_path, secrets) == set()


async def test_forgotten_values_are_gone_even_sealed(tmp_path: Path) -> None:
    async with open_database(f"sqlite:///{tmp_path}/sitpayd.db", some_vault()) as database:
        tenant = await database.write(make_tenant)
        await database.write(live, tenant)

        def sealed_values(unit: Unit) -> dict[str, str]:
            row = unit.one(
                "SELECT hex(text_sealed), hex(stanza_sealed),"
                " (SELECT hex(record_sealed) FROM signal_session),"
                " (SELECT hex(blob_sealed) FROM credentials) FROM outbox"
            )
            return {str(number): value for number, value in enumerate(row)}

        sealed = await database.read(sealed_values)
        await database.truncate_log()

    def present() -> set[str]:
        content = (tmp_path / "sitpayd.db").read_bytes()
        return {name for name, value in sealed.items() if bytes.fromhex(value) in content}

    assert present() == set(sealed)
    async with open_database(f"sqlite:///{tmp_path}/sitpayd.db", some_vault()) as database:
        await database.write(forget, tenant)
        await database.truncate_log()
        assert present() == set()


@pytest.fixture
async def two(database: Database) -> tuple[Tenant, Tenant]:
    first = await database.write(make_tenant, "First")
    second = await database.write(make_tenant, "Second")
    for tenant in (first, second):
        await database.write(live, tenant)
        await database.write(save_sessions, tenant.device.id, {(PEER, 1): b"another device"})
    return first, second


SWAPS: dict[str, tuple[str, Callable[[Unit], object]]] = {
    "session to another device": (
        "UPDATE signal_session SET record_sealed = (SELECT record_sealed FROM signal_session"
        " WHERE device_id = 1 AND device_number = 0) WHERE device_id = 2 AND device_number = 0",
        lambda unit: load_sessions(unit, 2, PEER),
    ),
    "session to another device number": (
        "UPDATE signal_session SET record_sealed = (SELECT record_sealed FROM signal_session"
        " WHERE device_id = 2 AND device_number = 1) WHERE device_id = 2 AND device_number = 0",
        lambda unit: load_sessions(unit, 2, PEER),
    ),
    "session row with its name": (
        "UPDATE signal_session SET device_number = 7 WHERE device_id = 2 AND device_number = 0",
        lambda unit: load_sessions(unit, 2, PEER),
    ),
    "identity": (
        "UPDATE identity SET public_key_sealed ="
        " (SELECT public_key_sealed FROM identity WHERE device_id = 1) WHERE device_id = 2",
        lambda unit: load_identities(unit, 2, PEER),
    ),
    "prekey": (
        "UPDATE prekey SET key_id = 9 WHERE device_id = 2",
        lambda unit: prekey(unit, 2, 9),
    ),
    "mapping": (
        "UPDATE lid_mapping SET lid_sealed = pn_sealed WHERE device_id = 2",
        lambda unit: lid_of(unit, 2, PN),
    ),
    "message text": (
        "UPDATE outbox SET text_sealed = (SELECT text_sealed FROM outbox WHERE device_id = 1)"
        " WHERE device_id = 2",
        lambda unit: next_row(unit, 2),
    ),
    "message text and recipient": (
        "UPDATE outbox SET text_sealed = recipient_sealed WHERE device_id = 2",
        lambda unit: next_row(unit, 2),
    ),
}


@pytest.mark.parametrize("swap", SWAPS)
async def test_a_moved_row_does_not_open(
    database: Database, two: tuple[Tenant, Tenant], swap: str
) -> None:
    statement, look = SWAPS[swap]
    await database.read(look)
    assert await database.write(lambda unit: unit.run(statement)) == 1
    with pytest.raises(SealError):
        await database.read(look)


async def test_a_moved_user_token_does_not_open(
    database: Database, two: tuple[Tenant, Tenant]
) -> None:
    first, second = two
    await database.write(
        lambda unit: unit.run(
            "UPDATE end_user SET token_sealed ="
            " (SELECT token_sealed FROM end_user WHERE partner_id = ?) WHERE partner_id = ?",
            (first.partner.id, second.partner.id),
        )
    )
    with pytest.raises(SealError):
        await database.read(user_by_token, second.partner.id, second.user.token)


async def test_the_same_peer_of_two_devices_is_not_seen_to_be_the_same(
    database: Database, two: tuple[Tenant, Tenant]
) -> None:
    def digests(unit: Unit) -> list[bytes]:
        rows = unit.rows("SELECT DISTINCT user_digest FROM signal_session")
        return [row["user_digest"] for row in rows] + [
            row["recipient_digest"] for row in unit.rows("SELECT recipient_digest FROM outbox")
        ]

    found = await database.read(digests)
    assert len(found) == len(set(found)) == 4


async def test_errors_name_no_values(database: Database) -> None:
    tenant = await database.write(make_tenant)
    message = a_message(tenant.device, text=CANARIES["text"])
    await database.write(accept, message)
    with pytest.raises(Exception, match="UNIQUE") as caught:
        await database.write(accept, message)
    assert CANARIES["text"] not in repr(caught.value)
