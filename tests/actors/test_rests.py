"""What a device does when WhatsApp or a person stops it, over the lives of its actor."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from sitpayd.actors.failures import BAN_GRACE_S
from sitpayd.actors.messages import Logout, Pause, Reconnect, Resume
from sitpayd.storage import devices, outbox
from sitpayd.storage.records import DeviceRecord
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import failure, iq
from sitpayd.whatsapp.stanzas.failure import ConnectFailure, StreamError
from tests.actors.builders import OWN_PN, success
from tests.actors.test_device import Stage, kind_server, stage

__all__ = ["stage"]

A_YEAR_S = 365 * 86_400.0
REPLACED = failure.stream_error(StreamError(409, conflict="replaced"))


def refusal(code: int, expire_s: int | None = None) -> Node:
    return failure.failure(ConnectFailure(code, expire_s=expire_s))


async def refused(stage: Stage, node: Node, count: int = 1) -> None:
    """The server ends the connection with this, before or after a login."""
    if node.tag == "failure":
        line = await stage.transport.dialled(count)
    else:
        line = await stage.log_in(count)
    await line.say(node)
    await wait_all_tasks_blocked()


async def state_of(stage: Stage, message_id: str) -> tuple[str, str | None]:
    view = await stage.database.read(outbox.message, stage.device.id, message_id)
    assert view is not None
    return view.state, view.reason


async def stored(stage: Stage) -> DeviceRecord:
    record = await stage.database.read(devices.device_by_id, stage.device.id)
    assert record is not None
    return record


def dials(stage: Stage) -> int:
    return len(stage.transport.lines)


@pytest.mark.parametrize(
    "node",
    [
        refusal(401),
        refusal(403),
        failure.stream_error(StreamError(401, conflict="device_removed")),
        failure.stream_error(StreamError(401)),
    ],
    ids=["failure 401", "failure 403", "device_removed", "stream 401"],
)
async def test_logged_out_device_ends_its_queue_keeps_its_keys_a_day_and_never_dials(
    stage: Stage, autojump_clock: MockClock, node: Node
) -> None:
    """F-08: accepted rows fail for certain, armed ones are unknown, and nothing dials again."""
    keys = await stage.link()
    stage.transport.answer = lambda n: [] if n.tag == "message" else kind_server(n)
    async with stage.life():
        line = await stage.log_in()
        armed, waiting = await stage.send(), await stage.send()
        await wait_all_tasks_blocked()
        lives = 1
        if node.tag == "failure":
            line.cut()
            lives = 2
            line = await stage.transport.dialled(2)
        await line.say(node)
        await wait_all_tasks_blocked()
        assert stage.status[0] == "logged_out"
        assert await state_of(stage, armed) == ("unknown", "device_logged_out")
        assert await state_of(stage, waiting) == ("failed", "device_logged_out")
        await trio.sleep(A_YEAR_S)
        assert dials(stage) == lives
    async with stage.life():
        stage.handle.post(Resume())
        stage.handle.post(Reconnect())
        await trio.sleep(A_YEAR_S)
        assert dials(stage) == lives
        assert stage.status[0] == "logged_out"

    credentials = await stage.credentials()
    assert credentials is not None
    assert credentials.keys == keys
    since = (await stored(stage)).rest
    assert since is not None
    due = await stage.database.read(devices.devices_to_forget, since.since + timedelta(seconds=1))
    assert [record.id for record in due] == [stage.device.id]


async def test_banned_without_an_end_keeps_its_queue(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """F-08: 406 is a ban, not a logout: nothing is settled."""
    await stage.link()
    waiting = await stage.send()
    async with stage.life():
        await refused(stage, refusal(406))
        assert stage.status == ("banned", "banned")
        await trio.sleep(A_YEAR_S)
        assert dials(stage) == 1
        assert await state_of(stage, waiting) == ("accepted", None)


async def test_replaced_device_fights_nobody_until_a_person_says_so(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """F-09: two owners of one login would throw each other out for ever."""
    await stage.link()
    async with stage.life():
        await refused(stage, REPLACED)
        waiting = await stage.send()
        await trio.sleep(A_YEAR_S)
        assert stage.status == ("replaced", "replaced")
        assert dials(stage) == 1
    async with stage.life():
        await trio.sleep(A_YEAR_S)
        assert dials(stage) == 1
        stage.handle.post(Reconnect())
        await stage.log_in(2)
        assert await state_of(stage, waiting) == ("sent", None)
        assert (await stored(stage)).rest is None


async def test_temporary_ban_ends_by_time_and_a_person(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """F-10: the end is told, the queue is kept, and the dial waits for both."""
    await stage.link()
    waiting = await stage.send()
    async with stage.life():
        await refused(stage, refusal(402, expire_s=7200))
        known = stage.world.board.get(stage.device.session_id)
        assert known is not None
        assert known.until is not None
        assert known.until - known.since == timedelta(seconds=7200)
        stage.handle.post(Resume())
        await trio.sleep(7200 + BAN_GRACE_S - 1.0)
        stage.handle.post(Resume())
        await trio.sleep(10.0)
        assert dials(stage) == 1
        assert await state_of(stage, waiting) == ("accepted", None)
        stage.handle.post(Resume())
        await stage.log_in(2)
        assert await state_of(stage, waiting) == ("sent", None)


async def test_end_of_a_ban_is_known_after_a_restart(
    stage: Stage, autojump_clock: MockClock
) -> None:
    """F-10: it is stored as a time of day, not as a wait of one life."""
    await stage.link()
    async with stage.life():
        await refused(stage, refusal(402, expire_s=7200))
    async with stage.life():
        known = stage.world.board.get(stage.device.session_id)
        assert known is not None
        assert known.until is not None
        assert known.until > datetime.now(UTC) + timedelta(seconds=7100)
        stage.handle.post(Resume())
        await wait_all_tasks_blocked()
        assert dials(stage) == 1


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (400, "bad_request"),
        (409, "bad_user_agent"),
        (411, "no_multi_device"),
        (415, "not_found"),
        (418, "client_unknown"),
    ],
)
async def test_login_that_is_refused_for_its_form_waits_for_a_person(
    stage: Stage, autojump_clock: MockClock, code: int, reason: str
) -> None:
    """F-11: the code is told by its word, the queue is kept, and a person may try again."""
    await stage.link()
    waiting = await stage.send()
    async with stage.life():
        await refused(stage, refusal(code))
        assert stage.status == ("action_required", reason)
        await trio.sleep(A_YEAR_S)
        assert dials(stage) == 1
        assert await state_of(stage, waiting) == ("accepted", None)
        stage.handle.post(Resume())
        await stage.log_in(2)
        assert await state_of(stage, waiting) == ("sent", None)


# --- what people want, over the lives of the actor ---


async def test_pause_outlives_a_restart_and_loses_nothing(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    async with stage.life():
        await stage.log_in()
        await stage.database.write(devices.set_desired, stage.device.id, "paused")
        stage.handle.post(Pause())
        await wait_all_tasks_blocked()
        waiting = await stage.send()
        await trio.sleep(3600.0)
        assert stage.status == ("paused", None)
    async with stage.life():
        await trio.sleep(3600.0)
        assert stage.status == ("paused", None)
        assert dials(stage) == 1
        await stage.database.write(devices.set_desired, stage.device.id, "running")
        stage.handle.post(Resume())
        await stage.log_in(2)
        assert await state_of(stage, waiting) == ("sent", None)


async def test_message_in_flight_at_a_pause_keeps_its_bytes(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    stage.transport.answer = lambda node: [] if node.tag == "message" else kind_server(node)
    async with stage.life():
        first = await stage.log_in()
        message_id = await stage.send()
        await wait_all_tasks_blocked()
        stage.handle.post(Pause())
        await wait_all_tasks_blocked()
        assert await state_of(stage, message_id) == ("armed", None)
        stage.transport.answer = kind_server
        stage.handle.post(Resume())
        second = await stage.log_in(2)
        written = [node for node in second.heard if node.tag == "message"]
        assert written == [node for node in first.heard if node.tag == "message"]
        assert await state_of(stage, message_id) == ("sent", None)


async def test_pause_closes_the_socket(stage: Stage, autojump_clock: MockClock) -> None:
    await stage.link()
    async with stage.life():
        line = await stage.log_in()
        stage.handle.post(Pause())
        with trio.fail_after(5.0):
            await line.ended.wait()


async def test_logout_is_told_to_whatsapp_and_keeps_the_device(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    async with stage.life():
        line = await stage.log_in()
        await stage.database.write(devices.want_logout, stage.device.id)
        stage.handle.post(Logout())
        await line.ended.wait()
        await wait_all_tasks_blocked()
        asked = line.heard[-1]
        assert asked == iq.logout(asked.required_text("id"), OWN_PN)
        assert stage.status == ("logged_out", "logged_out_here")
        record = await stored(stage)
        assert not record.logout_wanted
        assert record.removed_at is None


async def test_logout_that_a_crash_came_between_is_made_by_the_next_life(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    await stage.database.write(devices.set_desired, stage.device.id, "paused")
    await stage.database.write(devices.want_logout, stage.device.id)
    async with stage.life():
        await stage.transport.dialled(1)
    async with stage.life():
        line = await stage.transport.dialled(2)
        await line.say(success())
        await line.ended.wait()
        await wait_all_tasks_blocked()
        assert line.heard[-1].child("remove-companion-device") is not None
        assert stage.status == ("logged_out", "logged_out_here")
    async with stage.life():
        await trio.sleep(A_YEAR_S)
        assert dials(stage) == 2
