"""Schemas: what request bodies must look like, and the strict reading of JSON.

Unknown keys are ignored, as the contract's clients may send more than it names; nothing but the
named keys ever reaches a table. A refused body names its key.
"""

from __future__ import annotations

import json
import math
import re
from functools import lru_cache
from typing import Annotated, Final, Literal, TypeVar

import phonenumbers
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from quart import Request

from sitpayd.actors.proxies import parse_proxy
from sitpayd.api.errors import ApiError
from sitpayd.api.exchange import HeaderLines

# Visible ASCII. Source: RFC 9110 section 5.5, and the key's length from Stripe's practice.
_IDEMPOTENCY_KEY: Final = re.compile("[!-~]{1,255}")
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+")
# Digits of an E.164 number with its country code, which never begins with 0.
_NUMBER: Final = re.compile("[1-9][0-9]{6,14}")
# What people write between digits; nothing else is ever dropped.
_NUMBER_PUNCTUATION: Final = str.maketrans("", "", "+-() ")

_WAIT: Final = re.compile(r"wait\s*=\s*([0-9]{1,4})", re.IGNORECASE)
_LIMIT_LEN: Final = 6  # digits
MAX_REMEMBERED_NUMBERS: Final = 4096
# Numbers in one check: what WhatsApp is asked about in one query, by far.
MAX_CHECKED: Final = 50
# Longer no device appears online at a time: the phone gets no push notifications meanwhile.
MAX_AVAILABLE_S: Final = 600
MIN_WAIT_S: Final = 1
MAX_WAIT_S: Final = 75

M = TypeVar("M", bound=BaseModel)


def _line(value: str) -> str:
    if _CONTROL.search(value):
        raise ValueError("must not contain control characters")
    if not value.strip():
        raise ValueError("must not be blank")
    return value


def _email(value: str) -> str:
    if not _EMAIL.fullmatch(value):
        raise ValueError("must be an e-mail address")
    return value


# People are written to more than once, and the rules of all countries are slow to look through.
@lru_cache(maxsize=MAX_REMEMBERED_NUMBERS)
def _recipient(value: str) -> str:
    number = value.translate(_NUMBER_PUNCTUATION)
    if not _NUMBER.fullmatch(number):
        raise ValueError("must be a phone number with country code: 7 to 15 digits, no leading 0")
    try:
        possible = phonenumbers.is_possible_number(phonenumbers.parse(f"+{number}"))
    except phonenumbers.NumberParseException:
        possible = False
    if not possible:
        raise ValueError("is not a possible phone number")
    return number


def _text(value: str) -> str:
    if "\0" in value:
        raise ValueError("must not contain NUL")
    if _SURROGATE.search(value):
        raise ValueError("must be valid Unicode")
    return value


def _proxy(value: str) -> str:
    parse_proxy(value)
    return value


Line = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_line)]
# Source: RFC 5321 sections 4.5.3.1 and 4.5.3.1.2.
Email = Annotated[str, Field(max_length=254), AfterValidator(_line), AfterValidator(_email)]
ProxyUrl = Annotated[str, AfterValidator(_proxy)]
Number = Annotated[str, AfterValidator(_recipient)]
Domain = Annotated[str, Field(max_length=255), AfterValidator(_line)]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class RegisterBody(_Body):
    """POST /partner/register."""

    name: Line
    email: Email
    domain: Domain


class UserBody(_Body):
    """POST /partner/users."""

    label: Line
    email: Email


class DeviceBody(_Body):
    """POST /partner/devices."""

    device_name: Line
    queue_when_offline: Annotated[bool, Field(strict=True)] = False
    proxy: ProxyUrl | None = None


class ProxyBody(_Body):
    """PUT /partner/devices/:session_id/proxy."""

    proxy: ProxyUrl | None


class QrBody(_Body):
    """POST /partner/devices/:session_id/qr; may be absent."""

    relink: Annotated[bool, Field(strict=True)] = False


class PairingCodeBody(_Body):
    """POST /partner/devices/:session_id/pairing-code."""

    phone: Number
    relink: Annotated[bool, Field(strict=True)] = False


class SendBody(_Body):
    """POST /wa/:device_token/send. The size of `message` is bounded by that of the body."""

    to: Number
    message: Annotated[str, Field(min_length=1), AfterValidator(_text)]


