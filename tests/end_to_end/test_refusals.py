"""WhatsApp does not take a message: the answer says so, and is certain."""

from __future__ import annotations

import pytest

from tests.support.partner import Partner
from tests.support.people import People

NOBODY = "919000000001"


async def test_number_without_account_is_refused(
    partner: Partner, people: People, alice: str
) -> None:
    device = await partner.linked(people, alice)
    answer = await device.send(NOBODY, "hello?")
    assert answer.status_code == 422
    assert (answer.json()["code"], answer.json()["field"]) == ("not_on_whatsapp", "to")
    await device.message("hello?", state="failed", reason="not_on_whatsapp")


async def test_each_refusal_of_a_message_has_its_answer(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    answers = {}
    for code in (400, 401, 403, 404, 405, 406, 599):
        await people.wrong("nack", device, code=code)
        answer = await device.send(bob, f"refused with {code}")
        answers[code] = (answer.status_code, answer.json()["code"])
    assert answers == {
        400: (422, "malformed"),
        401: (502, "not_authorised"),
        403: (422, "forbidden"),
        404: (422, "recipient_unknown"),
        405: (422, "not_allowed"),
        406: (422, "not_acceptable"),
        599: (502, "refused_599"),
    }
    assert await people.shown(bob) == []


@pytest.mark.parametrize(
    ("code", "reason"),
    [(429, "rate_limited"), (463, "reachout_locked"), (475, "new_chat_limit")],
)
async def test_refusal_for_the_pace_is_429(
    partner: Partner, people: People, alice: str, bob: str, code: int, reason: str
) -> None:
    device = await partner.linked(people, alice)
    await people.wrong("nack", device, code=code)
    answer = await device.send(bob, "too much")
    assert (answer.status_code, answer.json()["code"]) == (429, reason)
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize("code", [421, 479])
async def test_message_in_an_outdated_form_is_armed_anew_and_arrives(
    partner: Partner, people: People, alice: str, bob: str, code: int
) -> None:
    device = await partner.linked(people, alice)
    await people.wrong("nack", device, code=code)
    assert (await device.send(bob, "in two forms")).status_code == 200
    assert await people.reads(bob, "in two forms") == ["in two forms"]


async def test_device_sends_on_after_a_refusal(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    await people.wrong("nack", device, code=403)
    assert (await device.send(bob, "refused")).status_code == 422
    assert (await device.send(bob, "taken")).status_code == 200
    assert await people.reads(bob, "taken") == ["taken"]


async def test_phone_that_cannot_decrypt_gets_the_message_again(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    await device.send(bob, "first")
    await people.reads(bob, "first")
    # The second one is answered by the phone, so that the next needs the session it forgets.
    await people.say(bob, alice, "answer")
    await device.message("answer", direction="in")
    await people.ask("POST", "/faults", kind="forget", phone=bob)
    assert (await device.send(bob, "second")).status_code == 200
    assert await people.reads(bob, "second") == ["first", "second"]


async def test_message_that_does_not_decrypt_is_asked_for_again(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    await people.ask("POST", "/faults", kind="corrupt", phone=bob)
    await people.say(bob, alice, "garbled once")
    await device.message("garbled once", direction="in")
    assert [message["text"] for message in await device.messages()] == ["garbled once"]
