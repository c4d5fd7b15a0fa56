"""Errors at the front door: the only table from what went wrong to status code and envelope.

Routes raise `ApiError` with a code; storage, actors and the framework raise their own. Every answer
that is not a success looks the same: {"type":"error","code","message","request_id"[,"field"]}.
Messages say what is wrong and never repeat what the caller sent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import pydantic
from quart import Response
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from sitpayd.actors.registry import DeviceBusyError
from sitpayd.api.notes import current_notes
from sitpayd.errors import SealError, SitpaydError, StorageBusyError, StorageError, StorageFullError
from sitpayd.log import get_logger

log = get_logger()

# Seconds after which another try makes sense, where nobody knows better.
RETRY_AFTER_S: Final = 10

# Codes of our own. What WhatsApp refused stands in REFUSED.
STATUS: Final[Mapping[str, int]] = {
    "ambiguous_credentials": 400,
    "ambiguous_framing": 400,
    "invalid_cursor": 400,
    "invalid_idempotency_key": 400,
    "invalid_json": 400,
    "invalid_query": 400,
    "no_admin_key": 401,
    "unauthorized": 401,
    "forbidden_origin": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "request_timeout": 408,
    "device_action_required": 409,
    "device_banned": 409,
    "device_linked": 409,
    "device_logged_out": 409,
    "device_outdated": 409,
    "device_paired": 409,
    "device_pairing": 409,
    "device_paused": 409,
    "device_removed": 409,
    "device_replaced": 409,
    "device_unpaired": 409,
    "not_cancelable": 409,
    "other_number": 409,
    "body_too_large": 413,
    "unsupported_media_type": 415,
    "unknown_host": 421,
    "code_refused": 422,
    "idempotency_key_reused": 422,
    "invalid": 422,
    "not_incoming": 422,
    "proxy_refused": 422,
    "proxy_unreachable": 422,
    "unknown_number": 422,
    "code_rate_limited": 429,
    "first_contact_budget": 429,
    "paced": 429,
    "queue_full": 429,
    "too_many_pairings": 429,
    "too_many_registrations": 429,
    "too_many_requests": 429,
    "too_many_rounds": 429,
    "typing_limit": 429,
    "internal": 500,
    "canceled": 503,
    "device_busy": 503,
    "device_offline": 503,
    "expired": 503,
    "overloaded": 503,
    "stopping": 503,
    "storage_full": 503,
    "storage_unavailable": 503,
    "http_version_not_supported": 505,
}

# Why a row failed -> status. The message or the recipient is 422, rate and quota are 429, and what
# is WhatsApp's fault, ours, or not known to us is 502. All of them are certain: it was not sent.
REFUSED: Final[Mapping[str, int]] = {
    "device_logged_out": 409,
    "malformed": 422,
    "forbidden": 422,
    "recipient_unknown": 422,
    "not_allowed": 422,
    "not_acceptable": 422,
    "not_on_whatsapp": 422,
    "no_devices": 422,
    "rate_limited": 429,
    "reachout_locked": 429,
    "new_chat_limit": 429,
    "poison": 500,
}
_REFUSED_OTHERWISE: Final = 502


class ApiError(SitpaydError):
    """An answer that is not a success.

    Attributes:
        code: the stable word; its status is in STATUS.
        message: one sentence for people, without anything secret.
        field: what the caller has to change: a key of the body, or a header.
        retry_after_s: seconds, becomes the header `Retry-After`.
        extra: further keys of the envelope.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int | None = None,
        field: str | None = None,
        retry_after_s: float | None = None,
        extra: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = STATUS[code] if status is None else status
        self.message = message
        self.field = field
        self.retry_after_s = retry_after_s
        self.extra = extra or {}

    def body(self) -> bytes:
        """Write the envelope."""
        fields: dict[str, object] = {
            "type": "error",
            "code": self.code,
            "message": self.message,
            "request_id": current_notes().request_id,
        }
        if self.field is not None:
            fields["field"] = self.field
        return json.dumps({**fields, **self.extra}).encode("ascii")

    def headers(self) -> dict[str, str]:
        """Name the headers that belong to it."""
        headers = {"content-type": "application/json"}
        if self.retry_after_s is not None:
            headers["retry-after"] = str(max(1, round(self.retry_after_s)))
        return headers

    def response(self) -> Response:
        """Make the answer."""
        return Response(self.body(), self.status, self.headers())


def refused(reason: str | None, extra: Mapping[str, object]) -> ApiError:
    """The answer for a row that failed for this reason: certain, nothing will be sent."""
    reason = reason or "refused"
    status = REFUSED.get(reason, _REFUSED_OTHERWISE)
    field = "to" if reason in ("recipient_unknown", "not_on_whatsapp", "no_devices") else None
    return ApiError(
        reason,
        _REFUSAL_TEXTS.get(status, "WhatsApp did not take the message."),
        status=status,
        field=field,
        retry_after_s=60 if status == HTTPStatus.TOO_MANY_REQUESTS else None,
        extra=extra,
    )


_REFUSAL_TEXTS: Final = {
    409: "The device was logged out; link it again.",
    500: "The message stopped the device again and again, so it was set aside.",
    422: "WhatsApp refused this message or this recipient.",
    429: "WhatsApp allows this device no more messages of this kind for now.",
}


def of_exception(error: Exception) -> ApiError:
    """Map any error to its answer; what nobody expected is logged and told as `internal`."""
    match error:
        case ApiError():
            return error
        case pydantic.ValidationError():
            return _of_validation(error)
        case HTTPException():
            return _of_framework(error)
        case DeviceBusyError():
            return ApiError("device_busy", "The device has too much to do.", retry_after_s=1)
        case StorageFullError():
            return ApiError(
                "storage_full", "There is no room to store this.", retry_after_s=RETRY_AFTER_S
            )
        case StorageBusyError():
            return ApiError("overloaded", "Too much is going on.", retry_after_s=RETRY_AFTER_S)
        case StorageError() if not isinstance(error, SealError):
            log.error("storage.failed", exc_info=error)
            return ApiError(
                "storage_unavailable", "The database failed.", retry_after_s=RETRY_AFTER_S
            )
        case _:
            log.error("api.failed", exc_info=error)
            return ApiError("internal", "Something went wrong here; it has been noted.")


def _of_validation(error: pydantic.ValidationError) -> ApiError:
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    field = str(first["loc"][0])
    text = first["msg"].removeprefix("Value error, ")
    return ApiError("invalid", f"{field}: {text[:1].lower()}{text[1:]}.", field=field)


def _of_framework(error: HTTPException) -> ApiError:
    match error.code:
        case HTTPStatus.NOT_FOUND:
            return ApiError("not_found", "There is nothing here.")
        case HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = error.valid_methods if isinstance(error, MethodNotAllowed) else None
            return _MethodNotAllowedError(sorted(allowed or ()))
        case code if code is not None and code < HTTPStatus.INTERNAL_SERVER_ERROR:
            return ApiError("invalid_query", "The request cannot be understood.")
        case _:
            log.error("api.failed", exc_info=error)
            return ApiError("internal", "Something went wrong here; it has been noted.")


class _MethodNotAllowedError(ApiError):
    """405, which has to name what is allowed."""

    def __init__(self, allowed: list[str]) -> None:
        super().__init__("method_not_allowed", "This method is not allowed here.")
        self._allowed = allowed

    def headers(self) -> dict[str, str]:
        return {**super().headers(), "allow": ", ".join(self._allowed)}
