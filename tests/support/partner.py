"""A partner's program and the people it serves, over the public HTTP API alone."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field

import httpx
import zxingcpp
from PIL import Image

from tests.support.people import People
from tests.support.waiting import WITHIN_S, eventually

Json = dict[str, object]


def read_qr(uri: str) -> str:
    """What stands in the picture of a QR code, a PNG as a data URI."""
    kind, _, data = uri.partition(",")
    assert kind == "data:image/png;base64"
    return str(zxingcpp.read_barcodes(Image.open(io.BytesIO(base64.b64decode(data))))[0].text)


@dataclass
class Partner:
    """A partner with one user.

    Attributes:
        key: its api_key; user_token: its user's.
    """

    http: httpx.AsyncClient
    base_url: str
    key: str = ""
    user_token: str = ""

    @classmethod
    async def register(cls, http: httpx.AsyncClient, base_url: str) -> Partner:
        """Register and create a user."""
        partner = cls(http, base_url)
        told = await partner.ask(
            "POST",
            "/partner/register",
            {"name": "ABC Reseller", "email": "abc@reseller.com", "domain": "api.reseller.com"},
        )
        partner.key = str(told["api_key"])
        user: Json = {"label": "John Doe", "email": "john@example.com"}
        told = await partner.ask("POST", "/partner/users", user)
        partner.user_token = str(told["user_token"])
        return partner

    @property
    def headers(self) -> dict[str, str]:
        """What it says with every request of its own."""
        return {"x-api-key": self.key} if self.key else {}

    async def ask(self, method: str, path: str, body: Json | None = None) -> Json:
        """Ask for something that succeeds."""
        headers = self.headers | ({"x-user-token": self.user_token} if self.user_token else {})
        response = await self.http.request(method, self.base_url + path, headers=headers, json=body)
        assert response.status_code == 200, response.text
        answer: Json = response.json()
        return answer

    async def device(self, name: str = "John iPhone") -> PartnerDevice:
        """Create a device."""
        told = await self.ask("POST", "/partner/devices", {"device_name": name})
        return PartnerDevice(self, str(told["session_id"]), str(told["device_token"]))

    async def linked(self, people: People, number: str) -> PartnerDevice:
        """Create a device, link it to this number's phone and wait until it is connected."""
        device = await self.device()
        await device.link(people, number)
        return device


@dataclass
class PartnerDevice:
    """A device, as its partner sees it.

    Attributes:
        qr_texts: every QR text that was read.
        jid: its address at WhatsApp, once it is linked.
    """

    partner: Partner
    session_id: str
    token: str
    qr_texts: list[str] = field(default_factory=list)
    jid: str = ""

    @property
    def path(self) -> str:
        """Where its routes begin."""
        return f"/partner/devices/{self.session_id}"

    @property
    def send_url(self) -> str:
        """Its own URL."""
        return f"{self.partner.base_url}/wa/{self.token}/send"

    async def qr_text(self) -> str:
        """Poll qr_url and read the picture."""

        async def look() -> str | None:
            answer = await self.partner.ask("GET", f"{self.path}/qr")
            if answer["type"] != "success":
                assert answer["type"] == "pending", answer
                return None
            return read_qr(str(answer["qr"]))

        self.qr_texts.append(await eventually(look, "a QR code is shown"))
        return self.qr_texts[-1]

    async def link(self, people: People, number: str) -> None:
        """Link it to this number's phone and wait until it is connected."""
        self.jid = await people.scan(number, await self.qr_text())
        await self.until("connected")

    async def status(self) -> Json:
        """Its status."""
        return await self.partner.ask("GET", f"{self.path}/status")

    async def until(self, status: str, within_s: float = WITHIN_S) -> Json:
        """Wait for a status."""

        async def look() -> Json | None:
            known = await self.status()
            return known if known["status"] == status else None

        return await eventually(look, f"{self.session_id} is {status}", within_s)

    async def send(self, to: str, text: str, **headers: str) -> httpx.Response:
        """Send a message; underscores in header names stand for hyphens."""
        return await self.partner.http.post(
            self.send_url,
            json={"to": to, "message": text},
            headers={name.replace("_", "-"): value for name, value in headers.items()},
        )

    async def post(self, route: str, body: Json, **headers: str) -> httpx.Response:
        """Post to one of its own routes; underscores in header names stand for hyphens."""
        return await self.partner.http.post(
            f"{self.partner.base_url}/wa/{self.token}/{route}",
            json=body,
            headers={name.replace("_", "-"): value for name, value in headers.items()},
        )

    async def messages(self) -> list[Json]:
        """Its messages of both directions, oldest first."""
        response = await self.partner.http.get(
            f"{self.partner.base_url}/wa/{self.token}/messages?limit=200"
        )
        assert response.status_code == 200, response.text
        messages: list[Json] = response.json()["messages"]
        return messages

    async def message(self, text: str, **expected: object) -> Json:
        """Wait for a message with this text and these fields."""

        async def look() -> Json | None:
            for message in await self.messages():
                if message["text"] == text and expected.items() <= message.items():
                    return message
            return None

        return await eventually(look, f"a message with {expected}")
