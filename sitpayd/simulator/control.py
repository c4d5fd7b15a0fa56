"""The control API: people, phones, faults and what was seen, over HTTP with JSON.

For tests and people on the same machine: there is no authentication, and it listens on loopback
only. Every error is `{"type": "error", "message", "field"}`. docs/simulator.md shows each route.
"""

from __future__ import annotations

import base64
import json
import time
from dataclasses import asdict, fields, replace
from enum import StrEnum
from typing import Final, get_args

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from quart import Response, jsonify
from quart_trio import QuartTrio

from sitpayd.whatsapp.jid import LID_SERVER, PN_SERVER
from sitpayd.whatsapp.noise import Resumption
from sitpayd.whatsapp.stanzas.failure import StreamError, stream_error
from sitpayd.whatsapp.stanzas.login import DEFAULT_REVISION
from sitpayd.whatsapp.stanzas.presence import TypingState, own_chat_state

from .accounts import Account, Device
from .announcements import add_announcements
from .endpoint import Endpoint
from .faults import ALWAYS, Fault, FaultKind
from .linking import ScanError
from .options import Options, Repeats
from .requests import (
    Body,
    ControlError,
    client_of,
    companion_of,
    device_of,
    phone_of,
    query_number,
    query_seconds,
    read_body,
)
from .seeding import Seeded, seed_companion
from .server import Server

_SCAN_S: Final = 30.0
_MAX_WAIT_S: Final = 60.0
_GRACE_S: Final = 0.2
_MAX_NUMBER_LEN: Final = 15


class Telling(StrEnum):
    """What a phone tells its companions."""

    HISTORY = "history"
    LIDS = "lids"
    KEYS = "keys"


