"""Phone: device 0 of an account, in this process.

It greets companions, tells them what it knows, and gives people its token. What it has in common
with other devices here, keys, sessions and messages, is endpoint.py; its owner's hand, which links
companions, is signing.py.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping

from sitpayd.whatsapp.keys import DeviceKeys
from sitpayd.whatsapp.stanzas import content as contents
from sitpayd.whatsapp.stanzas.message import IncomingMessage
from sitpayd.whatsapp.stanzas.privacy import bucket_start

from .accounts import PHONE, Account, Device
from .endpoint import Endpoint, new_id, outgoing
from .greeting import MediaStore, history_of
from .linking import Linking
from .routing import Router
from .signing import Signer
from .waker import Waker


class Phone(Endpoint):
    """One phone.

    Attributes:
        signer: links its companions.
        people: with whom something was written.
    """

    def __init__(
        self,
        account: Account,
        router: Router,
        linkings: Mapping[str, Linking],
        codes: Mapping[str, Linking],
        waker: Waker,
        media: MediaStore,
    ) -> None:
        super().__init__(account, PHONE, router, waker, DeviceKeys.generate(), name="phone")
        self._media = media
        self._app_state_key = contents.AppStateKey(
            secrets.token_bytes(6), secrets.token_bytes(32), int(time.time())
        )
        self.people: dict[Account, None] = {}
        self.signer = Signer(account, self.keys.identity, router, linkings, codes)
        self.signer.sign_devices()

    # --- linking ---

    async def scan(self, qr_text: str) -> Device:
        """Link the device whose QR text this is; the caller brings the deadline.

        Raises:
            ScanError: See `Signer.scan`.
        """
        return await self.signer.scan(qr_text)

    async def enter_code(self, text: str) -> Device:
        """Link the device that shows this code for our number; the caller brings the deadline.

        Raises:
            ScanError: See `Signer.enter_code`.
        """
        return await self.signer.enter_code(text)

    def welcome(self, device: Device) -> None:
        """Give a new companion its app state key and the history of its chats.

        Baileys holds all events back for 20 s after its first login unless a history notification
        arrives.
        """
        device.is_welcomed = True
        self.share_keys(device)
        self.tell_history(device)

    def share_keys(self, device: Device) -> None:
        """Give a companion the key of the app state."""
        self._tell(device, contents.app_state_key_share([self._app_state_key]))

    def tell_history(self, device: Device, *, by_media: bool = False, filler_len: int = 0) -> None:
        """Tell a companion the history of the chats.

        Args:
            by_media: it lies on the media server, instead of coming with its notice.
            filler_len: bytes of a text in each chat.
        """
        history = history_of(
            self.account, self.people, self._router.trust, filler_len=filler_len
        ).SerializeToString()
        if by_media:
            self._tell(device, contents.history_sync_at(self._media.put(history)))
        else:
            self._tell(device, contents.inline_history_sync(history))

    def tell_lids(self, device: Device) -> None:
        """Tell a companion which numbers have which LIDs, as when the account moves to them."""
        pairs = [(person.number, person.lid_user) for person in self.people]
        self._tell(device, contents.lid_migration(pairs))

    def _tell(self, device: Device, message: bytes) -> None:
        enc = self._encrypt(device, message)
        if enc is not None:
            sent = outgoing(new_id(), device.pn, [(device.pn, enc)], category="peer")
            self._router.submit(self.device, sent, is_fanout=False)

    def _meet(self, person: Account, *, gives: bool = False) -> None:
        """Remember somebody; who is written to is given our token, each week anew."""
        if person is self.account:
            return
        self.people[person] = None
        t, given = int(time.time()), self._router.trust.given(self.account, person)
        gives = gives and self._router.options.phone_tokens
        if gives and (given is None or given.t < bucket_start(t)):
            self._router.give_token(self.account, person, t)

    def reinstall(self) -> None:
        """Begin with fresh keys, as on a new phone; the server unlinks the companions.

        What is on its way to the old keys cannot be read, and nobody is to blame for it.
        """
        self._lose_sessions()
        self.keys = DeviceKeys.generate()
        self._prekeys.clear()
        self._retries.clear()
        self.device.renew(self.keys)
        self._top_up()
        self.signer.identity = self.keys.identity
        self.signer.sign_devices()

    def _peer_message(self, incoming: IncomingMessage, content: contents.Content) -> None:
        """Tell a companion again what it could not read, as far as it is known here."""
        device = self._router.accounts.device(incoming.sender)
        if content.kind != "phone_request" or device is None:
            return
        known = [(name, self._kept.get(name.id)) for name in content.asked]
        found = [
            contents.kept_message(name, kept.message, kept.t, kept.push_name)
            for name, kept in known
            if kept is not None and self._account(name.chat) is kept.chat
        ]
        self._tell(device, contents.placeholder_answer(incoming.id, found))
