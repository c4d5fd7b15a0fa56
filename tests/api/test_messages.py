from __future__ import annotations

from datetime import UTC, datetime

import pytest
from trio.testing import wait_all_tasks_blocked

from sitpayd.storage import inbox
from sitpayd.storage.records import Incoming
from tests.support.front import PHONE, Front, Tenant


async def receive(front: Front, tenant: Tenant, text: str, chat: str) -> None:
    """A message comes in."""
    incoming = Incoming("3A" + text.encode().hex(), chat, chat, False, text, datetime.now(UTC))
    await front.database.write(
        inbox.receive,
        tenant.actor.handle.record.id,
        incoming,
        sessions={},
        identities={},
    )


async def test_both_directions_are_listed_in_their_order(front: Front, tenant: Tenant) -> None:
    sent = await (await front.send(tenant, "Hello!")).get_json()
    await receive(front, tenant, "Hi there", f"{PHONE}@s.whatsapp.net")
    await receive(front, tenant, "from a LID", "123456789012345@lid")

    answer = await front.ask("GET", f"/wa/{tenant.device_token}/messages")

    body = await answer.get_json()
    first, second, third = body["messages"]
    assert (answer.status_code, body["type"], body["has_more"]) == (200, "success", False)
    assert first == {
        "message_id": sent["message_id"],
        "wa_message_id": sent["wa_message_id"],
        "direction": "out",
        "peer": PHONE,
        "name": None,
        "text": "Hello!",
        "state": "sent",
        "reason": None,
        "timestamp": first["timestamp"],
        "held_until": None,
        "held_reason": None,
    }
    assert datetime.fromisoformat(first["timestamp"]).tzinfo is not None
    assert (second["direction"], second["peer"], second["text"], second["state"]) == (
        "in",
        PHONE,
        "Hi there",
        "received",
    )
    assert third["peer"] == "123456789012345@lid"
    assert body["next"] == third["message_id"]


async def test_pages_follow_each_other_without_gap_or_repeat(front: Front, tenant: Tenant) -> None:
    for number in range(5):
        await front.send(tenant, str(number))
    texts, after = [], ""
    for _ in range(3):
        answer = await front.ask("GET", f"/wa/{tenant.device_token}/messages?limit=2{after}")
        body = await answer.get_json()
        texts.append([message["text"] for message in body["messages"]])
        after = f"&after={body['next']}"

    assert texts == [["0", "1"], ["2", "3"], ["4"]]
    assert body["has_more"] is False


async def test_device_without_messages_has_an_empty_page(front: Front, tenant: Tenant) -> None:
    answer = await front.ask("GET", f"/wa/{tenant.device_token}/messages")

    assert await answer.get_json() == {
        "type": "success",
        "messages": [],
        "has_more": False,
        "next": None,
    }


@pytest.mark.parametrize(
    ("query", "code", "field"),
    [
        ("limit=0", "invalid_query", "limit"),
        ("limit=-1", "invalid_query", "limit"),
        ("limit=", "invalid_query", "limit"),
        ("limit=ten", "invalid_query", "limit"),
        ("limit=%D9%A3", "invalid_query", "limit"),
        ("limit=99999999999", "invalid_query", "limit"),
        ("after=msg_unknown", "invalid_cursor", "after"),
        ("after=%27%20OR%201%3D1", "invalid_cursor", "after"),
        ("after=%00", "invalid_cursor", "after"),
        ("after=%ff", "invalid_cursor", "after"),
    ],
)
async def test_bad_query_is_refused(
    front: Front, tenant: Tenant, query: str, code: str, field: str
) -> None:
    answer = await front.ask("GET", f"/wa/{tenant.device_token}/messages?{query}")

    body = await answer.get_json()
    assert (answer.status_code, body["code"], body["field"]) == (400, code, field)


async def test_page_has_a_largest_size(front: Front, tenant: Tenant) -> None:
    tenant.actor.behaviour = "away"
    for number in range(201):
        await front.send(tenant, str(number), headers={"Prefer": "respond-async"})
    await wait_all_tasks_blocked()

    answer = await front.ask("GET", f"/wa/{tenant.device_token}/messages?limit=1000")

    body = await answer.get_json()
    assert (len(body["messages"]), body["has_more"]) == (200, True)


async def test_incoming_message_is_shown_alone(front: Front, tenant: Tenant) -> None:
    await receive(front, tenant, "Hi there", f"{PHONE}@s.whatsapp.net")
    page = await (await front.ask("GET", f"/wa/{tenant.device_token}/messages")).get_json()
    message_id = page["messages"][0]["message_id"]

    answer = await front.ask("GET", f"/wa/{tenant.device_token}/messages/{message_id}")

    body = await answer.get_json()
    assert (body["type"], body["text"], body["direction"]) == ("success", "Hi there", "in")


async def test_unknown_message_is_not_found(front: Front, tenant: Tenant) -> None:
    answer = await front.ask("GET", f"/wa/{tenant.device_token}/messages/msg_unknown")

    assert answer.status_code == 404