async def serve_control(
    server: Server,
    host: str,
    port: int,
    stop: trio.Event,
    *,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the control API until `stop` is set; started with its address."""
    config = Config()
    config.bind = [f"{host}:{port}"]
    config.errorlog = None
    config.graceful_timeout = _GRACE_S
    app = create_control(server)
    async with trio.open_nursery() as nursery:

        async def run(*, task_status: trio.TaskStatus[list[str]]) -> None:
            await serve(app, config, shutdown_trigger=stop.wait, task_status=task_status)

        addresses: list[str] = await nursery.start(run)
        task_status.started(addresses[0])


def create_control(server: Server) -> QuartTrio:
    """Make the application."""
    app = QuartTrio(__name__, static_folder=None)
    # A field added later stays where it was put: people read these answers.
    app.json.sort_keys = False  # type: ignore[attr-defined]  # Quart's default provider has it
    _add_errors(app)
    _add_accounts(app, server)
    _add_sightings(app, server)
    _add_devices(app, server)
    add_announcements(app, server)
    _add_observations(app, server)
    _add_service_worker(app, server)
    return app


def _add_service_worker(app: QuartTrio, server: Server) -> None:
    @app.get("/sw.js")
    async def service_worker() -> Response:
        """What web.whatsapp.com/sw.js tells: the newest revision, JSON inside of a script."""
        revision = max(server.options.minimum_revision, DEFAULT_REVISION)
        site = json.dumps(json.dumps({"SiteData": {"client_revision": revision}}))
        return Response(f"importScripts(JSON.parse({site}));", content_type="text/javascript")


def _add_errors(app: QuartTrio) -> None:
    def answer(status: int, message: str, field: str | None = None) -> Response:
        response = jsonify({"type": "error", "message": message, "field": field})
        response.status_code = status
        return response

    @app.errorhandler(ControlError)
    async def control_error(error: ControlError) -> Response:
        return answer(error.status, str(error), error.field)

    @app.errorhandler(ScanError)
    async def scan_error(error: ScanError) -> Response:
        return answer(422 if error.field else 409, str(error), error.field)

    @app.errorhandler(400)
    async def malformed(_: Exception) -> Response:
        return answer(400, "the body is not JSON")

    @app.errorhandler(404)
    async def unknown(_: Exception) -> Response:
        return answer(404, "there is no such route")

    @app.errorhandler(405)
    async def wrong_method(_: Exception) -> Response:
        return answer(405, "this route has other methods")


def _add_accounts(app: QuartTrio, server: Server) -> None:
    @app.get("/accounts")
    async def list_accounts() -> Response:
        return jsonify([_account(account) for account in server.accounts])

    @app.post("/accounts")
    async def make_account() -> Response:
        body = await read_body(optional=True)
        number = body.optional_text("phone")
        if number is not None:
            number = number.removeprefix("+")
            if not (number.isascii() and number.isdigit() and len(number) <= _MAX_NUMBER_LEN):
                raise ControlError(422, "phone must be digits in international form", "phone")
        try:
            phone = server.add_account(
                number,
                body.text("name", ""),
                platform=body.text("platform", "android"),
                business_name=body.optional_text("business_name"),
            )
        except ValueError as error:
            raise ControlError(409, str(error), "phone") from error
        response = jsonify(_account(phone.account))
        response.status_code = 201
        return response

    @app.get("/accounts/<number>")
    async def show_account(number: str) -> Response:
        return jsonify(_account(phone_of(server, number).account))

    @app.patch("/accounts/<number>")
    async def change_account(number: str) -> Response:
        account, body = phone_of(server, number).account, await read_body()
        for name in body.names - {"lid_refusal", "lid_is_hidden"}:
            raise ControlError(422, f"{name} cannot be changed", name)
        refusal, is_hidden = account.lid_refusal, account.lid_is_hidden
        if "lid_refusal" in body.names:
            refusal = body.optional_number("lid_refusal")
        if "lid_is_hidden" in body.names:
            is_hidden = body.flag("lid_is_hidden")
        account.lid_refusal, account.lid_is_hidden = refusal, is_hidden
        return jsonify(_account(account))

    @app.post("/accounts/<number>/reinstall")
    async def reinstall(number: str) -> Response:
        server.reinstall(phone := phone_of(server, number))
        return jsonify(_account(phone.account))

    @app.post("/accounts/<number>/companions")
    async def add_companion(number: str) -> Response:
        phone, body = phone_of(server, number), await read_body(optional=True)
        try:
            companion = server.add_companion(phone, is_hosted=body.flag("hosted", False))
        except ValueError as error:
            raise ControlError(409, str(error), "hosted") from error
        response = jsonify(_device(server, companion.device))
        response.status_code = 201
        return response

    @app.post("/accounts/<number>/scan")
    async def scan(number: str) -> Response:
        phone, body = phone_of(server, number), await read_body()
        qr_text = body.text("qr")
        with trio.move_on_after(_SCAN_S):
            return jsonify(_device(server, await phone.scan(qr_text)))
        raise ControlError(504, "the companion did not answer")

    @app.post("/accounts/<number>/enter-code")
    async def enter_code(number: str) -> Response:
        phone, body = phone_of(server, number), await read_body()
        code = body.text("code")
        with trio.move_on_after(_SCAN_S):
            return jsonify(_device(server, await phone.enter_code(code)))
        raise ControlError(504, "the companion did not answer")

    @app.post("/accounts/<number>/tell")
    async def tell(number: str) -> Response:
        phone, body = phone_of(server, number), await read_body()
        what, by_media = body.choice("what", Telling), body.text("by", "inline") == "media"
        filler_len = body.number("filler", 0)
        for device in list(phone.account.companions):
            match what:
                case Telling.HISTORY:
                    phone.tell_history(device, by_media=by_media, filler_len=filler_len)
                case Telling.LIDS:
                    phone.tell_lids(device)
                case Telling.KEYS:
                    phone.share_keys(device)
        return jsonify({})

    @app.post("/accounts/<number>/restrict")
    async def restrict(number: str) -> Response:
        account, body = phone_of(server, number).account, await read_body()
        locked_s, capped_s = body.optional_seconds("locked"), body.optional_seconds("capped")
        account.locked_until = None if locked_s is None else time.time() + locked_s
        account.capped_until = None if capped_s is None else time.time() + capped_s
        if body.flag("told", True):
            server.router.tell_restriction(account)
        return jsonify({})

    @app.post("/accounts/<number>/messages")
    async def send(number: str) -> Response:
        return jsonify({"id": await _sent(server, phone_of(server, number))})

    @app.get("/accounts/<number>/inbox")
    async def inbox(number: str) -> Response:
        phone = phone_of(server, number)
        after = query_number("after", 0)
        with trio.move_on_after(min(query_seconds("wait"), _MAX_WAIT_S)):
            while phone.received <= after:
                await phone.arrival()
        return jsonify([asdict(item) for item in phone.inbox if item.seq > after])

    @app.post("/accounts/<number>/read")
    async def read(number: str) -> Response:
        phone, body = phone_of(server, number), await read_body()
        if not phone.read(body.text("id")):
            raise ControlError(404, "no such message in the inbox", "id")
        return jsonify({})


def _add_sightings(app: QuartTrio, server: Server) -> None:
    sightings = server.sightings

    @app.get("/accounts/<number>/presence")
    async def show_presence(number: str) -> Response:
        account = phone_of(server, number).account
        seen = [asdict(item) for item in sightings.seen_by(account)]
        return jsonify(
            {
                "available": sightings.is_online(account),
                "name": sightings.name_of(account),
                "chat_states": seen,
            }
        )

    @app.post("/accounts/<number>/presence")
    async def set_presence(number: str) -> Response:
        phone, body = phone_of(server, number), await read_body()
        sightings.show(phone.device, available=body.flag("available"))
        return jsonify({})

    @app.post("/accounts/<number>/typing")
    async def show_typing(number: str) -> Response:
        phone, body = phone_of(server, number), await read_body()
        to = phone_of(server, body.text("to"), "to").account
        text = body.text("state")
        words: tuple[TypingState, ...] = get_args(TypingState)
        state = next((word for word in words if word == text), None)
        if state is None:
            raise ControlError(422, f"state must be one of {', '.join(words)}", "state")
        sightings.chat_state(phone.device, own_chat_state(to.lid, state))
        return jsonify({})

    @app.get("/accounts/<number>/receipts/<message_id>")
    async def show_receipts(number: str, message_id: str) -> Response:
        return jsonify(phone_of(server, number).receipts.get(message_id, []))


def _add_devices(app: QuartTrio, server: Server) -> None:
    @app.get("/devices")
    async def list_devices() -> Response:
        return jsonify(
            [
                _device(server, device)
                for account in server.accounts
                for device in account.companions
            ]
        )

    @app.post("/devices")
    async def seed_devices() -> Response:
        body = await read_body()
        first, count = body.text("first"), body.number("count")
        if not (first.isascii() and first.isdigit() and len(first) <= _MAX_NUMBER_LEN):
            raise ControlError(422, "first must be digits in international form", "first")
        seeded = []
        for number in range(int(first), int(first) + count):
            try:
                phone = server.add_account(str(number))
            except ValueError as error:
                raise ControlError(409, str(error), "first") from error
            seeded.append(_seeded(await seed_companion(server, phone)))
            await trio.lowlevel.checkpoint()
        response = jsonify({"devices": seeded})
        response.status_code = 201
        return response

    @app.get("/devices/<jid>")
    async def show_device(jid: str) -> Response:
        return jsonify(_device(server, companion_of(server, jid)))

    @app.get("/devices/<jid>/inbox")
    async def companion_inbox(jid: str) -> Response:
        companion = server.companion_of(companion_of(server, jid))
        if companion is None:
            raise ControlError(409, "the device is a client's", "jid")
        after = query_number("after", 0)
        return jsonify([asdict(item) for item in companion.inbox if item.seq > after])

    @app.post("/devices/<jid>/messages")
    async def send_from_companion(jid: str) -> Response:
        companion = server.companion_of(companion_of(server, jid))
        if companion is None:
            raise ControlError(409, "the device is a client's", "jid")
        return jsonify({"id": await _sent(server, companion)})

    @app.delete("/devices/<jid>")
    async def unlink(jid: str) -> Response:
        server.unlink(companion_of(server, jid))
        return jsonify({})

    @app.post("/devices/<jid>/drop")
    async def drop(jid: str) -> Response:
        await client_of(server, jid).drop()
        return jsonify({})

    @app.post("/devices/<jid>/ping")
    async def ping(jid: str) -> Response:
        client_of(server, jid).ping()
        return jsonify({})

    @app.post("/devices/<jid>/stream-error")
    async def end_stream(jid: str) -> Response:
        client, body = client_of(server, jid), await read_body()
        conflict = body.optional_text("conflict")
        client.end(stream_error(StreamError(body.optional_number("code"), conflict)))
        return jsonify({})

    @app.post("/devices/<jid>/fail-next-login")
    async def fail_next_login(jid: str) -> Response:
        device, body = companion_of(server, jid), await read_body()
        fault = Fault(
            FaultKind.FAIL_LOGIN,
            device.account.number,
            device.number,
            count=body.number("count", 1),
            code=body.number("reason"),
            seconds=body.optional_seconds("expire"),
            ban_code=body.optional_number("code"),
        )
        server.faults.add(fault)
        return jsonify(_fault(fault))


def _add_observations(app: QuartTrio, server: Server) -> None:
    @app.get("/")
    async def describe() -> Response:
        routes = sorted(
            f"{method} {rule.rule}"
            for rule in app.url_map.iter_rules()
            for method in set(rule.methods or ()) - {"HEAD", "OPTIONS"}
        )
        return jsonify(
            {"name": "sitpayd simulator", "root_key": server.root_key.hex(), "routes": routes}
        )

    @app.get("/load")
    async def show_load() -> Response:
        connected, dials = len(server.connected), server.dials
        return jsonify({"connected": connected, "dials": dials.count, "peak_dials": dials.peak})

    @app.delete("/load")
    async def clear_load() -> Response:
        server.dials.clear()
        return jsonify({})

    @app.get("/media")
    async def show_media() -> Response:
        return jsonify({"host": server.media.host, "asked": server.media.asked})

    @app.post("/media/refuse")
    async def refuse_media() -> Response:
        body = await read_body()
        server.media.refuse(body.number("code", 404), body.number("count", 1))
        return jsonify({})

    @app.post("/outage")
    async def begin_outage() -> Response:
        await server.go_away((await read_body()).seconds("seconds"))
        return jsonify({})

    @app.post("/keys")
    async def renew_keys() -> Response:
        server.renew_keys()
        return jsonify({})

    @app.get("/options")
    async def show_options() -> Response:
        return jsonify(asdict(server.options))

    @app.patch("/options")
    async def change_options() -> Response:
        server.options = _changed(server.options, await read_body())
        return jsonify(asdict(server.options))

    @app.get("/faults")
    async def list_faults() -> Response:
        return jsonify([_fault(fault) for fault in server.faults.waiting])

    @app.post("/faults")
    async def add_fault() -> Response:
        body = await read_body()
        kind = body.choice("kind", FaultKind)
        number, device = body.optional_text("phone"), body.optional_text("device")
        fault = Fault(
            kind,
            None if number is None else phone_of(server, number, "phone").account.number,
            count=body.number("count", 1),
            code=body.number("code", 500),
            seconds=body.optional_seconds("seconds"),
            per_mille=body.number("per_mille", ALWAYS),
            seed=body.optional_number("seed"),
        )
        if device is not None:
            target = device_of(server, device, "device")
            fault = replace(fault, number=target.account.number, device=target.number)
        server.faults.add(fault)
        response = jsonify(_fault(fault))
        response.status_code = 201
        return response

    @app.delete("/faults")
    async def clear_faults() -> Response:
        server.faults.clear()
        return jsonify({})

    @app.get("/violations")
    async def violations() -> Response:
        return jsonify(
            {
                "violations": [asdict(item) for item in server.violations.broken],
                "unsupported": [asdict(item) for item in server.violations.refused],
            }
        )

    @app.delete("/violations")
    async def clear_violations() -> Response:
        server.violations.clear()
        return jsonify({})

    @app.get("/messages")
    async def count_messages() -> Response:
        journal = server.router.journal
        return jsonify({"messages": journal.messages, "sendings": journal.sendings})

    @app.get("/messages/<message_id>")
    async def show_message(message_id: str) -> Response:
        entry = server.router.journal.find(message_id)
        if entry is None:
            raise ControlError(404, "no message has this id", "id")
        return jsonify(asdict(entry))


# --- reading requests ---


async def _sent(server: Server, endpoint: Endpoint) -> str:
    """Let a device of this process send what the request asks for; the id."""
    body = await read_body()
    to = phone_of(server, body.text("to"), "to").account
    text = body.text("text")
    addressing = body.text("addressing", "lid")
    if addressing not in ("lid", "pn"):
        raise ControlError(422, "addressing must be lid or pn", "addressing")
    form = LID_SERVER if addressing == "lid" else PN_SERVER
    return endpoint.send(to, text, server=form)


def _changed(options: Options, body: Body) -> Options:
    """The options with the named ones changed."""
    for name in body.names - {field.name for field in fields(Options)}:
        raise ControlError(422, f"there is no option {name}", name)
    changes: dict[str, object] = {}
    for name in body.names:
        match name:
            case "pn_refusal" | "token_refusal":
                changes[name] = body.optional_number(name)
            case "ping_s":
                changes[name] = body.optional_seconds(name)
            case "window" | "low_prekeys" | "minimum_revision":
                changes[name] = body.number(name)
            case "phone_tokens":
                changes[name] = body.flag(name)
            case "repeats":
                changes[name] = body.choice(name, Repeats)
            case "resumption":
                changes[name] = body.choice(name, Resumption)
            case "batches":
                changes[name] = body.flag(name)
            case _:
                changes[name] = body.seconds(name)
    if changes.get("window") == 0:
        raise ControlError(422, "window must be at least 1", "window")
    return replace(options, **changes)  # type: ignore[arg-type]  # each was read by its type


# --- writing answers ---


def _account(account: Account) -> dict[str, object]:
    return {
        "phone": account.number,
        "lid": str(account.lid),
        "name": account.name,
        "devices": [str(device.pn) for device in account.devices.values()],
    }


def _device(server: Server, device: Device) -> dict[str, object]:
    client = server.client(device)
    return {
        "jid": str(device.pn),
        "lid": str(device.lid),
        "phone": device.account.number,
        "name": device.name,
        "key_index": device.key_index,
        "connected": client is not None,
        "state": "offline" if client is None else client.stage.name.lower(),
        "handshake": device.handshake,
        "routed": device.is_routed,
        "available": device.is_available,
        "checked": device.checked,
        "prekeys": len(device.prekeys),
        "queued": len(device.queue),
        "unanswered": device.queue.in_flight + (0 if client is None else client.unanswered),
        "dirty": device.dirty,
    }


def _seeded(seeded: Seeded) -> dict[str, object]:
    return {
        "credentials": _text(seeded.credentials.to_bytes()),
        "prekeys": {
            str(prekey.key_id): _text(prekey.key_pair.private_key) for prekey in seeded.prekeys
        },
    }


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _fault(fault: Fault) -> dict[str, object]:
    return {**asdict(fault), "kind": fault.kind.value}
