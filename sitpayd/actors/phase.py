"""Phase: where in its life a device stands.

The public `status` is the phase in lower case, with `reason` beside it. Here stands which phase may
follow which; what leads from one to the next is machine.py.
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

# Resting phases whose keys are still good: a person may wake the device.
REVIVABLE: Final = RESTING - {Phase.LOGGED_OUT}

# These do not come back by themselves: a person has to act before anything can be sent.
NEEDS_A_PERSON: Final = RESTING | {Phase.UNPAIRED, Phase.PAIRING, Phase.PAUSED}

# From a rest with good keys: a linked device connects again; an unlinked one, whose registration
# was refused, is linked anew.
_WOKEN: Final = frozenset({Phase.UNPAIRED, Phase.PAIRING, Phase.CONNECTING, Phase.LOGGED_OUT})

# Which phase may follow which. FAULTED is set by the supervisor and left with a restart.
TRANSITIONS: Final[dict[Phase, frozenset[Phase]]] = {
    Phase.UNPAIRED: frozenset({Phase.PAIRING, Phase.PAUSED, Phase.LOGGED_OUT}),
    Phase.PAIRING: RESTING | {Phase.UNPAIRED, Phase.PAIRED, Phase.PAUSED},
    Phase.PAIRED: RESTING | {Phase.CONNECTING, Phase.WAITING, Phase.PAUSED},
    Phase.CONNECTING: RESTING | {Phase.CONNECTED, Phase.WAITING, Phase.PAUSED},
    Phase.CONNECTED: RESTING | {Phase.CONNECTING, Phase.WAITING, Phase.PAUSED},
    Phase.WAITING: RESTING | {Phase.CONNECTING, Phase.PAUSED},
    Phase.PAUSED: frozenset({Phase.UNPAIRED, Phase.CONNECTING, Phase.LOGGED_OUT}),
    Phase.LOGGED_OUT: frozenset({Phase.PAIRING}),
    Phase.REPLACED: _WOKEN,
    Phase.BANNED: _WOKEN,
    # It ends without a person, too, and then an earlier pause is in force again.
    Phase.OUTDATED: _WOKEN | {Phase.PAUSED},
    Phase.ACTION_REQUIRED: _WOKEN,
    Phase.FAULTED: frozenset(),
}
