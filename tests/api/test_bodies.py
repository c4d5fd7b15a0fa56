"""What comes in: JSON, sizes, numbers, texts."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quart import Response

from sitpayd.api.errors import ApiError
from sitpayd.api.gate import MAX_BODY_LEN, MAX_SEND_BODY_LEN
from sitpayd.api.schemas import parse_json
from sitpayd.storage import outbox
from tests.support.front import PHONE, Front, Tenant

JSON = {"content-type": "application/json"}

MALFORMED = {
    "empty": b"",
    "truncated": b'{"to": "919876543210", "mess',
    "duplicate key": b'{"to": "919876543210", "to": "4915112345678", "message": "x"}',
    "NaN": b'{"to": "919876543210", "message": "x", "n": NaN}',
    "Infinity": b'{"to": "919876543210", "message": "x", "n": -Infinity}',
    "1e999": b'{"to": "919876543210", "message": "x", "n": 1e999}',
    "5000-digit number": b'{"to": "919876543210", "message": "x", "n": ' + b"1" * 5000 + b"}",
    "BOM": b'\xef\xbb\xbf{"to": "919876543210", "message": "x"}',
    "UTF-16": '{"to": "919876543210", "message": "x"}'.encode("utf-16"),
    "invalid UTF-8": b'{"to": "919876543210", "message": "\xff"}',
    "control character": b'{"to": "919876543210", "message": "a\nb"}',
    "deep nesting": b"[" * 60_000,
    "deep objects": b'{"a":' * 10_000,
    "array": b'[{"to": "919876543210", "message": "x"}]',
    "string": b'"Hello!"',
    "null": b"null",
    "trailing": b'{"to": "919876543210", "message": "x"} {}',
    "form": b"to=919876543210&message=x",
}


async def problem(answer: Response) -> tuple[int, str, str | None]:
    """Status, code and field of an error."""
    body = await answer.get_json()
    return answer.status_code, body["code"], body.get("field")


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
async def test_malformed_json_is_refused(front: Front, tenant: Tenant, body: bytes) -> None:
    answer = await front.ask("POST", tenant.send_path, body, JSON)

    assert await problem(answer) == (400, "invalid_json", "body")


def read(data: bytes) -> object:
    """The object in a body, or the status it is refused with."""
    try:
        return parse_json(data)
    except ApiError as error:
        return error.status


@given(st.binary(max_size=64) | st.text(max_size=64).map(str.encode))
def test_any_bytes_are_an_object_or_refused(data: bytes) -> None:
    assert read(data) == 400 or read(data) == json.loads(data)


@settings(max_examples=50)
@given(st.dictionaries(st.text(max_size=8), st.none() | st.integers() | st.text() | st.booleans()))
def test_every_object_is_read_as_it_was_written(value: dict[str, object]) -> None:
    assert parse_json(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/jsonp"},
        {"content-type": "application/json", "content-encoding": "gzip"},
        {"content-type": "application/json", "content-encoding": "identity"},
    ],
)
async def test_body_that_is_not_plain_json_is_refused(
    front: Front, tenant: Tenant, headers: dict[str, str]
) -> None:
    body = b'{"to": "919876543210", "message": "x"}'

    answer = await front.ask("POST", tenant.send_path, body, headers)

    assert await problem(answer) == (415, "unsupported_media_type", "content-type")


async def test_content_type_may_have_parameters(front: Front, tenant: Tenant) -> None:
    body = b'{"to": "919876543210", "message": "x"}'
    headers = {"content-type": "Application/JSON; charset=utf-8"}

    assert (await front.ask("POST", tenant.send_path, body, headers)).status_code == 200


def padded(body: dict[str, str], length: int) -> bytes:
    """A JSON body of exactly this length."""
    text = json.dumps(body)
    return text.encode() + b" " * (length - len(text))


async def test_send_body_has_its_limit(front: Front, tenant: Tenant) -> None:
    body = {"to": PHONE, "message": "x"}

    longest = padded(body, MAX_SEND_BODY_LEN)
    assert (await front.ask("POST", tenant.send_path, longest, JSON)).status_code == 200
    answer = await front.ask("POST", tenant.send_path, longest + b" ", JSON)
    assert await problem(answer) == (413, "body_too_large", "body")


async def test_other_bodies_have_a_smaller_limit(front: Front) -> None:
    body = {"name": "n", "email": "e@x.com", "domain": "x.com"}

    longest = padded(body, MAX_BODY_LEN)
    assert (await front.ask("POST", "/partner/register", longest, JSON)).status_code == 200
    answer = await front.ask("POST", "/partner/register", longest + b" ", JSON)
    assert await problem(answer) == (413, "body_too_large", "body")


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/partner/register", {}, "name"),
        ("/partner/register", {"name": "n", "domain": "x.com"}, "email"),
        ("/partner/register", {"name": "n", "email": "e@x.com"}, "domain"),
        ("/partner/register", {"name": 7, "email": "e@x.com", "domain": "x.com"}, "name"),
        ("/partner/register", {"name": "", "email": "e@x.com", "domain": "x.com"}, "name"),
        ("/partner/register", {"name": "  ", "email": "e@x.com", "domain": "x.com"}, "name"),
        ("/partner/register", {"name": "n" * 201, "email": "e@x.com", "domain": "x"}, "name"),
        ("/partner/register", {"name": "a\r\nb", "email": "e@x.com", "domain": "x"}, "name"),
        ("/partner/register", {"name": "\ud800", "email": "e@x.com", "domain": "x"}, "name"),
        ("/partner/register", {"name": "n", "email": "nobody", "domain": "x.com"}, "email"),
        ("/partner/register", {"name": "n", "email": None, "domain": "x.com"}, "email"),
        ("/partner/register", {"name": "n", "email": "e@" + "x" * 260, "domain": "x"}, "email"),
        ("/partner/users", {"email": "e@x.com"}, "label"),
        ("/partner/users", {"label": ["l"], "email": "e@x.com"}, "label"),
        ("/partner/devices", {}, "device_name"),
        ("/partner/devices", {"device_name": True}, "device_name"),
        ("/partner/devices", {"device_name": "\x1b[31m"}, "device_name"),
    ],
)
async def test_bad_field_is_named(
    front: Front, tenant: Tenant, path: str, body: dict[str, object], field: str
) -> None:
    headers = {"x-api-key": tenant.api_key, "x-user-token": tenant.user_token}

    answer = await front.post(path, body, headers)

    assert await problem(answer) == (422, "invalid", field)
    assert (await answer.get_json())["message"].startswith(f"{field}: ")


@pytest.mark.parametrize(
    "to",
    [
        "919876543210",
        "+919876543210",
        "+91 98765-43210",
        "+1 (415) 555-2671",
        "(91) 9876543210",
        "6421234567",
    ],
)
async def test_possible_number_is_taken(front: Front, tenant: Tenant, to: str) -> None:
    answer = await front.send(tenant, to=to)

    assert answer.status_code == 200
    shown = await (await front.ask("GET", f"/wa/{tenant.device_token}/messages")).get_json()
    assert shown["messages"][0]["peer"] == "".join(c for c in to if c in "0123456789")


@pytest.mark.parametrize(
    "to",
    [
        "",
        "hello",
        "91987",  # too short for any number
        "919876",
        "9198765432101234",  # sixteen digits
        "0919876543210",
        "00919876543210",
        "1415555267",  # one digit short of an American number
        "999123456789",  # no such country
        "141555526711",  # one digit too many
        "919876543210\n",
        "\u200b919876543210",
        "\u202e919876543210",
        "９１９８７６５４３２１０",  # fullwidth digits
        "٩١٩٨٧٦٥٤٣٢١٠",  # Arabic-Indic digits
        "९१९८७६५४३२१०",  # Devanagari digits
        "91.98765.43210",
        "91\u00a098765\u00a043210",
        "919876543210;ext=1",
        "919876543210,4915112345678",
        "919876543210@s.whatsapp.net",
        "120363000000000000@g.us",
        "status@broadcast",
        "123456@newsletter",
        "919876543210:1@s.whatsapp.net",
    ],
)
async def test_impossible_recipient_is_refused(front: Front, tenant: Tenant, to: str) -> None:
    answer = await front.send(tenant, to=to)

    assert await problem(answer) == (422, "invalid", "to")


@pytest.mark.parametrize("to", [919876543210, None, ["919876543210"], {"number": "1"}, True])
async def test_recipient_of_another_type_is_refused(
    front: Front, tenant: Tenant, to: object
) -> None:
    answer = await front.post(tenant.send_path, {"to": to, "message": "x"})

    assert await problem(answer) == (422, "invalid", "to")


@pytest.mark.parametrize(
    "text",
    [
        "x",
        " ",
        "\U0001f600" * 1000,
        "e" + "\u0301" * 500,
        "a\tb\r\nc\x1b[31m",
        "\u202eright to left",
        "'; DROP TABLE outbox; --",
        "%s {0} ${x}",
    ],
)
async def test_text_arrives_as_it_was_sent(front: Front, tenant: Tenant, text: str) -> None:
    assert (await front.send(tenant, text)).status_code == 200

    page = await front.database.read(outbox.messages, tenant.actor.handle.record.id)
    assert page is not None
    assert page.messages[0].text == text


@pytest.mark.parametrize("text", ["", "a\0b", "\ud83d", "\udc00x"])
async def test_impossible_text_is_refused(front: Front, tenant: Tenant, text: str) -> None:
    answer = await front.send(tenant, text)

    assert await problem(answer) == (422, "invalid", "message")


async def test_size_of_a_text_is_counted_in_bytes(front: Front, tenant: Tenant) -> None:
    body = json.dumps({"to": PHONE, "message": "\u0e01" * 22_000}, ensure_ascii=False).encode()

    answer = await front.ask("POST", tenant.send_path, body, JSON)

    assert await problem(answer) == (413, "body_too_large", "body")


async def test_keys_that_are_not_the_callers_to_choose_are_ignored(
    front: Front, tenant: Tenant
) -> None:
    other = await front.tenant()
    forged = {
        "id": 1,
        "partner_id": 2,
        "user_id": 2,
        "status": "connected",
        "role": "admin",
        "is_admin": True,
        "session_id": other.session_id,
        "device_token": other.device_token,
        "send_url": "https://evil.example/",
        "api_key": other.api_key,
        "message_id": "msg_mine",
    }
    headers = {"x-api-key": tenant.api_key, "x-user-token": tenant.user_token}

    device = await (
        await front.post("/partner/devices", {"device_name": "d", **forged}, headers)
    ).get_json()
    sent = await (
        await front.post(tenant.send_path, {"to": PHONE, "message": "x", **forged})
    ).get_json()

    assert device["session_id"] != other.session_id
    assert device["device_token"] != other.device_token
    assert "evil" not in device["send_url"]
    assert sent["message_id"] != "msg_mine"
    status = await front.ask(
        "GET", f"/partner/devices/{device['session_id']}/status", headers=tenant.headers
    )
    assert (await status.get_json())["status"] == "unpaired"


async def test_answers_hold_nothing_from_inside(front: Front, tenant: Tenant) -> None:
    """Ids of tables, digests and sealed values stay inside: every key set is known."""
    await front.send(tenant)
    answers = {
        path: await (await front.ask("GET", path, headers=tenant.headers)).get_json()
        for path in (
            "/partner/me",
            "/partner/users",
            f"/partner/users/{tenant.user_token}/devices",
            f"/partner/devices/{tenant.session_id}/status",
            f"/partner/devices/{tenant.session_id}/qr",
            f"/wa/{tenant.device_token}/messages",
        )
    }

    keys = {key for answer in answers.values() for key in keys_of(answer)}
    assert keys == {
        *("type", "partner", "stats", "users", "devices", "messages", "has_more", "next"),
        *("name", "email", "domain", "created_at", "total", "connected", "messages_sent"),
        *("user_token", "label", "session_id", "device_name", "device_token", "status"),
        *("reason", "send_url", "qr_url", "phone", "since", "until", "message_id"),
        *("wa_message_id", "direction", "peer", "text", "state", "timestamp"),
        *("held_until", "held_reason", "verified_at", "evidence", "proxy"),
    }


def keys_of(value: object) -> set[str]:
    """Every key at any depth."""
    if isinstance(value, dict):
        return set(value) | {key for inner in value.values() for key in keys_of(inner)}
    if isinstance(value, list):
        return {key for inner in value for key in keys_of(inner)}
    return set()