class PreflightBody(_Body):
    """POST /wa/:device_token/preflight."""

    to: Number


class CheckBody(_Body):
    """POST /wa/:device_token/check."""

    numbers: Annotated[list[Number], Field(min_length=1, max_length=MAX_CHECKED)]


class PresenceBody(_Body):
    """POST /wa/:device_token/presence; `seconds` counts for "available" only."""

    presence: Literal["available", "unavailable"]
    seconds: Annotated[int, Field(strict=True, ge=1, le=MAX_AVAILABLE_S)] = 60


class TypingBody(_Body):
    """POST /wa/:device_token/typing."""

    to: Number
    state: Literal["composing", "recording", "paused"]


class ReadBody(_Body):
    """POST /wa/:device_token/messages/:message_id/read; may be absent."""

    only: Annotated[bool, Field(strict=True)] = False


async def read_body(request: Request, model: type[M]) -> M:
    """Read and check a JSON body.

    Raises:
        ApiError: 415 if it is not JSON by its headers, 400 if it is not by its bytes.
        pydantic.ValidationError: If a key is missing or has a bad value.
    """
    return check_body(request.headers, await request.get_data(True, False, False), model)


def check_body(headers: HeaderLines, data: bytes, model: type[M]) -> M:
    """Check a JSON body that was read.

    Raises:
        As `read_body`.
    """
    kinds = headers.getlist("content-type")
    kind = kinds[0].partition(";")[0].strip().lower() if kinds else ""
    if kind != "application/json" or headers.getlist("content-encoding"):
        raise ApiError(
            "unsupported_media_type",
            "The body must be application/json, and not compressed.",
            field="content-type",
        )
    return model.model_validate(parse_json(data))


async def read_optional_body(request: Request, model: type[M]) -> M:
    """Read and check a JSON body of which each key may be absent, and so may the whole.

    Raises:
        ApiError, pydantic.ValidationError: As `read_body`, if there is one.
    """
    if not await request.get_data(True, False, False):
        return model.model_validate({})
    return await read_body(request, model)


def parse_json(data: bytes) -> dict[str, object]:
    """Read one JSON object, strictly: UTF-8, no key twice, no NaN, no number out of range.

    Raises:
        ApiError: If it is anything else.
    """
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except (ValueError, RecursionError):
        raise _invalid_json("The body is not valid JSON in UTF-8.") from None
    if not isinstance(value, dict):
        raise _invalid_json("The body must be a JSON object.")
    return value


def read_idempotency_key(headers: HeaderLines) -> str | None:
    """Read the header Idempotency-Key.

    Raises:
        ApiError: If it stands there twice, or is not 1 to 255 visible ASCII characters.
    """
    values = headers.getlist("idempotency-key")
    if not values:
        return None
    if len(values) > 1 or not _IDEMPOTENCY_KEY.fullmatch(values[0]):
        raise ApiError(
            "invalid_idempotency_key",
            "The header Idempotency-Key must stand there once: 1 to 255 visible ASCII characters.",
            field="idempotency-key",
        )
    return values[0]


def read_prefer(headers: HeaderLines) -> tuple[float | None, bool]:
    """Read the header Prefer: seconds to wait, if it says, and whether to answer at once.

    What is not understood is ignored, as RFC 7240 has it.
    """
    wait: float | None = None
    respond_async = False
    for value in headers.getlist("prefer"):
        for preference in value.split(","):
            word = preference.partition(";")[0].strip()
            if word.lower() == "respond-async":
                respond_async = True
            elif match := _WAIT.fullmatch(word):
                wait = min(max(int(match[1]), MIN_WAIT_S), MAX_WAIT_S)
    return wait, respond_async


def read_limit(text: str | None, default: int, maximum: int) -> int:
    """Read how many are asked for on one page; more than the maximum are that many.

    Raises:
        ApiError: 400 if it is not a positive number.
    """
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= _LIMIT_LEN and int(text) > 0):
        raise ApiError("invalid_query", "`limit` must be a positive number.", field="limit")
    return min(int(text), maximum)


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key stands there twice")
    return value


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number is out of range")
    return number


def _invalid_json(message: str) -> ApiError:
    return ApiError("invalid_json", message, field="body")
