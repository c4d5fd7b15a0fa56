"""Options of a simulated server: how it behaves all the time.

What goes wrong a bounded number of times is faults.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sitpayd.whatsapp.noise import Resumption


class Repeats(StrEnum):
    """What happens to a message that a client sends again under the same id."""

    DROP = "drop"
    DELIVER = "deliver"


@dataclass(frozen=True, slots=True)
class Options:
    """How the server behaves; the defaults are the real server's, as far as it is known.

    Attributes:
        pairing_s: seconds until the refs of a registration run out. Source: whatsmeow qrchan.go
            shows the first of six for 60 s and the others for 20 s each.
        handshake_s: seconds a client has for its Noise handshake.
        answer_s: seconds a client has to answer a stanza before the stream ends.
        idle_s: seconds a client may be silent; clients ping every 20 to 30 s.
        ping_s: seconds between pings from the server; None for none. Unmodified Baileys and
            whatsmeow do not answer them.
        grace_s: seconds a client has to close after a stream error before the server does. Closing
            at once made whatsmeow miss the 515 now and then.
        window: stanzas in flight to one client at most.
        low_prekeys: a client is told its count of one-time prekeys from here downwards.
        minimum_revision: older web clients are refused with failure 405.
        pn_refusal: ack error for messages addressed by phone number (463 in a rollout seen in
            Baileys issue 2683); None accepts them.
        token_refusal: ack error for a message without a valid token to somebody who never wrote
            (463); None takes them.
        phone_tokens: whether phones give their privacy token to whom they write.
        repeats: the real server's choice is not known.
        resumption: what happens to a client that begins with Noise IK.
    """

    pairing_s: float = 160
    handshake_s: float = 20
    answer_s: float = 30
    idle_s: float = 75
    ping_s: float | None = None
    grace_s: float = 2
    window: int = 256
    low_prekeys: int = 10
    minimum_revision: int = 0
    pn_refusal: int | None = None
    token_refusal: int | None = None
    phone_tokens: bool = True
    repeats: Repeats = Repeats.DROP
    resumption: Resumption = Resumption.ACCEPT
