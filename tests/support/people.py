"""People with phones at the simulator, and what its server is told, over its control API."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

from tests.support.waiting import eventually

if TYPE_CHECKING:
    from tests.support.partner import PartnerDevice

Json = dict[str, object]


class People:
    """Everybody who has an account; each is named by the digits of the number."""

    def __init__(self, control: str, http: httpx.AsyncClient) -> None:
        self._control = control
        self._http = http
        self._said: list[str] = []

    async def ask(self, method: str, path: str, **body: object) -> httpx.Response:
        """Ask the control API for something that succeeds."""
        sent = body or None
        response = await self._http.request(method, self._control + path, json=sent)
        assert response.is_success, response.text
        return response

    # --- phones ---

    async def make(self, name: str = "") -> str:
        """Make an account with a number that nobody has."""
        return str((await self.ask("POST", "/accounts", name=name)).json()["phone"])

    async def scan(self, number: str, qr: str) -> str:
        """Let a phone scan a QR text; returns the linked device's address."""
        return str((await self.ask("POST", f"/accounts/{number}/scan", qr=qr)).json()["jid"])

    async def enter(self, number: str, code: str) -> str:
        """Let a person type a pairing code; returns the linked device's address."""
        answer = await self.ask("POST", f"/accounts/{number}/enter-code", code=code)
        return str(answer.json()["jid"])

    async def fails_to_scan(self, number: str, qr: str) -> str:
        """Let a phone scan a QR text that links nothing; returns what it says."""
        return await self._refused(f"/accounts/{number}/scan", qr=qr)

    async def fails_to_enter(self, number: str, code: str) -> str:
        """Let a person type a code that links nothing; returns what the phone says."""
        return await self._refused(f"/accounts/{number}/enter-code", code=code)

    async def _refused(self, path: str, **body: object) -> str:
        response = await self._http.post(self._control + path, json=body)
        assert response.is_client_error, response.text
        return str(response.json()["message"])

    async def say(self, number: str, to: str, text: str, *, addressing: str = "lid") -> str:
        """Let a phone send a text; returns its id."""
        told = await self.ask(
            "POST", f"/accounts/{number}/messages", to=to, text=text, addressing=addressing
        )
        self._said.append(str(told.json()["id"]))
        return self._said[-1]

    async def retries_of(self, device: PartnerDevice) -> int:
        """How often a device asked for what phones said once more."""
        entries = [(await self.ask("GET", f"/messages/{id}")).json() for id in self._said]
        copies = [entry["copies"].get(device.jid) for entry in entries]
        return sum(copy["receipts"].count("retry") for copy in copies if copy is not None)

    async def treat(self, number: str, **changes: object) -> None:
        """Change how the server treats an account."""
        path = f"{self._control}/accounts/{number}"
        assert (await self._http.patch(path, json=changes)).is_success

    async def reinstall(self, number: str) -> None:
        """Let a person begin on a new phone."""
        await self.ask("POST", f"/accounts/{number}/reinstall")

    async def link_companion(self, number: str, *, hosted: bool = False) -> str:
        """Link a companion that lives in the simulator; returns its address."""
        told = await self.ask("POST", f"/accounts/{number}/companions", hosted=hosted)
        return str(told.json()["jid"])

    async def companion_reads(self, jid: str, text: str) -> None:
        """Wait until such a companion shows a text."""

        async def look() -> bool:
            inbox = (await self.ask("GET", f"/devices/{jid}/inbox")).json()
            return text in [message["text"] for message in inbox]

        await eventually(look, f"the companion {jid} shows the text")

    async def shown(self, number: str) -> list[str]:
        """The texts that a phone shows, oldest first."""
        inbox = (await self.ask("GET", f"/accounts/{number}/inbox")).json()
        return [message["text"] for message in inbox]

    async def reads(self, number: str, text: str) -> list[str]:
        """Wait until a phone shows a text; returns all it shows."""

        async def look() -> list[str] | None:
            shown = await self.shown(number)
            return shown if text in shown else None

        return await eventually(look, f"the phone {number} shows the text")

    # --- what people show each other ---

    async def shown_by(self, number: str) -> Json:
        """What others see of a person: whether it is online, and under which name."""
        shown: Json = (await self.ask("GET", f"/accounts/{number}/presence")).json()
        return shown

    async def seen_by(self, number: str) -> list[tuple[str, str]]:
        """Whom a person saw typing, and how: the digits of the number and the state."""
        seen = (await self.ask("GET", f"/accounts/{number}/presence")).json()["chat_states"]
        return [(item["peer"], item["state"]) for item in seen]

    async def receipts(self, number: str, wa_message_id: str) -> list[str]:
        """The types of the receipts that a phone got for a message of its own."""
        path = f"/accounts/{number}/receipts/{wa_message_id}"
        receipts: list[str] = (await self.ask("GET", path)).json()
        return receipts

    async def is_told(self, number: str, wa_message_id: str, receipt: str) -> None:
        """Wait until a phone got a receipt of this type."""

        async def look() -> bool:
            return receipt in await self.receipts(number, wa_message_id)

        await eventually(look, f"{number} gets the receipt {receipt}")

    async def tell(self, number: str, what: str, **more: object) -> None:
        """Let a phone tell its companions what it knows: history, lids, keys."""
        await self.ask("POST", f"/accounts/{number}/tell", what=what, **more)

    async def restrict(self, number: str, **seconds: object) -> None:
        """Lock an account, or let its quota of new chats be used up."""
        await self.ask("POST", f"/accounts/{number}/restrict", **{"told": True, **seconds})

    async def proof(self, answer: httpx.Response) -> object:
        """What a sent message carried to show that it is no stranger's."""
        assert answer.status_code == 200, answer.text
        entry = await self.ask("GET", f"/messages/{answer.json()['wa_message_id']}")
        return entry.json()["proof"]

    # --- devices ---

    async def devices(self, number: str) -> list[Json]:
        """The devices linked to an account."""
        devices: list[Json] = (await self.ask("GET", "/devices")).json()
        return [device for device in devices if device["phone"] == number]

    async def heard_all(self, number: str) -> None:
        """Wait until a person's companions have answered whatever the server sent them."""

        async def look() -> bool:
            return all(device["queued"] == 0 for device in await self.devices(number))

        await eventually(look, f"the companions of {number} heard all")

    async def unlinked(self, number: str) -> None:
        """Wait until an account has no linked device."""

        async def look() -> bool:
            return not await self.devices(number)

        await eventually(look, f"{number} has no linked device")

    async def drop(self, device: PartnerDevice) -> None:
        """Cut a device's socket."""
        await self.ask("POST", f"/devices/{device.jid}/drop")

    async def stream_error(
        self, device: PartnerDevice, code: int | None = None, conflict: str | None = None
    ) -> None:
        """End a device's stream with an error."""
        await self.ask("POST", f"/devices/{device.jid}/stream-error", code=code, conflict=conflict)

    async def refuse_login(self, device: PartnerDevice, reason: int, **more: object) -> None:
        """Cut a device's socket and refuse its next login."""
        await self.ask("POST", f"/devices/{device.jid}/fail-next-login", reason=reason, **more)
        await self.drop(device)

    async def refuse_logins(self, device: PartnerDevice) -> None:
        """Let a device log in no more, until all is right again."""
        await self.ask("POST", f"/devices/{device.jid}/fail-next-login", reason=503, count=100)

    async def take_offline(self, device: PartnerDevice) -> None:
        """Cut a device off, until all is right again."""
        await self.refuse_logins(device)
        await self.drop(device)
        await device.until("waiting")

    # --- faults ---

    async def wrong(self, kind: str, device: PartnerDevice, **more: object) -> None:
        """Let something go wrong for a device."""
        await self.ask("POST", "/faults", kind=kind, device=device.jid, **more)

    async def all_happened(self) -> None:
        """Wait until everything that was to go wrong has."""

        async def look() -> bool:
            return not (await self.ask("GET", "/faults")).json()

        await eventually(look, "everything has gone wrong")

    async def all_right(self) -> None:
        """Let nothing go wrong any more."""
        await self.ask("DELETE", "/faults")

    async def was_sent(self, wa_message_id: str, times: int) -> Json:
        """Wait until the server got a message this often; returns what it knows of it."""

        async def look() -> Json | None:
            entry: Json = (await self.ask("GET", f"/messages/{wa_message_id}")).json()
            return entry if entry["sendings"] == times else None

        return await eventually(look, f"the server got the message {times} times")

    async def entry(self, sent: httpx.Response) -> Json:
        """What the server knows of a message that was sent."""
        wa_message_id = sent.json()["wa_message_id"]
        entry: Json = (await self.ask("GET", f"/messages/{wa_message_id}")).json()
        return entry

    async def violations(self) -> list[Json]:
        """What clients did that the protocol does not allow; the list is empty afterwards."""
        violations: list[Json] = (await self.ask("GET", "/violations")).json()["violations"]
        await self.ask("DELETE", "/violations")
        return violations
