"""Queries about a linked account: what server and phone tell of it, sealed, by name."""

from __future__ import annotations

from sitpayd.storage.database import Unit


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
