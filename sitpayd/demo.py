"""The demo: a partner's day against the simulator, through the public HTTP API only.

Starts the simulator and the daemon as processes of their own, and starts the daemon again when it
dies, as systemd would. Every step is shown when it was observed; one that was not ends the demo
with a message and status 1. What a partner's program would do is in `_Partner`; what a person with
a phone would do goes through the simulator's control API.
"""

from __future__ import annotations

import base64
import io
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import httpx
import trio
import zxingcpp
from PIL import Image

from sitpayd.api.qr import blocks

PORT: Final = 8080
OWN_NUMBER: Final = "919876543210"
OTHER_NUMBER: Final = "919812345678"
GREETING: Final = "Hello! Your order has left the shop."
REPLY: Final = "Thanks, I am at home."
# No step takes longer than this.
STEP_S: Final = 30.0
RESTART_S: Final = 1.0
STOP_S: Final = 20.0
# A code that no connection waits for any more, or whose connection ended during the scan.
NOT_LINKED: Final = (409, 422)
# The contract says: retry in 3 s; a demo that is watched asks more often.
POLL_S: Final = 0.25

Json = dict[str, object]


class DemoError(Exception):
    """A step was not observed."""


async def run_demo(once: bool) -> int:
    """Live a partner's day; stay up until Ctrl-C unless `once`. Returns the exit status."""
    status = 0
    with tempfile.TemporaryDirectory(prefix="sitpayd-demo-") as directory:
        try:
            await _demo(Path(directory), once)
        except* DemoError as group:
            status = 1
            print(f"\nThe demo failed: {_innermost(group)}", file=sys.stderr)
            print(f"--- the daemon's log ---\n{_tail(Path(directory))}", file=sys.stderr)
    return status


async def _demo(directory: Path, once: bool) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_until_signal, signals, nursery.cancel_scope)
            _say("Starting the WhatsApp simulator and the daemon")
            async with _simulator() as simulator, httpx.AsyncClient(timeout=STEP_S) as http:
                base_url = f"http://127.0.0.1:{_free_port()}"
                admin_key = secrets.token_urlsafe(32)
                environment = _environment(directory, base_url, admin_key, simulator)
                await nursery.start(_keep_daemon, environment, directory / "daemon.log")
                await _until_ready(http, base_url)
                _done(f"simulator {simulator['url']}, daemon {base_url}")
                partner = _Partner(http, base_url)
                people = _People(http, simulator["control"])
                await _day(partner, people)
                _show_commands(partner, admin_key, simulator)
                if once:
                    nursery.cancel_scope.cancel()
                    return
                print("\nBoth stay up. Ctrl-C ends them.", flush=True)
                await trio.sleep_forever()


async def _day(partner: _Partner, people: _People) -> None:
    await people.make_account(OWN_NUMBER, "The shop")
    await people.make_account(OTHER_NUMBER, "A customer")
    _say("A partner registers")
    await partner.register()
    _done(f"api_key {partner.api_key[:7]}…")
    _say("The partner creates a user")
    await partner.create_user()
    _done(f"user_token {partner.user_token[:7]}…")
    _say("The partner creates a device")
    await partner.create_device()
    _done(f"session_id {partner.session_id}")
    linked = None
    while linked is None:
        _say("The partner polls qr_url")
        picture = await partner.qr_picture()
        text = _read_qr(picture)
        _done(f"a PNG of {len(picture)} bytes; a QR reader reads {len(text)} characters in it:")
        print(blocks(text), flush=True)
        _say(f"The phone +{OWN_NUMBER} scans it")
        linked = await people.scan(OWN_NUMBER, text)
    _done(f"linked as {linked}")
    _say("The partner waits for the status connected")
    await partner.wait_until_connected()
    _done(f"connected as {await partner.linked_phone()}")
    _say(f"The partner sends to +{OTHER_NUMBER}")
    sent = await partner.send(OTHER_NUMBER, GREETING)
    _done(f"{sent['message']}, from {sent['device']}: WhatsApp's server has acknowledged it")
    _say("The other phone decrypts it")
    received = await people.wait_for_text(OTHER_NUMBER, GREETING)
    _done(f"“{received}”")
    _say("The other phone replies")
    await people.send(OTHER_NUMBER, OWN_NUMBER, REPLY)
    _done(f"“{REPLY}”")
    _say("The device receives it")
    messages = await partner.wait_for_reply(REPLY)
    _done("GET /wa/:device_token/messages")
    for message in messages:
        arrow = "→" if message["direction"] == "out" else "←"
        print(f"      {arrow} {message['peer']}  {message['state']:<9}  {message['text']}")
    await _link_by_code(partner.second(), people)
    violations = await people.violations()
    _say("The simulator has watched the protocol")
    if violations:
        raise DemoError(f"the simulator saw violations: {violations}")
    _done("no violation")


