"""Facts: what the daemon as a whole remembers, one number by name."""

from __future__ import annotations

from sitpayd.storage.database import Unit


def fact(unit: Unit, name: str) -> int | None:
    """Look a fact up; None: nobody noted it."""
    value = unit.value(bytes, "SELECT value FROM setting WHERE name = ?", (name,))
    return None if value is None else int(value)


def note_fact(unit: Unit, name: str, value: int) -> None:
    """Note a fact in the place of what was noted before."""
    unit.run(
        "INSERT INTO setting VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (name, str(value).encode("ascii")),
    )
