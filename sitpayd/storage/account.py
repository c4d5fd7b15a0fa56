"""Queries about a linked account: what servers and phone tell of it, one sealed value by name."""

from __future__ import annotations

from collections.abc import Iterable

from sitpayd.storage.database import Unit
from sitpayd.storage.records import DIRTY_FACT, PROPS_FACT, ROUTING_FACT


def fact(unit: Unit, device_id: int, name: str) -> bytes | None:
    """Look a fact up; None: nobody told it."""
    sealed = unit.value(
        bytes,
        "SELECT value_sealed FROM account_fact WHERE device_id = ? AND name = ?",
        (device_id, name),
    )
    return sealed and unit.vault.open("account_fact", device_id, "value", name, sealed)


def set_fact(unit: Unit, device_id: int, name: str, value: bytes) -> None:
    """Note a fact in the place of what was noted before."""
    sealed = unit.vault.seal("account_fact", device_id, "value", name, value)
    unit.run(
        "INSERT INTO account_fact (device_id, name, value_sealed) VALUES (?, ?, ?)"
        " ON CONFLICT (device_id, name) DO UPDATE SET value_sealed = excluded.value_sealed",
        (device_id, name, sealed),
    )


def forget_facts(unit: Unit, device_id: int) -> None:
    """Delete every fact of a device."""
    unit.run("DELETE FROM account_fact WHERE device_id = ?", (device_id,))


def facts(unit: Unit, device_id: int, names: Iterable[str]) -> dict[str, bytes]:
    """Look several facts up; what nobody told is left out."""
    found = ((name, fact(unit, device_id, name)) for name in names)
    return {name: value for name, value in found if value is not None}


def drop_fact(unit: Unit, device_id: int, name: str) -> None:
    """Delete a fact, if it was noted."""
    unit.run("DELETE FROM account_fact WHERE device_id = ? AND name = ?", (device_id, name))


def forget_login_facts(unit: Unit, device_id: int) -> None:
    """Delete what the server told about a login that is over; what is the account's stays."""
    unit.run(
        "DELETE FROM account_fact WHERE device_id = ? AND (name IN (?, ?) OR name GLOB ?)",
        (device_id, ROUTING_FACT, PROPS_FACT, f"{DIRTY_FACT}*"),
    )