async def _link_by_code(partner: _Partner, people: _People) -> None:
    _say("The partner creates a second device, to be linked without a camera")
    await partner.create_device()
    linked = None
    while linked is None:
        code = await partner.pairing_code(OTHER_NUMBER)
        _done(f"POST /partner/devices/:session_id/pairing-code: {code}")
        _say(f"Its user types {code} on the phone +{OTHER_NUMBER}")
        linked = await people.enter_code(OTHER_NUMBER, code)
    await partner.wait_until_connected()
    _done(f"connected as {linked}")


class _Partner:
    """A partner's program: it knows the contract and nothing else."""

    def __init__(self, http: httpx.AsyncClient, base_url: str) -> None:
        self._http = http
        self.base_url = base_url
        self.api_key = self.user_token = self.session_id = ""
        self.device_token = self.send_url = self.qr_url = ""

    async def register(self) -> None:
        answer = await self._post(
            "/partner/register",
            {"name": "ABC Reseller", "email": "abc@reseller.com", "domain": "api.reseller.com"},
        )
        self.api_key = str(answer["api_key"])

    async def create_user(self) -> None:
        answer = await self._post(
            "/partner/users", {"label": "John Doe", "email": "john@example.com"}, self._key()
        )
        self.user_token = str(answer["user_token"])

    def second(self) -> _Partner:
        """The same program, about to make another device."""
        again = _Partner(self._http, self.base_url)
        again.api_key, again.user_token = self.api_key, self.user_token
        return again

    async def create_device(self) -> None:
        headers = {**self._key(), "x-user-token": self.user_token}
        answer = await self._post("/partner/devices", {"device_name": "John iPhone"}, headers)
        self.session_id = str(answer["session_id"])
        self.device_token = str(answer["device_token"])
        self.send_url, self.qr_url = str(answer["send_url"]), str(answer["qr_url"])

    async def qr_picture(self) -> bytes:
        with _step("no QR code came"):
            while True:
                answer = await self._get(self.qr_url, self._key())
                if answer["type"] == "success":
                    return base64.b64decode(str(answer["qr"]).partition(",")[2])
                await trio.sleep(POLL_S)

    async def pairing_code(self, phone: str) -> str:
        path = f"/partner/devices/{self.session_id}/pairing-code"
        with _step("no pairing code came"):
            while True:
                answer = await self._post(path, {"phone": phone}, self._key())
                if answer["type"] == "success":
                    return str(answer["code"])
                await trio.sleep(POLL_S)

    async def wait_until_connected(self) -> None:
        url = f"{self.base_url}/partner/devices/{self.session_id}/status"
        with _step("the device did not connect"):
            while True:
                if (await self._get(url, self._key()))["status"] == "connected":
                    return
                await trio.sleep(POLL_S)

    async def linked_phone(self) -> str:
        answer = await self._get(self.qr_url, self._key())
        if answer["type"] != "connected":
            raise DemoError(f"qr_url answers {answer['type']} for a connected device")
        return f"+{answer['phone']}"

    async def send(self, to: str, text: str) -> Json:
        # With a key the request may be repeated if no answer comes: it is one message.
        headers = {"Idempotency-Key": secrets.token_urlsafe(16)}
        with _step("the message was not acknowledged"):
            while True:
                answer = await self._post(self.send_url, {"to": to, "message": text}, headers)
                if answer["type"] == "success":
                    return answer
                await trio.sleep(POLL_S)

    async def wait_for_reply(self, text: str) -> list[Json]:
        url = f"{self.base_url}/wa/{self.device_token}/messages?limit=10"
        with _step("the reply did not arrive"):
            while True:
                messages = (await self._get(url, {}))["messages"]
                assert isinstance(messages, list)
                if any(m["direction"] == "in" and m["text"] == text for m in messages):
                    return messages
                await trio.sleep(POLL_S)

    def _key(self) -> dict[str, str]:
        return {"x-api-key": self.api_key}

    async def _post(self, path: str, body: Json, headers: Mapping[str, str] | None = None) -> Json:
        url = path if path.startswith("http") else self.base_url + path
        return await self._ask(self._http.build_request("POST", url, json=body, headers=headers))

    async def _get(self, url: str, headers: Mapping[str, str]) -> Json:
        return await self._ask(self._http.build_request("GET", url, headers=headers))

    async def _ask(self, request: httpx.Request) -> Json:
        """Ask, and ask again while the daemon is away: it is started again when it dies."""
        with _step("the daemon does not answer"):
            while True:
                try:
                    return _checked(await self._http.send(request))
                except httpx.TransportError:
                    await trio.sleep(POLL_S)


