"""Fleet: the partner's devices and the people they write to.

Everything the daemon is asked for goes through its public HTTP API; phones are moved through the
simulator's control API. The status feed tells who is connected, so that nobody has to poll.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio
import zxingcpp
from PIL import Image
from websockets.exceptions import ConnectionClosed
from websockets.trio.client import connect

from bench.http import Http, Json
from bench.processes import BenchError

# The API lets each ask 100 times a second: so many that this is never what is measured.
PARTNERS = 16
# Phones that receive; each device writes to one of them.
RECIPIENTS = 100
# Indian mobile numbers, as in the contract's examples.
FIRST_RECIPIENT = 919_700_000_000
FIRST_OWNER = 919_800_000_000
QR_AGAIN_S = 0.2
CONNECTED_WITHIN_S = 30.0
TEXT = "Your order is on its way."
# Answer of a server that cannot take a login; the device tries again later.
LOGIN_UNAVAILABLE = 503
LOGINS_REFUSED = 1000


@dataclass(frozen=True, slots=True)
class Device:
    """One linked device: where to post, its own address, and the number it writes to.

    Attributes:
        number: how many there were before it.
    """

    number: int
    session_id: str
    send_path: str
    jid: str
    recipient: str


class Feed:
    """Who is connected, as the daemon's status feed says."""

    def __init__(self) -> None:
        self._connected: set[str] = set()
        self._changed = trio.Event()

    async def until_connected(self, session_id: str) -> None:
        """Wait for a device; the caller brings the deadline."""
        while session_id not in self._connected:
            await self._changed.wait()

    async def until_count(self, count: int) -> None:
        """Wait until so many are connected; the caller brings the deadline."""
        while len(self._connected) < count:
            await self._changed.wait()

    async def until_gone(self, session_id: str) -> None:
        """Wait until a device is not connected; the caller brings the deadline."""
        while session_id in self._connected:
            await self._changed.wait()

    def _take(self, message: Json) -> None:
        told: object = []
        match message["type"]:
            case "snapshot":
                self._connected.clear()
                told = message["devices"]
            case "more":
                told = message["devices"]
            case "status":
                told = [message["device"]]
            case "removed" | "left":
                self._connected.discard(str(message["session_id"]))
        assert isinstance(told, list)
        for device in told:
            if device["status"] == "connected":
                self._connected.add(device["session_id"])
            else:
                self._connected.discard(device["session_id"])
        self._changed.set()
        self._changed = trio.Event()


@asynccontextmanager
async def watch_feed(environment: Mapping[str, str]) -> AsyncIterator[Feed]:
    """Follow the feed of a daemon that was told this, within the block."""
    base_url, admin_key = environment["SITPAYD_BASE_URL"], environment["SITPAYD_ADMIN_KEY"]
    feed = Feed()
    async with (
        connect(
            f"ws{base_url.removeprefix('http')}/admin/feed",
            additional_headers={"x-admin-key": admin_key},
            compression=None,
            proxy=None,
            ping_interval=None,
            max_size=None,
        ) as socket,
        trio.open_nursery() as nursery,
    ):

        async def read() -> None:
            try:
                while True:
                    feed._take(json.loads(await socket.recv()))
            except ConnectionClosed:
                return

        nursery.start_soon(read)
        yield feed
        nursery.cancel_scope.cancel()


class Fleet:
    """Partners with devices that grow in number.

    Attributes:
        devices: the linked ones, oldest first.
    """

    def __init__(self, http: Http, control: Http) -> None:
        self._http = http
        self._control = control
        self._owners: list[dict[str, str]] = []
        self.devices: list[Device] = []

    async def prepare(self, partners: int) -> None:
        """Register the partners and make the accounts of those who receive."""
        for number in range(partners):
            email = f"bench{number}@example.com"
            registered = await self._http.post(
                "/partner/register",
                {"name": f"Bench {number}", "email": email, "domain": "example.com"},
            )
            headers = {"x-api-key": str(registered["api_key"])}
            user = await self._http.post(
                "/partner/users", {"label": "Bench", "email": email}, headers
            )
            self._owners.append({**headers, "x-user-token": str(user["user_token"])})
        for recipient in range(FIRST_RECIPIENT, FIRST_RECIPIENT + RECIPIENTS):
            await self._control.post("/accounts", {"phone": str(recipient)})

    async def link(self, number: int, feed: Feed) -> None:
        """Create a device, let its owner's phone read the QR picture, wait until it is connected.

        Args:
            number: of the device, from 0; each is linked to a phone of its own, and the partners
                take turns.
        """
        owner = self._owners[number % len(self._owners)]
        made = await self._http.post("/partner/devices", {"device_name": f"Device {number}"}, owner)
        text = await self._qr_text(str(made["qr_url"]), owner)
        phone = str(FIRST_OWNER + number)
        await self._control.post("/accounts", {"phone": phone})
        scanned = await self._control.post(f"/accounts/{phone}/scan", {"qr": text})
        session_id = str(made["session_id"])
        with trio.move_on_after(CONNECTED_WITHIN_S) as scope:
            await feed.until_connected(session_id)
        if scope.cancelled_caught:
            raise BenchError(f"device {number} was linked and did not connect")
        send_path = str(made["send_url"]).removeprefix(self._http.base_url)
        recipient = str(FIRST_RECIPIENT + number % RECIPIENTS)
        self.devices.append(Device(number, session_id, send_path, str(scanned["jid"]), recipient))

    async def send(self, device: Device) -> None:
        """Send a text; returns when WhatsApp's server has acknowledged it."""
        answer = await self._http.post(device.send_path, _message(device))
        if answer["type"] != "success":
            raise BenchError(f"a message was not acknowledged in time: {answer['message']}")

    async def queue(self, device: Device) -> None:
        """Leave a text for a device that is away; returns when the daemon has stored it."""
        answer = await self._http.post(
            device.send_path, _message(device), {"prefer": "respond-async"}
        )
        if answer["type"] != "queued":
            raise BenchError(f"a message was to be queued: {answer['message']}")

    async def take_away(self, device: Device, feed: Feed) -> None:
        """Cut a device off for good: its logins are refused; the caller brings the deadline."""
        path = f"/devices/{device.jid}"
        refused: Json = {"reason": LOGIN_UNAVAILABLE, "count": LOGINS_REFUSED}
        await self._control.post(f"{path}/fail-next-login", refused)
        await self._control.post(f"{path}/drop", {})
        await feed.until_gone(device.session_id)

    async def violations(self) -> list[object]:
        """What the simulator found wrong."""
        violations = (await self._control.get("/violations"))["violations"]
        assert isinstance(violations, list)
        return violations

    async def _qr_text(self, url: str, owner: Mapping[str, str]) -> str:
        while True:
            answer = await self._http.get(url, owner)
            if answer["type"] == "success":
                picture = base64.b64decode(str(answer["qr"]).partition(",")[2])
                return str(zxingcpp.read_barcodes(Image.open(io.BytesIO(picture)))[0].text)
            await trio.sleep(QR_AGAIN_S)


def _message(device: Device) -> Json:
    return {"to": device.recipient, "message": TEXT}
