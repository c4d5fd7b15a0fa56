"""Who takes part: keys and addresses that are always the same, so that an input means the same."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Final
from unittest.mock import patch

from sitpayd.whatsapp.jid import GROUP_SERVER, Jid, lid, pn
from sitpayd.whatsapp.keys import DeviceKeys, KeyPair, PreKey
from sitpayd.whatsapp.noise import ServerKeys

# UTC seconds; certificates are valid then.
NOW: Final = 1_760_000_000.0

OWN_PN: Final = pn("15551234567", 12)
OWN_LID: Final = lid("111222333444555", 12)
PEER_PN: Final = pn("15557654321")
PEER_LID: Final = lid("999888777666555")
GROUP: Final = Jid("120363000000000000", GROUP_SERVER)


@contextmanager
def steady(seed: str) -> Iterator[Random]:
    """Let keys and signatures come out the same each time, inside this block."""
    rng = Random(seed)
    with (
        patch.object(secrets, "token_bytes", rng.randbytes),
        patch.object(secrets, "randbelow", rng.randrange),
    ):
        yield rng


with steady("people"):
    KEYS: Final = DeviceKeys.generate()
    PHONE: Final = KeyPair.generate()
    PREKEY: Final = PreKey(7, KeyPair.generate())
    ROOT: Final = KeyPair.generate()
    SERVER_KEYS: Final = ServerKeys.generate(ROOT, NOW)
