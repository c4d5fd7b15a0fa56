"""PairingMachine: QR codes and their expiry. Pure.

The server sends a list of refs; each makes one QR code. The first of six is shown for 60 s, every
other for 20 s, so a round lasts 160 s. When they are used up the round is over: a code that nobody
scans must not be renewed for ever. At most three rounds may be begun within an hour.

Source: whatsmeow qrchan.go.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from sitpayd.actors.commands import ShowQr
from sitpayd.whatsapp.keys import DeviceKeys
from sitpayd.whatsapp.stanzas.pairing import qr_text

LONG_LIST: Final = 6
FIRST_OF_LONG_LIST_S: Final = 60.0
NEXT_REF_S: Final = 20.0
MAX_ROUNDS: Final = 3
ROUNDS_WINDOW_S: Final = 3600.0


class PairingMachine:
    """One round of QR codes after another."""

    __slots__ = ("_keys", "_refs", "_rounds", "_until")

    def __init__(self) -> None:
        self._refs: deque[str] = deque()
        self._keys: DeviceKeys | None = None
        self._until: float | None = None
        self._rounds: deque[float] = deque(maxlen=MAX_ROUNDS)

    def may_begin(self, now: float) -> bool:
        """Whether another round is allowed now."""
        return len(self._rounds) < MAX_ROUNDS or now - self._rounds[0] >= ROUNDS_WINDOW_S

    def begin(self, now: float) -> None:
        """Count a round as begun."""
        self._rounds.append(now)

    def refs(self, refs: list[str], keys: DeviceKeys, now: float) -> list[ShowQr]:
        """Take a list of refs, which replaces an older one, and show the first."""
        self._refs = deque(refs)
        self._keys = keys
        return self._show(now, FIRST_OF_LONG_LIST_S if len(refs) >= LONG_LIST else NEXT_REF_S)

    def deadline(self) -> float | None:
        """When the code on show expires, clock seconds; None: none is shown."""
        return self._until

    def tick(self, now: float) -> list[ShowQr]:
        """Show the next code if one is due; `over` tells whether there was another."""
        if self._until is None or now < self._until:
            return []
        return self._show(now, NEXT_REF_S)

    def end(self) -> None:
        """Forget the refs and the secret that stands in the codes."""
        self._refs.clear()
        self._keys = None
        self._until = None

    @property
    def over(self) -> bool:
        """Whether no code is shown (any more)."""
        return self._until is None

    def _show(self, now: float, seconds: float) -> list[ShowQr]:
        if not self._refs or self._keys is None:
            self.end()
            return []
        self._until = now + seconds
        return [ShowQr(qr_text(self._refs.popleft(), self._keys), seconds)]
