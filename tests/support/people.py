"""People with phones at the simulator, and what its server is told through its control API."""

from __future__ import annotations

import httpx

from sitpayd.simulator.faults import Fault, FaultKind
from sitpayd.simulator.journal import Entry
from sitpayd.simulator.main import Simulator
from sitpayd.simulator.phone import Received
from tests.support.waiting import eventually


class People:
    """Everybody who has an account."""

    def __init__(self, sim: Simulator, http: httpx.AsyncClient) -> None:
        assert sim.control_url is not None
        self._sim = sim
        self._http = http
        self._control = sim.control_url

    # --- phones ---

    def say(self, number: str, to: str, text: str) -> str:
        """Let a phone send a text; returns the message's WhatsApp id."""
        return self._sim.phone(number).send(self._sim.phone(to).account, text)

    def shown(self, number: str) -> list[str | None]:
        """The texts that a phone shows, oldest first."""
        return [message.text for message in self._sim.phone(number).inbox]

    async def reads(self, number: str, text: str) -> Received:
        """Wait until a phone shows a text."""

        async def look() -> Received | None:
            for message in self._sim.phone(number).inbox:
                if message.text == text:
                    return message
            return None

        return await eventually(look, f"the phone {number} shows the text")

    # --- the server ---

    def wrong(self, kind: FaultKind, number: str, *, count: int = 1, code: int = 500) -> None:
        """Let something go wrong for the companions of an account."""
        self._sim.server.faults.add(Fault(kind, number, count=count, code=code))

    def all_right(self) -> None:
        """Let nothing go wrong any more."""
        self._sim.server.faults.clear()

    def journal(self, wa_message_id: str) -> Entry | None:
        """What the server knows of a message."""
        return self._sim.server.router.journal.find(wa_message_id)

    async def was_sent(self, wa_message_id: str, times: int = 1) -> Entry:
        """Wait until the server got a message this often."""

        async def look() -> Entry | None:
            entry = self.journal(wa_message_id)
            return entry if entry is not None and entry.sendings >= times else None

        return await eventually(look, f"the server got the message {times} times")

    def companions(self, number: str) -> list[str]:
        """The devices linked to an account."""
        account = self._sim.phone(number).account
        return [str(device.pn) for device in account.companions]

    def online(self, number: str) -> list[str]:
        """The devices of an account that are connected."""
        account = self._sim.phone(number).account
        return [str(d.pn) for d in account.companions if self._sim.server.client(d) is not None]

    async def unlinked(self, number: str) -> None:
        """Wait until an account has no companion."""

        async def look() -> bool:
            return not self.companions(number)

        await eventually(look, f"{number} has no linked device")

    # --- the control API ---

    async def control(self, method: str, path: str, **body: object) -> httpx.Response:
        """Ask the control API for something that succeeds."""
        response = await self._http.request(method, self._control + path, json=body)
        assert response.is_success, response.text
        return response

    async def drop(self, jid: str) -> None:
        """Cut a device's socket."""
        await self.control("POST", f"/devices/{jid}/drop")

    async def stream_error(
        self, jid: str, code: int | None = None, conflict: str | None = None
    ) -> None:
        """End a device's stream with an error."""
        await self.control("POST", f"/devices/{jid}/stream-error", code=code, conflict=conflict)

    async def fail_next_login(self, jid: str, reason: int, **more: object) -> None:
        """Refuse a device's next login."""
        await self.control("POST", f"/devices/{jid}/fail-next-login", reason=reason, **more)