class _People:
    """People with phones, moved through the simulator's control API."""

    def __init__(self, http: httpx.AsyncClient, control: str) -> None:
        self._http = http
        self._control = control

    async def make_account(self, phone: str, name: str) -> None:
        await self._post("/accounts", {"phone": phone, "name": name})

    async def scan(self, phone: str, qr: str) -> str | None:
        """Scan a code; None: it is not valid any more, for example since the daemon died."""
        return await self._link(f"/accounts/{phone}/scan", {"qr": qr})

    async def enter_code(self, phone: str, code: str) -> str | None:
        """Type a pairing code; None: it is not valid any more."""
        return await self._link(f"/accounts/{phone}/enter-code", {"code": code})

    async def _link(self, path: str, body: Json) -> str | None:
        response = await self._ask("POST", path, body)
        if response.status_code in NOT_LINKED:
            print(f"    {response.json()['message']}: once more", flush=True)
            return None
        return str(_checked(response)["jid"])

    async def send(self, phone: str, to: str, text: str) -> None:
        await self._post(f"/accounts/{phone}/messages", {"to": to, "text": text})

    async def wait_for_text(self, phone: str, text: str) -> str:
        with _step("the phone did not show the message"):
            while True:
                inbox = await self._ask("GET", f"/accounts/{phone}/inbox")
                for message in inbox.json():
                    if message["text"] == text:
                        return str(message["text"])
                await trio.sleep(POLL_S)

    async def violations(self) -> list[Json]:
        answer = _checked(await self._ask("GET", "/violations"))
        violations = answer["violations"]
        assert isinstance(violations, list)
        return violations

    async def _post(self, path: str, body: Json) -> Json:
        return _checked(await self._ask("POST", path, body))

    async def _ask(self, method: str, path: str, body: Json | None = None) -> httpx.Response:
        try:
            return await self._http.request(method, self._control + path, json=body)
        except httpx.TransportError as error:
            raise DemoError("the simulator does not answer") from error


# --- processes ---


@asynccontextmanager
async def _simulator() -> AsyncIterator[dict[str, str]]:
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "sitpayd", "simulate"], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        line = b""
        with _step("the simulator did not start"):
            while not line.endswith(b"\n"):
                data = await process.stdout.receive_some()
                if not data:
                    raise DemoError("the simulator ended at its start")
                line += data
        yield json.loads(line)
    finally:
        await _end(process)


