"""Server: the state of one simulated WhatsApp and what concerns more than one of its rooms.

Accepting sockets is main.py's, one socket is client.py's.
"""

from __future__ import annotations

import math
import time
from http import HTTPStatus
from typing import Final

import trio
from websockets.http11 import Request, Response
from websockets.trio.server import ServerConnection

from sitpayd.whatsapp.keys import KeyPair
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.noise import ServerKeys
from sitpayd.whatsapp.stanzas import iq
from sitpayd.whatsapp.stanzas.failure import StreamError, stream_error
from sitpayd.whatsapp.stanzas.usync import HOSTED_DEVICE

from .accounts import Account, Accounts, Device
from .client import Client, Stage
from .companions import Companion
from .dials import Dials
from .faults import Faults
from .greeting import MediaStore
from .iqs import IqDesk
from .linking import Linking
from .options import Options
from .phone import Phone
from .routing import Router, now
from .sightings import Sightings
from .violations import Kind, Violations
from .waker import Waker

_TICK_S: Final = 1.0


class Server:
    """One simulated WhatsApp.

    Attributes:
        root_key: public key that signs its certificates, 32 bytes.
        linkings: registrations that wait for a phone, by ref.
        codes: those that show a pairing code, by the number it is for; the last one counts.
        clients: every open socket.
        dials: how often anybody dialled.
        sightings: what people show each other.
        media: what lies on the media server.
    """

    def __init__(self, options: Options) -> None:
        self._root = KeyPair.generate()
        self.root_key = self._root.public_key
        self.keys = ServerKeys.generate(self._root, time.time())
        self.violations = Violations()
        self.faults = Faults()
        self.accounts = Accounts()
        self.router = Router(self.accounts, options, self.faults, self.violations)
        self.media = MediaStore()
        self.desk = IqDesk(self.router, self.media)
        self.linkings: dict[str, Linking] = {}
        self.codes: dict[str, Linking] = {}
        self.clients: set[Client] = set()
        self.dials = Dials()
        self.sightings = Sightings(self.accounts.of, self._show)
        self._away_until = -math.inf
        self.waker = Waker()
        self._phones: dict[Account, Phone] = {}
        self._companions: dict[Device, Companion] = {}

    @property
    def options(self) -> Options:
        """How it behaves; may be exchanged while it runs."""
        return self.router.options

    @options.setter
    def options(self, options: Options) -> None:
        self.router.options = options

    def renew_keys(self) -> None:
        """Take new Noise keys and certificates under the same root, for connections to come."""
        self.keys = ServerKeys.generate(self._root, time.time())

    # --- people ---

    def add_account(
        self,
        number: str | None = None,
        name: str = "",
        *,
        platform: str = "android",
        business_name: str | None = None,
    ) -> Phone:
        """Make an account with its phone.

        Raises:
            ValueError: If the number has an account already.
        """
        account = self.accounts.add(number, name, platform=platform, business_name=business_name)
        phone = Phone(account, self.router, self.linkings, self.codes, self.waker, self.media)
        self._phones[account] = phone
        return phone

    def phone(self, number: str) -> Phone:
        """The phone of a number.

        Raises:
            KeyError: If the number has no account.
        """
        account = self.accounts.by_number(number)
        if account is None:
            raise KeyError(number)
        return self._phones[account]

    def add_companion(self, phone: Phone, *, is_hosted: bool = False) -> Companion:
        """Link a companion that lives in this process, or a business's device in the cloud.

        Raises:
            ValueError: If the account has its device in the cloud already.
        """
        if is_hosted and HOSTED_DEVICE in phone.account.devices:
            raise ValueError("the account has its device in the cloud already")
        companion = Companion(phone, self.router, self.waker, is_hosted=is_hosted)
        self._companions[companion.device] = companion
        self.linked(companion.device)
        return companion

    def companion_of(self, device: Device) -> Companion | None:
        """The companion of this process that a device is; None: it is a client's."""
        return self._companions.get(device)

    def reinstall(self, phone: Phone) -> None:
        """Let a person begin on a new phone: other keys, and no companions any more."""
        for device in list(phone.account.companions):
            self.unlink(device)
        phone.reinstall()
        self.router.identity_changed(phone.account)

    def client(self, device: Device) -> Client | None:
        """The socket of a device, if it is connected."""
        return device.link if isinstance(device.link, Client) else None

    def _show(self, device: Device, node: Node) -> None:
        client = self.client(device)
        if client is not None:
            client.send(node)

    # --- linking ---

    def begin_linking(self, linking: Linking) -> None:
        """Let phones find a registration by its refs."""
        self.linkings.update(dict.fromkeys(linking.refs, linking))

    def end_linking(self, linking: Linking) -> None:
        """Let phones find it no longer; who waits for its outcome learns that it is over."""
        for ref in linking.refs:
            self.linkings.pop(ref, None)
        for number in [number for number, other in self.codes.items() if other is linking]:
            del self.codes[number]
        linking.settle("the companion's connection is gone")

    def companion(self, linking: Linking, node: Node) -> Node:
        """Answer a companion's request about a pairing code.

        Raises:
            RemoteProtocolError: If it is malformed.
        """
        answer, fault = linking.companion(node)
        if fault is not None:
            self.violations.record("registration", Kind.PAIRING, fault)
        if linking.code is not None:
            self.codes[linking.code.hello.phone.user] = linking
        return answer

    def linked(self, device: Device) -> None:
        """A companion has signed: the other devices learn of it."""
        self._phones[device.account].signer.sign_devices()
        self.router.devices_changed(device.account, device, "add")

    def welcome(self, device: Device) -> None:
        """Let the phone greet a companion that is ready for it: it has prekeys and is active."""
        if not device.is_welcomed and device.known_prekeys:
            self._phones[device.account].welcome(device)

    def unlink(self, device: Device) -> None:
        """Remove a companion, as its phone does."""
        account = device.account
        if account.devices.pop(device.number, None) is None:
            return
        account.former.add(device.number)
        self._companions.pop(device, None)
        self._phones[account].signer.sign_devices()
        self.router.devices_changed(account, device, "remove")
        client = self.client(device)
        if client is not None:
            client.end(stream_error(StreamError(code=401, conflict="device_removed")))
        self.router.forget(device)
        self.sightings.forget(device)

    def make_dirty(self, device: Device, kind: str) -> None:
        """Tell a device that it has to fetch something anew; at each login, until it has."""
        # As new as now, and newer than what it may just be saying.
        device.dirty[kind] = max(now(), device.dirty.get(kind, 0) + 1)
        client = self.client(device)
        if client is not None:
            client.announce_dirty()

    # --- stanzas that are nobody else's ---

    def answer_stranger(self, name: str, node: Node) -> Node:
        """Answer a request of a client that is not logged in.

        Raises:
            RemoteProtocolError: If the request has no id.
        """
        if iq.is_ping(node):
            return iq.result(node)
        self.violations.unsupported(name, f"iq {node.text('xmlns')} before login")
        return iq.error(node, 501, "feature-not-implemented")

    # --- the shell ---

    def admit(self, websocket: ServerConnection, request: Request) -> Response | None:
        """Let a dial in, or answer it while the server is away, or what asks for a file."""
        file = self.media.answer(request.path)
        if file is not None:
            return file
        moment = trio.current_time()
        self.dials.note(moment)
        if moment >= self._away_until:
            return None
        return websocket.respond(HTTPStatus.SERVICE_UNAVAILABLE, "away\n")

    async def go_away(self, seconds: float) -> None:
        """Cut every socket without a word, and let nobody in for so long."""
        self._away_until = trio.current_time() + seconds
        for client in list(self.clients):
            await client.drop()

    async def serve(self, websocket: ServerConnection) -> None:
        """Serve one socket until it ends."""
        client = Client(self, websocket)
        self.clients.add(client)
        try:
            await client.run()
        finally:
            self.clients.discard(client)

    async def keep_house(self) -> None:
        """Look at every client's deadlines each second, until cancelled."""
        while True:
            await trio.sleep(_TICK_S)
            self.look_at_deadlines(trio.current_time())

    def look_at_deadlines(self, moment: float) -> None:
        """Look at every client's deadlines.

        Args:
            moment: monotonic seconds.
        """
        for client in list(self.clients):
            client.tick(moment)

    @property
    def connected(self) -> list[Client]:
        """The sockets of devices that are logged in."""
        return [client for client in self.clients if client.stage in (Stage.PASSIVE, Stage.ACTIVE)]
