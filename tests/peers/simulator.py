"""Starts `sitpayd simulate` as a program of its own and commands it over its control API.

What a phone or the server is told to do is a method here; what third-party clients do is
`process.py`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from subprocess import PIPE
from typing import Any, Self
from urllib.parse import quote

import httpx
import trio

from tests.support.waiting import eventually

LEAVE_S = 5.0
# Longer than any test waits: the deadline is the test's.
LONG_POLL_S = 60


@dataclass(frozen=True, slots=True)
class Person:
    """An account of the simulator, with its phone."""

    phone: str
    lid: str

    @property
    def jid(self) -> str:
        """The address by number, without device."""
        return f"{self.phone}@s.whatsapp.net"


@dataclass(frozen=True, slots=True)
class Heard:
    """A message as a phone decrypted it; `peer` is the number of the other person."""

    id: str
    peer: str
    text: str | None
    from_me: bool


class SimulatedWhatsApp:
    """A running simulator.

    Attributes:
        url: where clients connect.
        root_key: signs its certificates, 64 hex digits.
    """

    def __init__(self, url: str, root_key: str, http: httpx.AsyncClient) -> None:
        self.url = url
        self.root_key = root_key
        self._http = http

    @classmethod
    @asynccontextmanager
    async def start(cls) -> AsyncGenerator[Self]:
        """Run a simulator as long as the block runs."""
        argv = [sys.executable, "-m", "sitpayd", "simulate"]
        process = await trio.lowlevel.open_process(argv, stdout=PIPE)
        try:
            addresses = json.loads(await _first_line(process))
            timeout = httpx.Timeout(5, read=LONG_POLL_S + 5)
            async with httpx.AsyncClient(base_url=addresses["control"], timeout=timeout) as http:
                yield cls(addresses["url"], addresses["root_key"], http)
        finally:
            process.terminate()
            with trio.move_on_after(LEAVE_S, shield=True):
                await process.wait()
            if process.returncode is None:
                process.kill()
                with trio.CancelScope(shield=True):
                    await process.wait()

    # --- people and their phones ---

    async def make_person(self, name: str) -> Person:
        """Make an account with a phone."""
        return await self._make(name=name)

    async def make_business(self, name: str) -> Person:
        """Make an account with a name that clients learn when they link: Baileys needs one."""
        return await self._make(name=name, business_name=name)

    async def _make(self, **fields: str) -> Person:
        account: dict[str, str] = (await self._ask("POST", "/accounts", **fields)).json()
        return Person(account["phone"], account["lid"])

    async def scan(self, person: Person, qr_text: str) -> str:
        """Let the phone link the device that shows this code; the device's JID."""
        answer = await self._ask("POST", f"/accounts/{person.phone}/scan", qr=qr_text)
        device: dict[str, str] = answer.json()
        return device["jid"]

    async def enter_code(self, person: Person, code: str) -> str:
        """Let the person type the code that a device shows; the device's JID."""
        answer = await self._ask("POST", f"/accounts/{person.phone}/enter-code", code=code)
        device: dict[str, str] = answer.json()
        return device["jid"]

    async def say(self, person: Person, to: Person, text: str, *, addressing: str = "lid") -> str:
        """Let the phone send a text; the message id."""
        path = f"/accounts/{person.phone}/messages"
        answer = await self._ask("POST", path, to=to.phone, text=text, addressing=addressing)
        sent: dict[str, str] = answer.json()
        return sent["id"]

    async def heard(self, person: Person, text: str) -> Heard:
        """Wait until the phone has decrypted this text; the caller brings the deadline."""
        after = 0
        while True:
            path = f"/accounts/{person.phone}/inbox?after={after}&wait={LONG_POLL_S}"
            for message in (await self._ask("GET", path)).json():
                after = message["seq"]
                if message["text"] == text:
                    return Heard(message["id"], message["peer"], text, message["from_me"])

    async def read(self, person: Person, message_id: str) -> None:
        """Let the person read a message, which its author is told."""
        await self._ask("POST", f"/accounts/{person.phone}/read", id=message_id)

    async def appear(self, person: Person, *, available: bool) -> None:
        """Let a phone appear online, or offline."""
        await self._ask("POST", f"/accounts/{person.phone}/presence", available=available)

    async def type(self, person: Person, to: Person, state: str) -> None:
        """Let a phone show somebody that it types, which is seen while it is online."""
        await self._ask("POST", f"/accounts/{person.phone}/typing", to=to.phone, state=state)

    async def online(self, person: Person, *, available: bool) -> None:
        """Wait until others see a person online, or offline."""

        async def look() -> bool:
            return await self.is_online(person) is available

        await eventually(look, f"{person.phone} is online: {available}")

    async def is_online(self, person: Person) -> bool:
        """Whether others see a person online."""
        shown: bool = (await self._presence(person))["available"]
        return shown

    async def saw(self, person: Person, peer: Person, *states: str) -> None:
        """Wait until a person has seen these chat states of another, and no others."""
        wanted = [(peer.phone, state) for state in states]

        async def look() -> bool:
            seen = (await self._presence(person))["chat_states"]
            return [(item["peer"], item["state"]) for item in seen] == wanted

        await eventually(look, f"{person.phone} sees {states}")

    async def was_read(self, person: Person, message_id: str) -> None:
        """Wait until a phone was told that a message of its own was read."""
        path = f"/accounts/{person.phone}/receipts/{message_id}"

        async def look() -> bool:
            return "read" in (await self._ask("GET", path)).json()

        await eventually(look, f"{person.phone} learns that {message_id} was read")

    async def _presence(self, person: Person) -> Any:
        return (await self._ask("GET", f"/accounts/{person.phone}/presence")).json()

    async def treat(self, person: Person, **changes: int | bool | None) -> None:
        """Change how the server treats a person's account."""
        await self._ask("PATCH", f"/accounts/{person.phone}", **changes)

    async def reinstall(self, person: Person) -> None:
        """Let the person begin on a new phone."""
        await self._ask("POST", f"/accounts/{person.phone}/reinstall")

    async def sent_to(self, message_id: str) -> str:
        """Whom the first sending of a message was addressed to."""
        entry: dict[str, str] = (await self._ask("GET", f"/messages/{message_id}")).json()
        return entry["to"]

    async def sendings(self, message_id: str) -> int:
        """How often the server got a message."""
        entry: dict[str, int] = (await self._ask("GET", f"/messages/{message_id}")).json()
        return entry["sendings"]

    async def receipts(self, message_id: str, device: str) -> list[str]:
        """The types of the receipts that a device has sent for a message."""
        entry = (await self._ask("GET", f"/messages/{message_id}")).json()
        receipts: list[str] = entry["copies"][device]["receipts"]
        return receipts

    async def tell(self, person: Person, what: str) -> None:
        """Let the phone tell its companions what it knows: history, lids, keys."""
        await self._ask("POST", f"/accounts/{person.phone}/tell", what=what)

    async def proof(self, message_id: str) -> str | None:
        """What a message carried to show that it is no stranger's.

        Waits for the message: some clients name its id before it has left.
        """

        async def came() -> httpx.Response | None:
            response = await self._http.get(f"/messages/{message_id}")
            return None if response.status_code == 404 else response.raise_for_status()

        entry: dict[str, str | None] = (await eventually(came, "the message came")).json()
        return entry["proof"]

    # --- devices and faults ---

    async def drop(self, device: str) -> None:
        """Cut the device's socket without a word."""
        await self._ask("POST", f"/devices/{quote(device)}/drop")

    async def companions(self, person: Person, count: int) -> None:
        """Wait until a person's account has as many devices besides the phone."""

        async def look() -> bool:
            devices = (await self._ask("GET", "/devices")).json()
            return [device["phone"] for device in devices].count(person.phone) == count

        await eventually(look, f"{person.phone} has {count} companions")

    async def batches(self) -> None:
        """Hand backlogs out in the batches that clients ask for."""
        await self._ask("PATCH", "/options", batches=True)

    async def unlink(self, device: str) -> None:
        """Remove the device, as its phone would."""
        await self._ask("DELETE", f"/devices/{quote(device)}")

    async def cause(self, fault: str, person: Person, *, count: int = 1) -> None:
        """Let something go wrong with a person's phone or devices."""
        await self._ask("POST", "/faults", kind=fault, phone=person.phone, count=count)

    async def wrong(self, fault: str, device: str, *, count: int = 1) -> None:
        """Let something go wrong with a single device."""
        await self._ask("POST", "/faults", kind=fault, device=device, count=count)

    async def all_happened(self) -> None:
        """Wait until everything that was to go wrong has."""

        async def look() -> bool:
            return not (await self._ask("GET", "/faults")).json()

        await eventually(look, "everything has gone wrong")

    async def resume(self, resumption: str) -> None:
        """Say what happens to clients that resume: `accept`, `refuse`, `ignore`."""
        await self._ask("PATCH", "/options", resumption=resumption)

    async def renew_keys(self) -> None:
        """Let the server take new Noise keys and certificates under the same root."""
        await self._ask("POST", "/keys")

    async def handshake(self, device: str) -> str:
        """How the device shook hands at its last login: `xx`, `ik` or `xxfallback`."""
        answer: dict[str, str] = (await self._ask("GET", f"/devices/{quote(device)}")).json()
        return answer["handshake"]

    async def announce(self, device: str, kind: str, content: list[dict[str, object]]) -> None:
        """Send the device a notification."""
        await self._ask(
            "POST", f"/devices/{quote(device)}/notifications", type=kind, content=content
        )

    async def ping(self, device: str) -> None:
        """Ask the device whether it is there."""
        await self._ask("POST", f"/devices/{quote(device)}/ping")

    async def make_dirty(self, device: str, kind: str) -> None:
        """Tell the device that something changed, until it has cleaned that."""
        await self._ask("POST", f"/devices/{quote(device)}/dirty", type=kind)

    async def device(self, device: str) -> dict[str, object]:
        """The device, as the server sees it."""
        seen: dict[str, object] = (await self._ask("GET", f"/devices/{quote(device)}")).json()
        return seen

    async def until(
        self, device: str, what: str, holds: Callable[[dict[str, object]], bool]
    ) -> None:
        """Wait until this holds of the device, as the server sees it."""

        async def look() -> bool:
            return holds(await self.device(device))

        await eventually(look, what)

    async def complaints(self) -> list[str]:
        """What clients did that the protocol forbids, or asked that is not simulated."""
        seen = (await self._ask("GET", "/violations")).json()
        return [str(item) for item in (*seen["violations"], *seen["unsupported"])]

    async def _ask(self, method: str, path: str, **fields: object) -> httpx.Response:
        response = await self._http.request(method, path, json=fields or None)
        if response.is_error:
            raise AssertionError(f"{method} {path}: {response.status_code} {response.text}")
        return response


async def _first_line(process: trio.Process) -> bytes:
    assert process.stdout is not None
    line = b""
    async for chunk in process.stdout:
        line += chunk
        if b"\n" in line:
            return line
    raise AssertionError("the simulator ended before it was ready")
