"""The contract's words, one by one: methods, paths, headers, field names, answers."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
import trio

from tests.support.front import BASE_URL, PHONE, Front, Tenant
from tests.support.server import Served

CONTRACT = (Path(__file__).parent / "contract.txt").read_text(encoding="utf-8")


def curl_lines() -> list[list[str]]:
    """Every curl command of the contract, as arguments."""
    joined = CONTRACT.replace("\\\n", " ").replace("\\ -", " -")
    return [shlex.split(line) for line in joined.splitlines() if line.startswith("curl ")]


def test_contract_has_its_curl_lines() -> None:
    assert len(curl_lines()) == 5


@pytest.mark.parametrize("arguments", curl_lines(), ids=lambda words: words[-1][:40])
async def test_curl_line_of_the_contract_succeeds(served: Served, arguments: list[str]) -> None:
    tenant = await served.front.tenant()
    real = {
        "https://robotics.sitpay.in": served.base_url,
        "pk_your_key": tenant.api_key,
        "pu_user_token": tenant.user_token,
        "dt_your_token": tenant.device_token,
        "wa_abc123": tenant.session_id,
    }
    words = [
        re.sub("|".join(map(re.escape, real)), lambda match: real[match[0]], word)
        for word in arguments
    ]

    status, body = await run_curl(words)

    assert status == 200
    assert body.get("type", "success") in ("success", "connected")


async def run_curl(words: list[str]) -> tuple[int, dict[str, object]]:
    """Run a curl command with curl itself, or do what it says where there is none."""
    if shutil.which("curl"):
        done = await trio.run_process(
            [*words, "--silent", "--max-time", "10", "--write-out", "\n%{http_code}"],
            capture_stdout=True,
        )
        body, _, status = done.stdout.decode().rpartition("\n")
        return int(status), json.loads(body)
    options = dict(pairwise(words))
    headers = dict(value.split(": ", 1) for flag, value in pairwise(words) if flag == "-H")
    url = next(word for word in words if word.startswith("http"))
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.request(
            options.get("-X", "GET"), url, headers=headers, content=options.get("-d")
        )
    return answer.status_code, answer.json()


async def test_register_answers_with_the_key(front: Front) -> None:
    answer = await front.post(
        "/partner/register",
        {"name": "ABC Reseller", "email": "abc@reseller.com", "domain": "api.reseller.com"},
    )

    body = await answer.get_json()
    assert answer.status_code == 200
    assert set(body) == {"type", "api_key"}
    assert body["type"] == "success"
    assert re.fullmatch("pk_[0-9A-Za-z]{49}", body["api_key"])


async def test_known_email_gives_a_new_partner_and_not_the_old_key(front: Front) -> None:
    partner = {"name": "ABC", "email": "abc@reseller.com", "domain": "reseller.com"}

    first, second = [
        await (await front.post("/partner/register", partner)).get_json() for _ in "12"
    ]

    assert first.keys() == second.keys()
    assert first["api_key"] != second["api_key"]


async def test_user_answers_with_the_token(front: Front, tenant: Tenant) -> None:
    answer = await front.post(
        "/partner/users", {"label": "John Doe", "email": "john@example.com"}, tenant.headers
    )

    body = await answer.get_json()
    assert answer.status_code == 200
    assert set(body) == {"type", "user_token"}
    assert body["type"] == "success"
    assert re.fullmatch("pu_[0-9A-Za-z]{49}", body["user_token"])


async def test_users_are_listed_in_order(front: Front, tenant: Tenant) -> None:
    second = await (
        await front.post("/partner/users", {"label": "Jane", "email": "j@x.com"}, tenant.headers)
    ).get_json()

    answer = await front.client.get("/partner/users", headers=tenant.headers)

    body = await answer.get_json()
    assert (answer.status_code, body["type"]) == (200, "success")
    assert [user["user_token"] for user in body["users"]] == [
        tenant.user_token,
        second["user_token"],
    ]
    assert set(body["users"][0]) == {"user_token", "label", "email", "created_at"}
    assert body["users"][1]["label"] == "Jane"


async def test_device_answers_without_type(front: Front, tenant: Tenant) -> None:
    answer = await front.post(
        "/partner/devices",
        {"device_name": "John iPhone"},
        {"x-api-key": tenant.api_key, "x-user-token": tenant.user_token},
    )

    body = await answer.get_json()
    assert answer.status_code == 200
    assert set(body) == {"session_id", "device_token", "send_url", "qr_url"}
    assert re.fullmatch("wa_[0-9A-Za-z]{20}", body["session_id"])
    assert re.fullmatch("dt_[0-9A-Za-z]{49}", body["device_token"])
    assert body["send_url"] == f"{BASE_URL}/wa/{body['device_token']}/send"
    assert body["qr_url"] == f"{BASE_URL}/partner/devices/{body['session_id']}/qr"


async def test_devices_of_a_user_are_listed_with_their_send_urls(
    front: Front, tenant: Tenant
) -> None:
    answer = await front.client.get(
        f"/partner/users/{tenant.user_token}/devices", headers=tenant.headers
    )

    body = await answer.get_json()
    assert (answer.status_code, body["type"]) == (200, "success")
    assert body["devices"] == [
        {
            "session_id": tenant.session_id,
            "device_name": "John iPhone",
            "device_token": tenant.device_token,
            "status": "connected",
            "reason": None,
            "send_url": f"{BASE_URL}{tenant.send_path}",
            "qr_url": f"{BASE_URL}/partner/devices/{tenant.session_id}/qr",
            "phone": PHONE,
            "proxy": None,
        }
    ]


async def test_status_answers_without_type(front: Front, tenant: Tenant) -> None:
    answer = await front.client.get(
        f"/partner/devices/{tenant.session_id}/status", headers=tenant.headers
    )

    body = await answer.get_json()
    assert answer.status_code == 200
    assert set(body) == {
        "status",
        "send_url",
        "reason",
        "since",
        "until",
        "verified_at",
        "evidence",
        "phone",
        "device_name",
        "proxy",
    }
    assert body["status"] == "connected"
    assert body["send_url"] == f"{BASE_URL}{tenant.send_path}"


async def test_new_device_is_unpaired_at_once(front: Front) -> None:
    tenant = await front.tenant(linked=False)

    answer = await front.client.get(
        f"/partner/devices/{tenant.session_id}/status", headers=tenant.headers
    )

    assert (await answer.get_json())["status"] == "unpaired"


async def test_profile_has_its_figures(front: Front, tenant: Tenant) -> None:
    await front.send(tenant)
    await front.post(
        "/partner/devices",
        {"device_name": "second"},
        {"x-api-key": tenant.api_key, "x-user-token": tenant.user_token},
    )

    answer = await front.client.get("/partner/me", headers=tenant.headers)

    body = await answer.get_json()
    assert (answer.status_code, body["type"]) == (200, "success")
    assert set(body) == {"type", "partner", "stats"}
    assert set(body["partner"]) == {"name", "email", "domain", "created_at"}
    assert body["partner"]["email"] == "abc@reseller.com"
    assert body["stats"] == {
        "users": 1,
        "devices": {"total": 2, "connected": 1, "unpaired": 1},
        "messages_sent": 1,
    }


async def test_removed_device_is_gone_and_logged_out(front: Front, tenant: Tenant) -> None:
    path = f"/partner/devices/{tenant.session_id}"

    answer = await front.client.delete(path, headers=tenant.headers)

    assert answer.status_code == 200
    assert await answer.get_json() == {"type": "success", "message": "Device removed"}
    assert (await front.send(tenant)).status_code == 401
    for gone in ("/status", "/qr"):
        answer = await front.client.get(path + gone, headers=tenant.headers)
        assert answer.status_code == 404
    assert (await front.client.delete(path, headers=tenant.headers)).status_code == 404
    profile = await (await front.client.get("/partner/me", headers=tenant.headers)).get_json()
    assert profile["stats"]["devices"] == {"total": 0, "connected": 0}
    await trio.testing.wait_all_tasks_blocked()
    assert tenant.actor.logged_out


async def test_send_answers_with_the_contracts_words(front: Front, tenant: Tenant) -> None:
    answer = await front.send(tenant)

    body = await answer.get_json()
    assert answer.status_code == 200
    assert set(body) == {"type", "message", "device", "message_id", "wa_message_id"}
    assert (body["type"], body["message"], body["device"]) == (
        "success",
        "Message sent",
        "John iPhone",
    )
    assert re.fullmatch("msg_[0-9A-Za-z]{22}", body["message_id"])
    assert re.fullmatch("3EB0[0-9A-F]{18}", body["wa_message_id"])


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_answer_is_never_cached_and_names_its_request(
    front: Front, tenant: Tenant, method: str
) -> None:
    path = {"GET": "/partner/users", "POST": tenant.send_path, "DELETE": "/nowhere"}[method]

    answer = await front.ask(method, path, headers=tenant.headers)

    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert re.fullmatch("req_[0-9a-f]{20}", answer.headers["x-request-id"])
    assert answer.headers["request-id"] == answer.headers["x-request-id"]


async def test_error_has_the_one_envelope(front: Front) -> None:
    answer = await front.client.get("/partner/me")

    body = await answer.get_json()
    assert answer.status_code == 401
    assert body == {
        "type": "error",
        "code": "unauthorized",
        "message": "The header x-api-key is missing or not valid.",
        "request_id": answer.headers["x-request-id"],
        "field": "x-api-key",
    }


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "not_found"),
        ("GET", "/partner/me/", 404, "not_found"),
        ("GET", "/PARTNER/ME", 404, "not_found"),
        ("GET", "/static/x", 404, "not_found"),
        ("PUT", "/partner/me", 405, "method_not_allowed"),
        ("GET", "/partner/register", 405, "method_not_allowed"),
    ],
)
async def test_what_is_not_there_has_the_envelope(
    front: Front, method: str, path: str, status: int, code: str
) -> None:
    answer = await front.ask(method, path)

    body = await answer.get_json()
    assert (answer.status_code, body["code"]) == (status, code)
    assert body["type"] == "error"


async def test_reading_a_send_url_is_refused_without_repeating_it(
    front: Front, tenant: Tenant
) -> None:
    answer = await front.client.get(tenant.send_path)

    assert answer.status_code == 405
    assert "POST" in answer.headers["allow"]
    assert tenant.device_token not in f"{await answer.get_data(True)}{answer.headers}"


async def test_head_and_options_are_answered(front: Front, tenant: Tenant) -> None:
    head = await front.client.head("/partner/me", headers=tenant.headers)
    options = await front.client.options("/partner/users")

    assert head.status_code == 200
    assert options.status_code == 200
    assert set(options.headers["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS", "POST"}
    assert "access-control-allow-origin" not in options.headers
