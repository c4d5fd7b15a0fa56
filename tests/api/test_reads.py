"""Incoming messages that are marked as read."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from quart import Response

from sitpayd.actors.phase import Phase
from sitpayd.storage import inbox
from sitpayd.storage.records import Incoming
from tests.api.test_presence import problem, seconds_to, told
from tests.support.front import PHONE, Front, Tenant


async def received(front: Front, tenant: Tenant, *ids: str, from_me: bool = False) -> list[str]:
    """Messages come in; their ids here."""
    device_id = tenant.actor.handle.record.id
    for id in ids:
        incoming = Incoming(id, PHONE, PHONE, from_me, id, datetime.now(UTC))
        await front.database.write(inbox.receive, device_id, incoming, sessions={}, identities={})
    listed = await (await front.ask("GET", f"/wa/{tenant.device_token}/messages")).get_json()
    return [message["message_id"] for message in listed["messages"][-len(ids) :]]


async def read(front: Front, tenant: Tenant, message_id: str, body: object = None) -> Response:
    path = f"/wa/{tenant.device_token}/messages/{message_id}/read"
    if body is None:
        return await front.ask("POST", path)
    return await front.post(path, body)


async def states(front: Front, tenant: Tenant) -> list[str]:
    listed = await (await front.ask("GET", f"/wa/{tenant.device_token}/messages")).get_json()
    return [message["state"] for message in listed["messages"]]


async def test_message_and_those_before_it_are_marked_as_read(front: Front, tenant: Tenant) -> None:
    _, second, _ = await received(front, tenant, "A1", "A2", "A3")
    answer = await told(await read(front, tenant, second))
    read_at = answer.pop("read_at")
    assert -5 <= seconds_to(read_at) <= 0
    assert answer == {
        "type": "success",
        "message": "Message marked as read",
        "message_id": second,
        "marked": 2,
    }
    assert await states(front, tenant) == ["read", "read", "received"]
    assert tenant.actor.handle.read_bell
    shown = await told(await front.ask("GET", f"/wa/{tenant.device_token}/messages/{second}"))
    assert shown["state"] == "read"
    history = shown["history"]
    assert isinstance(history, list)
    assert [change["state"] for change in history] == ["received", "read"]
    assert history[1]["at"] == read_at


async def test_message_alone_is_marked_if_that_is_wanted(front: Front, tenant: Tenant) -> None:
    _, second = await received(front, tenant, "A1", "A2")
    answer = await told(await read(front, tenant, second, {"only": True}))
    assert answer["marked"] == 1
    assert await states(front, tenant) == ["received", "read"]


async def test_marking_again_changes_nothing(front: Front, tenant: Tenant) -> None:
    (only,) = await received(front, tenant, "A1")
    first = await told(await read(front, tenant, only))
    again = await told(await read(front, tenant, only, {}))
    assert again == {**first, "marked": 0}


async def test_actor_is_rung_when_something_was_read(front: Front, tenant: Tenant) -> None:
    (only,) = await received(front, tenant, "A1")
    await read(front, tenant, only)
    await read(front, tenant, only)
    assert tenant.actor.read_rings == 2


@pytest.mark.parametrize("phase", [Phase.PAUSED, Phase.WAITING, Phase.LOGGED_OUT])
async def test_device_that_is_away_is_marked_all_the_same(
    front: Front, tenant: Tenant, phase: Phase
) -> None:
    (only,) = await received(front, tenant, "A1")
    tenant.actor.enter(phase)
    assert (await read(front, tenant, only)).status_code == 200
    assert await states(front, tenant) == ["read"]


async def test_what_went_out_cannot_be_marked_as_read(front: Front, tenant: Tenant) -> None:
    sent = await (await front.send(tenant)).get_json()
    (own,) = await received(front, tenant, "M1", from_me=True)
    for message_id in (sent["message_id"], own):
        answer = await read(front, tenant, message_id)
        assert await problem(answer) == (422, "not_incoming", None)


async def test_foreign_and_unknown_messages_cannot_be_marked(front: Front, tenant: Tenant) -> None:
    other = await front.tenant()
    (foreign,) = await received(front, other, "A1")
    for message_id in (foreign, "msg_nothing"):
        assert await problem(await read(front, tenant, message_id)) == (404, "not_found", None)
    assert await states(front, other) == ["received"]


@pytest.mark.parametrize("only", ["true", 1, None, []])
async def test_only_is_true_or_false(front: Front, tenant: Tenant, only: object) -> None:
    (message_id,) = await received(front, tenant, "A1")
    answer = await read(front, tenant, message_id, {"only": only})
    assert await problem(answer) == (422, "invalid", "only")
    assert await states(front, tenant) == ["received"]
