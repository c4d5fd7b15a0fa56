"""Phase: where in its life a device stands.

The public `status` is the phase in lower case, with `reason` beside it. What leads from one to the
next is machine.py.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Phase(StrEnum):
    """A device's phase; the value is the public status word."""

    UNPAIRED = "unpaired"
    PAIRING = "pairing"
    PAIRED = "paired"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    WAITING = "waiting"
    PAUSED = "paused"
    LOGGED_OUT = "logged_out"
    REPLACED = "replaced"
    BANNED = "banned"
    OUTDATED = "outdated"
    ACTION_REQUIRED = "action_required"
    FAULTED = "faulted"


# A resting device never dials by itself; it still answers its mailbox.
RESTING: Final = frozenset(
    {Phase.LOGGED_OUT, Phase.REPLACED, Phase.BANNED, Phase.OUTDATED, Phase.ACTION_REQUIRED}
)

# These do not come back by themselves: a person has to act before anything can be sent.
NEEDS_A_PERSON: Final = RESTING | {Phase.UNPAIRED, Phase.PAIRING, Phase.PAUSED}
