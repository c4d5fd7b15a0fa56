"""The send route: from a request to a row, and from what became of the row to an answer.

200 with the contract's words is kept for "WhatsApp's server acknowledged it". Every other answer is
either certain (nothing was and nothing will be sent) or says that the outcome is still open. A
client that did not say that it understands queueing gets its row taken back when the wait is over.
All answers are derived from the row, so a repeated request gets the same one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Final, assert_never

import trio

from sitpayd.actors.outcomes import Watch
from sitpayd.actors.phase import NEEDS_A_PERSON, Phase
from sitpayd.actors.status import DeviceStatus
from sitpayd.api.auth import unknown_device_token
from sitpayd.api.errors import ApiError, refused
from sitpayd.api.exchange import Answer, Asked, CallerLeftError
from sitpayd.api.notes import current_notes
from sitpayd.api.schemas import SendBody, check_body, read_idempotency_key, read_prefer
from sitpayd.api.services import Services
from sitpayd.errors import StorageError
from sitpayd.storage import outbox
from sitpayd.storage.records import (
    Acceptance,
    Accepted,
    DeviceGone,
    DeviceRecord,
    NewMessage,
    QueueFull,
    Repeated,
    RowState,
    utc_now,
)
from sitpayd.storage.vault import new_message_id
from sitpayd.whatsapp.message_id import new_wa_message_id

OFFLINE_RETRY_S: Final = 10
PACED_RETRY_S: Final = 30
QUEUE_RETRY_S: Final = 60
REPLAYED_HEADER: Final = "Idempotency-Replayed"

_ARRIVED: Final = (RowState.SENT, RowState.DELIVERED, RowState.READ)


@dataclass(frozen=True, slots=True)
class _Sending:
    """One request.

    Attributes:
        opted_in: the client understands that a message may be queued.
        at_once: it does not want to wait at all.
        left: returns when the caller has left.
    """

    device: DeviceRecord
    body: SendBody
    key: str | None
    wait_s: float
    at_once: bool
    left: Callable[[], Awaitable[None]]

    @property
    def opted_in(self) -> bool:
        return self.key is not None or self.at_once or self.device.queue_when_offline

    @property
    def body_hash(self) -> bytes:
        """Digest of what the request asks for, however its JSON was written."""
        asked = json.dumps([self.body.to, self.body.message])
        return hashlib.sha256(asked.encode("ascii")).digest()


@dataclass(frozen=True, slots=True)
class _Row:
    """What an answer needs to know of a row."""

    message_id: str
    wa_message_id: str
    state: RowState
    reason: str | None
    held_reason: str | None = None
    held_until: datetime | None = None


async def send(api: Services, device_token: str, asked: Asked) -> Answer:
    """POST /wa/:device_token/send.

    Raises:
        CallerLeftError: If there is nobody to answer any more; the message stands in the queue.
    """
    device = await api.guard.device(device_token)
    current_notes().session_id = device.session_id
    body = check_body(asked.headers, asked.body, SendBody)
    key = read_idempotency_key(asked.headers)
    wait_s, at_once = read_prefer(asked.headers)
    sending = _Sending(
        device=device,
        body=body,
        key=key,
        wait_s=api.settings.send_wait_s if wait_s is None else wait_s,
        at_once=at_once,
        left=asked.left,
    )
    known = api.status_of(device)
    if known.status not in NEEDS_A_PERSON:
        return await _accept(api, sending)
    # A repeat is answered even where the device has been logged out since.
    repeated = await _find_repeated(api, sending)
    if repeated is not None:
        return await _repeat(api, sending, repeated)
    raise _needs_a_person(known)


async def _accept(api: Services, sending: _Sending) -> Answer:
    device, message_id = sending.device, new_message_id()
    ttl = timedelta(seconds=api.settings.message_ttl_s)
    # Watched from before the insert: the actor may be done before we come back.
    with api.outcomes.watch(message_id) as watch:
        new = NewMessage(
            device_id=device.id,
            message_id=message_id,
            wa_message_id=new_wa_message_id(),
            recipient=sending.body.to,
            text=sending.body.message,
            idempotency_key=sending.key,
            body_hash=sending.body_hash,
            expires_at=utc_now() + ttl,
        )
        acceptance: Acceptance
        try:
            acceptance = await api.database.write(outbox.accept, new, ttl)
        except StorageError:
            # A repeat's message is stored and goes on, whatever cannot be stored now.
            repeated = await _find_repeated(api, sending)
            if repeated is None:
                raise
            acceptance = repeated
        match acceptance:
            case Repeated():
                return await _repeat(api, sending, acceptance)
            case QueueFull():
                raise ApiError(
                    "queue_full",
                    "Too many messages of this device wait already.",
                    retry_after_s=QUEUE_RETRY_S,
                )
            case DeviceGone():
                raise unknown_device_token()
            case Accepted(row):
                current_notes().message_id = row.message_id
                # Only after the commit: before it the actor would find nothing.
                handle = api.registry.get(device.session_id)
                if handle is not None:
                    handle.ring()
                first = _Row(row.message_id, row.wa_message_id, row.state, row.reason)
                return await _outcome(api, sending, first, watch)
            case _:
                assert_never(acceptance)


async def _find_repeated(api: Services, sending: _Sending) -> Repeated | None:
    """Find the message of an earlier request with this key."""
    if sending.key is None:
        return None
    return await api.database.read(
        outbox.repeated, sending.device.id, sending.key, sending.body_hash
    )


async def _repeat(api: Services, sending: _Sending, repeated: Repeated) -> Answer:
    found = repeated.row
    message_id = found.message_id
    current_notes().message_id = message_id
    if not repeated.same_body:
        raise ApiError(
            "idempotency_key_reused",
            "This Idempotency-Key was used for another message.",
            field="idempotency-key",
        )
    with api.outcomes.watch(message_id) as watch:
        row = _Row(message_id, found.wa_message_id, found.state, found.reason)
        with suppress(StorageError):
            # Read again: it may have moved between the look-up and the watch.
            row = await _read(api, sending, message_id)
        if not row.state.is_settled:
            return await _outcome(api, sending, row, watch)
    answer = _answer(api, sending.device, row)
    return replace(answer, headers={**answer.headers, REPLAYED_HEADER: "true"})


async def _outcome(api: Services, sending: _Sending, row: _Row, watch: Watch) -> Answer:
    """Wait for what becomes of a row, then answer."""
    device = sending.device
    if sending.at_once:
        return _answer(api, device, row)
    with api.drain.budget(sending.wait_s):
        await _settled(watch, sending.left)
    if watch.state is not None and watch.state.is_settled:
        settled = _Row(row.message_id, row.wa_message_id, watch.state, watch.reason)
        return _answer(api, device, settled)
    try:
        row = await _read(api, sending, row.message_id)
        if not sending.opted_in:
            if await api.database.write(outbox.cancel, device.id, row.message_id):
                raise _taken_back(api, api.status_of(device), row)
            row = await _read(api, sending, row.message_id)
    except StorageError:
        pass  # it stands in the queue and goes on: an error would tell that it does not
    return _answer(api, device, row)


async def _settled(watch: Watch, left: Callable[[], Awaitable[None]]) -> None:
    """Wait until a row is settled.

    Raises:
        CallerLeftError: If the caller leaves before.
    """

    async def leave() -> None:
        await left()
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(leave)
        while not (watch.state is not None and watch.state.is_settled):
            await watch.changed()
        nursery.cancel_scope.cancel()
        return
    raise CallerLeftError


async def _read(api: Services, sending: _Sending, message_id: str) -> _Row:
    view = await api.database.read(outbox.message, sending.device.id, message_id)
    if view is None:
        raise AssertionError("an accepted row is never deleted")
    return _Row(
        view.message_id,
        view.wa_message_id,
        RowState(view.state),
        view.reason,
        view.held_reason,
        view.held_until,
    )


def _answer(api: Services, device: DeviceRecord, row: _Row) -> Answer:
    ids = {"message_id": row.message_id, "wa_message_id": row.wa_message_id}
    if row.state in _ARRIVED:
        return _json(
            HTTPStatus.OK,
            {"type": "success", "message": "Message sent", "device": device.name, **ids},
        )
    match row.state:
        case RowState.ACCEPTED:
            kind, text = "queued", "Message queued"
        case RowState.ARMED | RowState.UNKNOWN:
            # It may have arrived or may still arrive: never told as failed.
            kind, text = "pending", "Message pending"
        case RowState.CANCELED:
            return _problem(ApiError("canceled", "The message was taken back.", extra=ids))
        case RowState.EXPIRED:
            return _problem(ApiError("expired", "The message was not sent in time.", extra=ids))
        case _:
            return _problem(refused(row.reason, ids))
    return _json(
        HTTPStatus.ACCEPTED,
        {
            "type": kind,
            "message": text,
            "device": device.name,
            **ids,
            "status_url": api.message_url(device, row.message_id),
        },
    )


def _taken_back(api: Services, known: DeviceStatus, row: _Row) -> ApiError:
    """The answer for a row that was taken back when the wait was over: certain."""
    if api.drain.begun.is_set():
        return ApiError(
            "stopping",
            "The daemon is stopping; this message was not sent.",
            retry_after_s=OFFLINE_RETRY_S,
        )
    if known.status in NEEDS_A_PERSON:
        return _needs_a_person(known)
    if row.held_reason is not None and row.held_until is not None:
        return ApiError(
            row.held_reason,
            "This message has to wait, and was not sent.",
            status=HTTPStatus.TOO_MANY_REQUESTS,
            retry_after_s=(row.held_until - utc_now()).total_seconds(),
            extra={"until": row.held_until.isoformat()},
        )
    # Behind other messages of a device that is there.
    if known.status == Phase.CONNECTED:
        return ApiError(
            "paced",
            "The device has to send more slowly; this message was not sent.",
            retry_after_s=PACED_RETRY_S,
        )
    return ApiError(
        "device_offline",
        "The device is not connected; this message was not sent.",
        retry_after_s=OFFLINE_RETRY_S,
    )


def _needs_a_person(known: DeviceStatus) -> ApiError:
    extra: dict[str, object] = {"reason": known.reason}
    if known.until is not None:
        extra["until"] = known.until.isoformat()
    return ApiError(
        f"device_{known.status}",
        "The device cannot send until somebody acts; this message was not stored.",
        extra=extra,
    )


def _json(status: HTTPStatus, body: dict[str, object]) -> Answer:
    return Answer(status, json.dumps(body).encode("ascii"), {"content-type": "application/json"})


def _problem(problem: ApiError) -> Answer:
    return Answer(problem.status, problem.body(), problem.headers())
