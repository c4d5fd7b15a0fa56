"""Queries about number checks: which numbers have an account, and how many were looked up.

Looking numbers up in volume costs accounts, and so does writing to numbers that have none. So an
answer is kept, a look-up is noted before it is made, and a number is asked about once an hour at
most: then the rows of the last hour are the look-ups of the last hour. Whom a row is about stands
only as a keyed digest, the one by which outbox and inbox find a person.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Final

from sitpayd.storage import sessions
from sitpayd.storage.contacts import LID_SUFFIX, PN_SUFFIX, closeness, person_digest
from sitpayd.storage.database import Unit
from sitpayd.storage.records import Closeness, NumberStanding, from_micros, to_micros

# People seldom give their account up, and a wrong yes costs one refused message.
KEEP_REGISTERED: Final = timedelta(days=30)
# Anybody may register any minute, and a wrong no keeps a message from somebody who waits for it.
KEEP_ABSENT: Final = timedelta(hours=24)
# Who was asked about in vain is not asked about again so soon. It is also the time in which the
# look-ups of a device are counted.
HOUR: Final = timedelta(hours=1)

_KEPT: Final[Mapping[bool | None, timedelta]] = {
    True: KEEP_REGISTERED,
    False: KEEP_ABSENT,
    None: HOUR,
}

# Condition on an outbox row; `absent_since` is what it needs.
RECIPIENT_IS_ABSENT: Final = (
    "EXISTS (SELECT 1 FROM number_check WHERE number_check.device_id = outbox.device_id"
    " AND number_digest = recipient_digest AND NOT registered"
    " AND checked_at > ? AND checked_at <= ?)"
)


def standing(
    unit: Unit, device_id: int, numbers: Iterable[str], per_hour: int | None
) -> dict[str, NumberStanding]:
    """Tell what is known about these numbers, and which of the others may be asked about.

    With whom the device has a chat or a session has an account, unless WhatsApp said otherwise
    since.

    Args:
        numbers: digits.
        per_hour: how many may be looked up in any hour; None: any number.
    """
    found: dict[str, NumberStanding] = {}
    budget = None if per_hour is None else _Budget(unit, device_id, per_hour)
    for number in numbers:
        known = _known(unit, device_id, number)
        if known is None:
            known = NumberStanding(None) if budget is None else budget.take()
        found[number] = known
    return found


def take(
    unit: Unit, device_id: int, numbers: Iterable[str], per_hour: int | None
) -> tuple[str, ...]:
    """Choose those of these numbers that WhatsApp is asked about now, and note the look-ups."""
    chosen = standing(unit, device_id, numbers, per_hour)
    asked = tuple(number for number, known in chosen.items() if known.may_be_asked)
    note(unit, device_id, dict.fromkeys(asked))
    return asked


def note(unit: Unit, device_id: int, answers: Mapping[str, bool | None]) -> None:
    """Note look-ups with what they told; None: nothing yet."""
    now = to_micros(unit.now)
    unit.run_many(
        "INSERT INTO number_check (device_id, number_digest, registered, checked_at)"
        " VALUES (?, ?, ?, ?) ON CONFLICT (device_id, number_digest)"
        " DO UPDATE SET registered = excluded.registered, checked_at = excluded.checked_at",
        [
            (device_id, person_digest(unit, device_id, number), registered, now)
            for number, registered in answers.items()
        ],
    )
    unit.run(
        "DELETE FROM number_check WHERE device_id = ? AND checked_at <= ?",
        (device_id, to_micros(unit.now - KEEP_REGISTERED)),
    )


def absent_since(unit: Unit) -> tuple[int, int]:
    """Between which times, microseconds, somebody was found absent who still counts as that."""
    return to_micros(unit.now - KEEP_ABSENT), to_micros(unit.now)


def checked(unit: Unit, device_id: int, number: str) -> NumberStanding | None:
    """What a look-up of this number told; None: none was made, or it is too long ago."""
    row = unit.row(
        "SELECT registered, checked_at FROM number_check WHERE device_id = ? AND number_digest = ?",
        (device_id, person_digest(unit, device_id, number)),
    )
    if row is None:
        return None
    registered = None if row["registered"] is None else bool(row["registered"])
    at = from_micros(row["checked_at"])
    until = at + _KEPT[registered]
    # A clock that was ahead has left nothing that holds.
    if not at <= unit.now < until:
        return None
    if registered is None:
        return NumberStanding(None, at, "no_answer", until)
    return NumberStanding(registered, at)


def is_absent(unit: Unit, device_id: int, number: str) -> bool:
    """Whether WhatsApp said, not long ago, that this number has no account."""
    told = checked(unit, device_id, number)
    return told is not None and told.registered is False


def forget_all(unit: Unit, device_id: int) -> None:
    """Delete every check of a device."""
    unit.run("DELETE FROM number_check WHERE device_id = ?", (device_id,))


class _Budget:
    """How many more look-ups of a device this hour allows."""

    def __init__(self, unit: Unit, device_id: int, per_hour: int) -> None:
        now, since = to_micros(unit.now), to_micros(unit.now - HOUR)
        rows = unit.rows(
            "SELECT checked_at FROM number_check WHERE device_id = ? AND checked_at > ?"
            " AND checked_at <= ? ORDER BY checked_at DESC LIMIT ?",
            (device_id, since, now, per_hour),
        )
        self._left = per_hour - len(rows)
        # Once the oldest of these leaves the hour there is room for one more.
        self._until = (from_micros(rows[-1]["checked_at"]) if rows else unit.now) + HOUR

    def take(self) -> NumberStanding:
        """Spend a look-up, if there is one left."""
        if self._left <= 0:
            return NumberStanding(None, held_by="check_limit", held_until=self._until)
        self._left -= 1
        return NumberStanding(None)


def _known(unit: Unit, device_id: int, number: str) -> NumberStanding | None:
    told = checked(unit, device_id, number)
    if told is not None and told.registered is not None:
        return told
    is_stranger = closeness(unit, device_id, number) is Closeness.STRANGER
    if not is_stranger or _has_session(unit, device_id, number):
        return NumberStanding(True)
    return told


def _has_session(unit: Unit, device_id: int, number: str) -> bool:
    names = [number + PN_SUFFIX]
    lid = sessions.lid_of(unit, device_id, number)
    if lid is not None:
        names.append(lid + LID_SUFFIX)
    return any(sessions.has_session(unit, device_id, name) for name in names)
