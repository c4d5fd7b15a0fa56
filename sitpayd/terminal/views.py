"""Views: what the daemon tells of its devices, parsed once, at the border.

Texts are as they came; who shows them cleans them (screen.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

from sitpayd.errors import SitpaydError

Json = dict[str, object]
T = TypeVar("T")

# Trouble first; within it what a person has to do something about. A status that is not listed is
# of another version of the daemon, and worth a look.
ORDER: Final = (
    "faulted",
    "banned",
    "replaced",
    "logged_out",
    "outdated",
    "action_required",
    "waiting",
    "paused",
    "connecting",
    "paired",
    "pairing",
    "unpaired",
    "connected",
)


class AnswerError(SitpaydError):
    """The daemon's answer is not of the shape we know: another version, or not sitpayd."""


@dataclass(frozen=True, slots=True)
class DeviceView:
    """One device, as its operator sees it."""

    session_id: str
    partner: int
    partner_name: str | None
    device_name: str | None
    phone: str | None
    status: str
    reason: str | None
    since: datetime
    until: datetime | None
    verified_at: datetime | None
    evidence: str | None

    @classmethod
    def parse(cls, told: object) -> DeviceView:
        """Read it from the daemon's JSON.

        Raises:
            AnswerError: If a field is missing or of another kind.
        """
        return cls(
            session_id=field(told, "session_id", str),
            partner=field(told, "partner", int),
            partner_name=optional(told, "partner_name", str),
            device_name=optional(told, "device_name", str),
            phone=optional(told, "phone", str),
            status=field(told, "status", str),
            reason=optional(told, "reason", str),
            since=_time(field(told, "since", str)),
            until=_optional_time(told, "until"),
            verified_at=_optional_time(told, "verified_at"),
            evidence=optional(told, "evidence", str),
        )

    @property
    def rank(self) -> tuple[int, float, str]:
        """Sorts trouble first, and of the same trouble the latest."""
        rank = ORDER.index(self.status) if self.status in ORDER else -1
        return rank, -self.since.timestamp(), self.session_id


@dataclass(frozen=True, slots=True)
class HistoryEvent:
    """Something that happened to a device."""

    at: datetime
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class DeviceHistory:
    """A device, why it is as it is, and what happened to it, oldest first."""

    device: DeviceView
    cause: str
    next: str
    advice: str | None
    events: tuple[HistoryEvent, ...]

    @classmethod
    def parse(cls, told: object) -> DeviceHistory:
        """Read it from the daemon's JSON.

        Raises:
            AnswerError: If a field is missing or of another kind.
        """
        explanation = field(told, "explanation", dict)
        return cls(
            device=DeviceView.parse(field(told, "device", dict)),
            cause=field(explanation, "cause", str),
            next=field(explanation, "next", str),
            advice=optional(explanation, "advice", str),
            events=tuple(map(_event, reversed(field(told, "events", list)))),
        )


def field(told: object, name: str, kind: type[T]) -> T:
    """Read a field.

    Raises:
        AnswerError: If it is missing or of another kind.
    """
    value = told.get(name) if isinstance(told, dict) else None
    if not isinstance(value, kind):
        raise AnswerError(f"the daemon's answer has no {name} that we understand")
    return value


def optional(told: object, name: str, kind: type[T]) -> T | None:
    """Read a field that may be null or missing."""
    if isinstance(told, dict) and told.get(name) is None:
        return None
    return field(told, name, kind)


def _event(told: object) -> HistoryEvent:
    return HistoryEvent(
        at=_time(field(told, "at", str)),
        kind=field(told, "kind", str),
        text=field(told, "text", str),
    )


def _optional_time(told: object, name: str) -> datetime | None:
    text = optional(told, name, str)
    return None if text is None else _time(text)


def _time(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise AnswerError("the daemon's answer holds a time that is none") from None
    if at.tzinfo is None:
        raise AnswerError("the daemon's answer holds a time without its zone")
    return at
