"""What a device's actor counts: dials, reconnects, seconds until an acknowledgement."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from sitpayd.actors.events import LossKind, Lost
from sitpayd.actors.messages import Remove, StartPairing
from sitpayd.storage.database import Database
from sitpayd.whatsapp.stanzas import failure
from sitpayd.whatsapp.stanzas.failure import StreamError
from tests.actors.test_device import Stage
from tests.storage.builders import Tenant


@pytest.fixture
def stage(database: Database, tenant: Tenant) -> Stage:
    return Stage(database, tenant)


async def hanging(*_: object) -> None:
    """A network that answers nothing."""
    await trio.sleep_forever()


def counted(stage: Stage, name: str) -> dict[str, float]:
    """The samples of a metric with one label, by its value."""
    return {
        next(iter(sample.labels.values())): sample.value
        for metric in stage.world.metrics.registry.collect()
        for sample in metric.samples
        if sample.name == name
    }


async def test_dial_that_succeeds_is_counted_as_opened_once(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    async with stage.life():
        line = await stage.log_in()
        line.cut()
        await wait_all_tasks_blocked()

        assert counted(stage, "sitpayd_dials_total") == {"opened": 1.0}


async def test_dial_that_fails_is_counted_by_its_loss(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    stage.transport.refusals.append(Lost(LossKind.HTTP, "HTTP 403"))
    async with stage.life():
        await stage.log_in(1)

        assert counted(stage, "sitpayd_dials_total") == {"http": 1.0, "opened": 1.0}


async def test_dial_that_is_given_up_is_counted_as_abandoned(
    stage: Stage, autojump_clock: MockClock
) -> None:
    stage.world = replace(stage.world, converse=hanging)
    async with stage.life():
        stage.handle.post(StartPairing())
        await wait_all_tasks_blocked()
        stage.handle.post(Remove())
        await wait_all_tasks_blocked()

        assert counted(stage, "sitpayd_dials_total") == {"abandoned": 1.0}


async def test_reconnects_are_counted_by_what_made_them_necessary(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    async with stage.life():
        line = await stage.log_in()
        await line.say(failure.stream_error(StreamError(503)))
        await stage.log_in(2)

        assert counted(stage, "sitpayd_reconnects_total") == {"started": 1.0, "server_restart": 1.0}


async def test_acknowledged_message_is_timed_from_its_acceptance(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    await stage.send()
    async with stage.life():
        await stage.log_in()

        (count,) = (
            sample.value
            for metric in stage.world.metrics.registry.collect()
            for sample in metric.samples
            if sample.name == "sitpayd_send_seconds_count"
        )
        assert count == 1.0