async def _keep_daemon(
    environment: Mapping[str, str],
    log: Path,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run the daemon, and start it again whenever it dies."""
    with log.open("ab") as output:
        while True:
            process = await trio.lowlevel.open_process(
                [sys.executable, "-m", "sitpayd", "serve"],
                env=environment,
                stdout=output,
                stderr=output,
            )
            print(f"    daemon: process {process.pid}", flush=True)
            task_status.started()
            task_status = trio.TASK_STATUS_IGNORED
            try:
                status = await process.wait()
            finally:
                await _end(process)
            print(f"\n    The daemon ended with status {status}; it is started again.", flush=True)
            await trio.sleep(RESTART_S)


async def _end(process: trio.Process) -> None:
    if process.returncode is None:
        process.terminate()
        with trio.CancelScope(deadline=trio.current_time() + STOP_S, shield=True):
            await process.wait()
        if process.returncode is None:
            process.kill()


async def _until_ready(http: httpx.AsyncClient, base_url: str) -> None:
    with _step("the daemon did not start"):
        while True:
            try:
                if (await http.get(f"{base_url}/readyz")).is_success:
                    return
            except httpx.TransportError:
                pass
            await trio.sleep(POLL_S)


async def _until_signal(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for _ in signals:
        scope.cancel()


def _environment(
    directory: Path, base_url: str, admin_key: str, simulator: Mapping[str, str]
) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("SITPAYD_")}
    return {
        **inherited,
        "SITPAYD_LISTEN": base_url.removeprefix("http://"),
        "SITPAYD_BASE_URL": base_url,
        "SITPAYD_STATE_DIR": str(directory),
        "SITPAYD_ADMIN_KEY": admin_key,
        "SITPAYD_WHATSAPP_URL": simulator["url"],
        "SITPAYD_WHATSAPP_ROOT_KEY": simulator["root_key"],
    }


def _free_port() -> int:
    """The usual port, or any free one if it is taken."""
    for port in (PORT, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise DemoError("no free port on 127.0.0.1")


# --- showing ---


def _read_qr(picture: bytes) -> str:
    found = zxingcpp.read_barcodes(Image.open(io.BytesIO(picture)))
    if not found:
        raise DemoError("the picture cannot be scanned")
    return str(found[0].text)


def _checked(response: httpx.Response) -> Json:
    if not response.is_success:
        raise DemoError(
            f"{response.request.method} answered {response.status_code}: {response.text}"
        )
    answer: Json = response.json()
    return answer


@contextmanager
def _step(failure: str) -> Iterator[None]:
    """Give a step its time; afterwards it has failed."""
    with trio.move_on_after(STEP_S) as scope:
        yield
    if scope.cancelled_caught:
        raise DemoError(failure)


def _say(text: str) -> None:
    print(f"  • {text} …", flush=True)


def _done(text: str) -> None:
    print(f"    \033[32m✓\033[0m {text}" if sys.stdout.isatty() else f"    ✓ {text}", flush=True)


def _show_commands(partner: _Partner, admin_key: str, simulator: Mapping[str, str]) -> None:
    print(
        f"""
Try it yourself:

  api_key       {partner.api_key}
  user_token    {partner.user_token}
  device_token  {partner.device_token}
  send_url      {partner.send_url}
  admin key     {admin_key}
  simulator     {simulator["control"]}

  # send
  curl -X POST {partner.send_url} \\
    -H "Content-Type: application/json" \\
    -d '{{"to":"{OTHER_NUMBER}","message":"Hello!"}}'

  # both directions of the conversation
  curl "{partner.base_url}/wa/{partner.device_token}/messages?limit=10"

  # profile and numbers
  curl {partner.base_url}/partner/me -H "x-api-key: {partner.api_key}"

  # what the other phone shows
  curl {simulator["control"]}/accounts/{OTHER_NUMBER}/inbox

  # let the other phone write
  curl -X POST {simulator["control"]}/accounts/{OTHER_NUMBER}/messages \\
    -H "Content-Type: application/json" \\
    -d '{{"to":"{OWN_NUMBER}","text":"Hello back!"}}'""",
        flush=True,
    )


def _tail(directory: Path) -> str:
    log = directory / "daemon.log"
    return "\n".join(log.read_text().splitlines()[-20:]) if log.exists() else "(empty)"


def _innermost(group: BaseExceptionGroup[DemoError]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
