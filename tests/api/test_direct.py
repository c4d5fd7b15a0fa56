"""Sends do without the framework; nobody sees a difference."""

from __future__ import annotations

import json

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.exceptions import HTTPException

from sitpayd.api.direct import SEND_RULE, send_token
from tests.api.test_send import rows
from tests.support.front import PHONE, Front, Tenant
from tests.support.server import Served
from tests.support.waiting import eventually


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_other_methods_are_told_the_one_that_sends(
    front: Front, tenant: Tenant, method: str
) -> None:
    answer = await front.ask(method, tenant.send_path)
    assert (answer.status_code, answer.headers["allow"]) == (405, "OPTIONS, POST")
    assert (await answer.get_json())["code"] == "method_not_allowed"


@pytest.mark.parametrize("path", ["/wa//send", "/wa/x/send/", "/wa/x/y/send"])
async def test_what_is_nearly_a_send_is_nothing(front: Front, path: str) -> None:
    answer = await front.ask("POST", path, b"{}", {"content-type": "application/json"})
    assert answer.status_code == 404


async def test_framework_would_have_taken_the_same_paths_for_sends(front: Front) -> None:
    """Whatever else its rules take for one would find no handler there."""
    urls = front.app.url_map.bind("localhost")
    pieces = st.sampled_from(
        ["/", "wa", "send", "x", "dt_A", " ", "\n", "%2f", ".", "é", "wa/x/send"]
    )

    @given(st.lists(pieces, max_size=8).map("".join))
    @settings(max_examples=300, deadline=None)
    def compare(path: str) -> None:
        try:
            endpoint, values = urls.match("/" + path, "POST")
        except HTTPException:
            endpoint, values = "", {}
        is_send = endpoint == f"POST {SEND_RULE}"
        token = send_token("POST", "/" + path)
        assert token == (values["device_token"] if is_send else None)

    compare()


async def test_caller_who_leaves_takes_nothing_back_and_leaves_nothing_behind(
    served: Served,
) -> None:
    front = served.front
    tenant = await front.tenant()
    tenant.actor.behaviour = "away"
    body = json.dumps({"to": PHONE, "message": "Hello!"}).encode()
    head = (
        f"POST {tenant.send_path} HTTP/1.1\r\nhost: localhost\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    async with await served.connect() as stream:
        await stream.send_all(head.encode() + body)

        async def stored() -> bool:
            return bool(await rows(front, tenant))

        await eventually(stored, "the message is stored")

    async def forgotten() -> bool:
        return not front.outcomes._watches

    await eventually(forgotten, "nobody waits for it")
    assert [row.state for row in await rows(front, tenant)] == ["accepted"]
    tenant.actor.behaviour = "ack"
    tenant.actor.handle.ring()

    async def sent() -> bool:
        return [row.state for row in await rows(front, tenant)] == ["sent"]

    await eventually(sent, "it goes its way")


async def test_caller_who_left_in_the_middle_of_a_body_is_nobody(served: Served) -> None:
    tenant = await served.front.tenant()
    async with await served.connect() as stream:
        head = f"POST {tenant.send_path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n"
        await stream.send_all(head.encode() + b"{")
    await trio.testing.wait_all_tasks_blocked()
    assert await rows(served.front, tenant) == []
