"""What is odd about the server's words: kept where people look, without a word that is private."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from sitpayd.actors.chronicle import Chronicle
from sitpayd.actors.commands import Oddity, Remark
from sitpayd.actors.registry import DeviceHandle
from sitpayd.storage import sessions
from sitpayd.whatsapp.jid import lid
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import login
from tests.actors.builders import OWN_LID, OWN_PN, SERVER_T, a_record
from tests.actors.test_device import Stage, stage

__all__ = ["stage"]  # the fixture

OTHER_LID = lid("300000000000003", OWN_LID.device)


async def test_other_lid_is_stored_and_an_alarm_in_log_and_history(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    with capture_logs() as logs:
        async with stage.life():
            line = await stage.transport.dialled(1)
            await line.say(login.success(OTHER_LID, SERVER_T))
            await wait_all_tasks_blocked()
            assert stage.status == ("connected", None)
    credentials = await stage.credentials()
    assert credentials is not None
    assert credentials.paired is not None
    assert (credentials.paired.jid, credentials.paired.lid) == (OWN_PN, OTHER_LID)
    known = await stage.database.read(sessions.lid_of, stage.device.id, OWN_PN.user)
    assert known == OTHER_LID.user
    (odd,) = [entry for entry in logs if entry["event"] == "device.odd"]
    assert (odd["log_level"], odd["what"], odd["detail"]) == ("error", "other_lid", None)
    assert OTHER_LID.user not in str(logs)
    told = [event.text for event in stage.handle.recorder.events()]
    assert "WhatsApp said something odd: another LID of the account than before." in told
    # It is a new address, not a new link.
    assert not any("linked the device" in text for text in told)


async def test_request_that_nobody_answers_is_logged(
    stage: Stage, autojump_clock: MockClock
) -> None:
    await stage.link()
    with capture_logs() as logs:
        async with stage.life():
            line = await stage.log_in()
            request = Node("iq", {"id": "S", "type": "set", "xmlns": "w:x"}, (Node("y"),))
            await line.say(request)
            await wait_all_tasks_blocked()
    (odd,) = [entry for entry in logs if entry["event"] == "device.odd"]
    assert (odd["what"], odd["detail"]) == ("unknown_request", "set w:x y")
    assert not any("odd" in event.text for event in stage.handle.recorder.events())


@pytest.mark.parametrize(
    ("oddity", "kept"),
    [
        (Oddity.OTHER_LID, True),
        (Oddity.NO_MULTI_DEVICE, True),
        (Oddity.UNKNOWN_REQUEST, False),
        (Oddity.UNKNOWN_ANNOUNCEMENT, False),
    ],
)
def test_history_keeps_what_people_can_make_something_of(oddity: Oddity, kept: bool) -> None:
    handle = DeviceHandle(a_record())
    Chronicle(handle).did(Remark(oddity, "detail"))
    texts = [event.text for event in handle.recorder.events()]
    assert bool(texts) is kept
    assert "detail" not in "".join(texts)
