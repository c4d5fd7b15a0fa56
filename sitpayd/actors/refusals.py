"""What an error in a message's ack means: data, one row per code. Pure.

A refusal is certain: WhatsApp did not take the message. What it is answered with over HTTP stands
in api/errors.py, by the reason.

Source: public issue threads of Baileys and whatsmeow; codes 401 to 406 are read as HTTP means them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Refusal:
    """The reaction to one error code.

    Attributes:
        reason: the public word, kept on the row.
        resends: how often the same bytes go out again before the row fails.
        forget_devices: what is cached of the recipient's devices was wrong: ask anew next time.
        pause_s: seconds in which this device sends nothing.
        rearms: encrypt anew for the devices of now, under the same id, once.
        by_number: if that, too, was refused by LID: once more by number.
        demands_lid: by number it may be refused although by LID it would not be.
        holds_s: seconds for which nobody is written to first.
    """

    reason: str
    resends: int = 0
    forget_devices: bool = False
    pause_s: float = 0.0
    rearms: bool = False
    by_number: bool = False
    demands_lid: bool = False
    holds_s: float = 0.0


# The words for what WhatsApp forbids the account, which may hold more than one row.
REACHOUT_LOCKED: Final = "reachout_locked"
NEW_CHAT_LIMIT: Final = "new_chat_limit"

# How long first messages wait after a refusal, unless the server tells the end.
REACHOUT_HOLD_S: Final = 6 * 3600.0
CAPPING_HOLD_S: Final = 24 * 3600.0

REFUSALS: Final[dict[int, Refusal]] = {
    400: Refusal("malformed", by_number=True),
    401: Refusal("not_authorised"),
    403: Refusal("forbidden"),
    404: Refusal("recipient_unknown", forget_devices=True),
    405: Refusal("not_allowed"),
    406: Refusal("not_acceptable"),
    421: Refusal("stale_addressing", forget_devices=True, rearms=True),
    429: Refusal("rate_limited", pause_s=120.0),
    463: Refusal(REACHOUT_LOCKED, demands_lid=True, holds_s=REACHOUT_HOLD_S),
    475: Refusal(NEW_CHAT_LIMIT, holds_s=CAPPING_HOLD_S),
    479: Refusal("stale_addressing", forget_devices=True, rearms=True, by_number=True),
    500: Refusal("server_error", resends=3, pause_s=10.0),
    503: Refusal("server_unavailable", resends=3, pause_s=10.0),
}


def refusal_of(code: int) -> Refusal:
    """Look a code up; an unknown one fails the row and is named in the reason."""
    return REFUSALS.get(code) or Refusal(f"refused_{code}")
