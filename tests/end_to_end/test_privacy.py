"""Privacy tokens, restrictions of the account, and what the phone tells a new companion."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.end_to_end.conftest import Restart
from tests.support.matrix import Feature, proves
from tests.support.partner import Partner, PartnerDevice
from tests.support.people import People
from tests.support.waiting import eventually


@pytest.fixture
async def carol(people: People) -> str:
    return await people.make("Carol")


@pytest.fixture
async def strict(people: People) -> AsyncIterator[None]:
    """A WhatsApp that takes no message to a stranger without proof."""
    await people.ask("PATCH", "/options", token_refusal=463)
    yield
    # A body without the field would change nothing.
    await people._http.patch(f"{people._control}/options", json={"token_refusal": None})


async def carries(people: People, device: PartnerDevice, to: str, kind: str) -> None:
    """Wait until a device's messages to a person carry this proof."""

    async def look() -> bool:
        return await people.proof(await device.send(to, "are you there")) == kind

    await eventually(look, f"messages carry a {kind}")


# --- tokens ---


async def test_answer_to_who_wrote_carries_the_token_that_came_with_it(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    await people.say(bob, alice, "hello")
    await device.message("hello", direction="in")
    await carries(people, device, bob, "tctoken")


@proves(Feature.TOKENS)
async def test_two_devices_give_each_other_their_tokens(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    one, two = await partner.linked(people, alice), await partner.linked(people, bob)
    assert (await one.send(bob, "hello")).status_code == 200
    await two.message("hello", direction="in")
    # Alice's device has given Bob its token, and gets Bob's after his answer.
    await carries(people, two, alice, "tctoken")
    await carries(people, one, bob, "tctoken")


@proves(Feature.CSTOKENS)
async def test_message_to_a_stranger_is_proved_by_what_the_phone_has_told(
    partner: Partner, people: People, alice: str, bob: str, strict: None
) -> None:
    device = await partner.linked(people, alice)
    await carries(people, device, bob, "cstoken")


async def test_tokens_survive_another_link_of_the_same_number_and_a_crash(
    tenant: Partner, people: People, alice: str, bob: str, crash: Restart
) -> None:
    device = await tenant.linked(people, alice)
    await people.say(bob, alice, "hello")
    await device.message("hello", direction="in")
    await carries(people, device, bob, "tctoken")
    await people.ask("DELETE", f"/devices/{device.jid}")
    await device.until("logged_out")
    await crash()
    await device.link(people, alice)
    assert await people.proof(await device.send(bob, "at once")) == "tctoken"


# --- restrictions ---


async def decision(device: PartnerDevice, to: str) -> tuple[str, str | None]:
    """What the preflight says of a message to this number."""
    response = await device.partner.http.post(
        f"{device.partner.base_url}/wa/{device.token}/preflight", json={"to": to, "message": "x"}
    )
    answer = response.json()
    return answer["decision"], answer["reason"]


@proves(Feature.LIMITS)
async def test_locked_account_writes_to_its_friends_alone(
    partner: Partner, people: People, alice: str, bob: str, carol: str
) -> None:
    device = await partner.linked(people, alice)
    # Bob wrote, Carol was written to and never answered.
    await people.say(bob, alice, "hello")
    await device.message("hello", direction="in")
    assert (await device.send(carol, "is anybody there")).status_code == 200
    await people.restrict(alice, locked=3600)

    async def look() -> bool:
        return await decision(device, carol) == ("wait", "reachout_locked")

    await eventually(look, "the device knows that it is locked")
    assert await decision(device, bob) == ("now", None)
    assert (await device.send(bob, "friends")).status_code == 200
    held = await device.send(carol, "me again", prefer="wait=1")
    assert (held.status_code, held.json()["code"]) == (429, "reachout_locked")
    stranger = await people.make("Dave")
    held = await device.send(stranger, "nice to meet you", idempotency_key="D1", prefer="wait=1")
    assert (held.status_code, held.json()["type"]) == (202, "queued")
    # What waits for the stranger goes when the stranger writes.
    await people.say(stranger, alice, "who is there")
    await people.reads(stranger, "nice to meet you")
    await people.restrict(alice, locked=None)
    await people.reads(bob, "friends")


async def test_lock_that_is_lifted_lets_everything_go(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    await people.restrict(alice, locked=3600, told=False)
    refused = await device.send(bob, "refused")
    assert (refused.status_code, refused.json()["code"]) == (429, "reachout_locked")
    queued = await device.send(bob, "held", idempotency_key="B1", prefer="wait=1")
    assert queued.json()["type"] == "queued"
    await people.restrict(alice, locked=None)
    assert await people.reads(bob, "held") == ["held"]


async def test_refusal_of_one_person_holds_nobody_else(
    partner: Partner, people: People, alice: str, bob: str, carol: str
) -> None:
    device = await partner.linked(people, alice)
    await people.wrong("nack", device, code=463)
    refused = await device.send(bob, "refused")
    assert (refused.status_code, refused.json()["code"]) == (429, "reachout_locked")

    async def look() -> bool:
        return await decision(device, carol) == ("now", None)

    await eventually(look, "it is known that the account is not locked")
    assert (await device.send(carol, "hello")).status_code == 200
    # Nothing was sent again, and Bob was given our token.
    assert await people.shown(bob) == []
    await people.say(bob, alice, "what is it")
    await carries(people, device, bob, "tctoken")


async def test_used_up_quota_holds_new_chats_until_there_is_another(
    partner: Partner, people: People, alice: str, bob: str, carol: str
) -> None:
    device = await partner.linked(people, alice)
    assert (await device.send(bob, "hello")).status_code == 200
    await people.restrict(alice, capped=3600, told=False)
    refused = await device.send(carol, "refused")
    assert (refused.status_code, refused.json()["code"]) == (429, "new_chat_limit")
    assert await decision(device, carol) == ("wait", "new_chat_limit")
    assert (await device.send(bob, "no new chat")).status_code == 200
    await people.restrict(alice, capped=None)

    async def look() -> bool:
        return await decision(device, carol) == ("now", None)

    await eventually(look, "new chats may be begun")


# --- what the phone tells ---


async def talked_before(people: People, alice: str, bob: str) -> None:
    """Let Alice's phone and Bob's have talked before anything is linked."""
    await people.say(bob, alice, "long ago")
    await people.reads(alice, "long ago")


async def test_friends_of_the_phone_are_no_strangers(
    partner: Partner, people: People, alice: str, bob: str, carol: str, strict: None
) -> None:
    await talked_before(people, alice, bob)
    device = await partner.linked(people, alice)
    await people.restrict(alice, locked=3600)

    async def look() -> bool:
        return await decision(device, carol) == ("wait", "reachout_locked")

    await eventually(look, "the device knows that it is locked")

    async def known() -> bool:
        return await decision(device, bob) == ("now", None)

    await eventually(known, "the history of the phone is read")
    assert await people.proof(await device.send(bob, "how have you been")) == "tctoken"
    await people.restrict(alice, locked=None)


@proves(Feature.HISTORY)
async def test_history_is_fetched_from_the_media_server(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    await talked_before(people, alice, bob)
    before = (await people.ask("GET", "/media")).json()["asked"]
    await people.tell(alice, "history", by="media", filler=2_000_000)

    async def look() -> bool:
        asked = (await people.ask("GET", "/media")).json()["asked"]
        return len(asked) > len(before) and "&mms-type=md-msg-hist" in asked[-1]

    await eventually(look, "the history is fetched")
    await carries(people, device, bob, "tctoken")


async def test_history_that_is_gone_is_told_in_the_devices_history(
    partner: Partner, people: People, alice: str
) -> None:
    device = await partner.linked(people, alice)
    await people.ask("POST", "/media/refuse", code=404)
    await people.tell(alice, "history", by="media")

    async def look() -> bool:
        told = await partner.ask("GET", f"{device.path}/history")
        events = told["events"]
        assert isinstance(events, list)
        return any(event["kind"] == "history_sync" for event in events)

    await eventually(look, "the history tells of it")
    assert (await device.status())["status"] == "connected"


@proves(Feature.HISTORY)
@proves(Feature.APP_STATE_KEYS)
async def test_everything_the_phone_tells_is_taken(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    await talked_before(people, alice, bob)
    for what in ("keys", "lids", "history"):
        await people.tell(alice, what)
    await carries(people, device, bob, "tctoken")


@proves(Feature.OWN_MESSAGES)
async def test_what_is_sent_from_the_phone_is_stored_as_sent(
    partner: Partner, people: People, alice: str, bob: str
) -> None:
    device = await partner.linked(people, alice)
    await people.say(alice, bob, "from my phone")
    await device.message("from my phone", direction="out", peer=bob, state="sent")
