"""Notes: what a request says about itself, for its log line and its error envelope.

The gate makes them, routes fill them in. Public ids only: a note is written to the log.
"""

from __future__ import annotations

import secrets
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

# 80 random bits: unique among the requests anybody will compare.
_REQUEST_ID_BYTES: Final = 10


@dataclass(slots=True)
class Notes:
    """What is known about the request under way.

    Attributes:
        route: the rule that matched, without values; None before one did.
        message_id: the message the request was about.
    """

    request_id: str
    route: str | None = None
    session_id: str | None = None
    message_id: str | None = None


_notes: Final[ContextVar[Notes]] = ContextVar("notes")


def open_notes() -> Notes:
    """Begin the notes of a request; the tasks it starts share them."""
    notes = Notes(f"req_{secrets.token_hex(_REQUEST_ID_BYTES)}")
    _notes.set(notes)
    return notes


def current_notes() -> Notes:
    """The notes of the request under way."""
    return _notes.get()
