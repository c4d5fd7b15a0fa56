"""Stock: how many one-time prekeys the server holds for us, and when it is given more. Pure.

Whoever begins a session with us takes one. The server tells how many are left, when we ask and by
itself; where that is few, more are made, saved and uploaded, one upload at a time. What was not
confirmed is uploaded again as it is: the server takes a repeated id. A failed upload is tried again
a few times and then left to the next occasion.

Source: whatsmeow prekeys.go; Baileys lib/Socket/socket.js.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from sitpayd.actors.commands import Command, MakePreKeys, MarkUploaded
from sitpayd.actors.queries import Queries, backoff_of
from sitpayd.whatsapp.keys import DeviceKeys, PreKey
from sitpayd.whatsapp.stanzas import prekeys
from sitpayd.whatsapp.stanzas.iq import IqError

# Both libraries send 812 to an account that has none, then 50 at a time when fewer than 5 are left.
FIRST_PREKEYS: Final = 812
MORE_PREKEYS: Final = 50
FEW_PREKEYS: Final = 5
# So soon after an upload the server may count what it had before: whatsmeow prekeys.go.
LATELY_S: Final = 600.0
RETRY_AFTER_S: Final = (1.0, 2.0, 4.0)


class Stock:
    """The one-time prekeys of one device, on one connection after another.

    Args:
        queries: of the connection.
        purpose: of an upload.
    """

    __slots__ = (
        "_held",
        "_keys",
        "_left",
        "_purpose",
        "_queries",
        "_retry_at",
        "_tries",
        "_uploaded_at",
        "_uploading",
    )

    def __init__(self, queries: Queries[object], purpose: object) -> None:
        self._queries = queries
        self._purpose = purpose
        self._keys: DeviceKeys | None = None
        # None: no upload is under way; empty: its keys are being made.
        self._uploading: tuple[PreKey, ...] | None = None
        self._tries = 0
        self._retry_at: float | None = None
        self._uploaded_at: float | None = None
        self._left: int | None = None
        self._held: int | None = None

    def restore(self, held: int | None) -> None:
        """Take over how many uploaded prekeys are stored; None: nobody counted."""
        self._held = held

    def begin(self, keys: DeviceKeys) -> None:
        """A connection is logged in."""
        self._keys = keys

    def end(self) -> None:
        """The connection is gone; what was not confirmed waits for the next."""
        self._keys = self._uploading = self._retry_at = None
        self._tries = 0

    def counted(self, count: int, now: float) -> list[Command]:
        """The server tells how many it still has."""
        self._left = count
        # A store that was set back to an older state lacks what the server hands out.
        lost = self._held is not None and self._held < FEW_PREKEYS
        if count >= FEW_PREKEYS and not lost:
            return []
        return self._make(FIRST_PREKEYS if count == 0 else MORE_PREKEYS, now)

    def missing(self, now: float) -> list[Command]:
        """The server has no usable keys of ours."""
        return self._make(MORE_PREKEYS, now)

    def made(self, made: tuple[PreKey, ...], now: float) -> list[Command]:
        """Upload what was saved; for a connection that is gone it waits for the next."""
        if self._uploading is None:
            return []
        self._uploading = made
        return self._upload(now)

    def uploaded(self, now: float) -> list[Command]:
        """The server has taken the upload."""
        done = self._uploading or ()
        self._uploading, self._tries, self._held = None, 0, None
        self._uploaded_at = now
        self._left = (self._left or 0) + len(done)
        return [MarkUploaded(tuple(prekey.key_id for prekey in done))]

    def failed(self, error: IqError | None, now: float) -> None:
        """The upload was refused or got no answer: try again, or leave it to another occasion."""
        if self._tries == len(RETRY_AFTER_S):
            self._uploading, self._tries = None, 0
            return
        self._retry_at = now + max(RETRY_AFTER_S[self._tries], backoff_of(error))
        self._tries += 1

    def deadline(self) -> float | None:
        """When to call `tick`, clock seconds; None: nothing is to be tried again."""
        return self._retry_at

    def tick(self, now: float) -> list[Command]:
        """Try a failed upload again, if it is time."""
        if self._retry_at is None or now < self._retry_at:
            return []
        self._retry_at = None
        return self._upload(now)

    def _make(self, count: int, now: float) -> list[Command]:
        if self._uploading is not None or self._keys is None:
            return []  # one upload at a time
        lately = self._uploaded_at is not None and now - self._uploaded_at < LATELY_S
        if lately and self._left is not None and self._left >= MORE_PREKEYS:
            return []
        self._uploading = ()
        return [MakePreKeys(count)]

    def _upload(self, now: float) -> list[Command]:
        assert self._keys is not None
        assert self._uploading is not None
        build = partial(prekeys.upload, keys=self._keys, prekeys=self._uploading)
        return [self._queries.ask(self._purpose, build, now)]
