"""Ids of outgoing WhatsApp messages.

Made once per message and kept with its row; a repetition goes out under the same id.
"""

from __future__ import annotations

import secrets
from typing import Final

# Shape of the ids web clients make. Source: whatsmeow send.go, GenerateMessageID.
_PREFIX: Final = "3EB0"
_RANDOM_LEN: Final = 9


def new_wa_message_id() -> str:
    """Make a fresh id: "3EB0" and 18 upper-case hex digits.

    The known clients hash time, user and 16 random bytes into these digits; nobody can tell that
    from randomness alone, which needs no clock and no user.
    """
    return _PREFIX + secrets.token_hex(_RANDOM_LEN).upper()
