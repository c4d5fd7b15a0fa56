from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from sitpayd.storage.account import fact
from sitpayd.storage.database import Database
from sitpayd.storage.inbox import forget_ciphertexts, forget_texts, receive, seen_ciphertext
from sitpayd.storage.outbox import accept, message, messages
from sitpayd.storage.people import name_of
from sitpayd.storage.phone import next_notice, shared_keys
from sitpayd.storage.records import (
    PUSH_NAME_FACT,
    Incoming,
    MessagePage,
    MessageView,
    SharedKey,
    Told,
)
from sitpayd.storage.sessions import (
    add_prekeys,
    learn_mapping,
    load_identities,
    load_sessions,
    prekey,
)
from tests.storage.builders import NOON, Clock, Tenant, a_message, make_tenant, merged

PEER = "123@lid"
INCOMING = Incoming("A1", PEER, PEER, False, "Hi there", NOON, "Someone")


async def page_of(database: Database, device_id: int) -> MessagePage:
    page = await database.read(messages, device_id)
    assert page is not None
    return page


async def view_of(database: Database, device_id: int) -> MessageView:
    (view,) = (await page_of(database, device_id)).messages
    return view


async def test_a_message_is_stored_with_the_keys_that_opened_it(
    database: Database, tenant: Tenant
) -> None:
    device_id = tenant.device.id
    await database.write(add_prekeys, device_id, [(4, b"four")])
    new = await database.write(
        receive,
        device_id,
        INCOMING,
        ciphertext_digests=[b"c" * 32],
        sessions={(PEER, 3): b"session"},
        identities={(PEER, 3): b"identity"},
        used_prekey_id=4,
    )
    assert new
    assert await database.read(load_sessions, device_id, PEER) == {3: b"session"}
    assert await database.read(load_identities, device_id, PEER) == {3: b"identity"}
    assert await database.read(prekey, device_id, 4) is None
    assert await database.read(seen_ciphertext, device_id, b"c" * 32)
    view = await view_of(database, device_id)
    assert (view.direction, view.peer, view.text, view.state) == (
        "in", PEER, "Hi there", "received",
    )  # fmt: skip
    assert (view.wa_message_id, view.timestamp) == ("A1", NOON)
    assert await database.read(message, device_id, view.message_id) == view


async def test_a_known_message_is_no_news_but_its_ratchet_step_is_kept(
    database: Database, tenant: Tenant
) -> None:
    device_id = tenant.device.id
    assert await database.write(receive, device_id, INCOMING, sessions={}, identities={})
    again = await database.write(
        receive,
        device_id,
        INCOMING,
        ciphertext_digests=[b"e" * 32],
        sessions={(PEER, 0): b"a step on"},
        identities={},
    )
    assert not again
    assert await database.read(load_sessions, device_id, PEER) == {0: b"a step on"}
    assert await database.read(seen_ciphertext, device_id, b"e" * 32)
    assert len((await page_of(database, device_id)).messages) == 1


async def test_a_stanza_without_a_message_still_saves_its_keys(
    database: Database, tenant: Tenant
) -> None:
    device_id = tenant.device.id
    new = await database.write(
        receive, device_id, None,
        ciphertext_digests=[b"c" * 32], sessions={(PEER, 0): b"step"}, identities={},
    )  # fmt: skip
    assert not new
    assert await database.read(load_sessions, device_id, PEER) == {0: b"step"}
    assert (await page_of(database, device_id)).messages == ()


async def test_the_same_id_of_another_chat_sender_or_device_is_another_message(
    database: Database, tenant: Tenant
) -> None:
    other = await database.write(make_tenant, "Other")
    device_id = tenant.device.id
    for incoming in (
        INCOMING,
        replace(INCOMING, chat="456@lid"),
        replace(INCOMING, sender="456@lid"),
        replace(INCOMING, wa_message_id="A2"),
    ):
        assert await database.write(receive, device_id, incoming, sessions={}, identities={})
    assert await database.write(receive, other.device.id, INCOMING, sessions={}, identities={})
    assert len((await page_of(database, device_id)).messages) == 4


async def test_a_ciphertext_is_known_to_its_device_only(database: Database, tenant: Tenant) -> None:
    other = await database.write(make_tenant, "Other")
    for _ in range(2):  # an operation may run twice
        await database.write(
            receive, tenant.device.id, None,
            ciphertext_digests=[b"c" * 32], sessions={}, identities={},
        )  # fmt: skip
    assert await database.read(seen_ciphertext, tenant.device.id, b"c" * 32)
    assert not await database.read(seen_ciphertext, other.device.id, b"c" * 32)
    assert not await database.read(seen_ciphertext, tenant.device.id, b"d" * 32)


async def test_what_the_account_wrote_elsewhere_is_outgoing(
    database: Database, tenant: Tenant
) -> None:
    mine = replace(INCOMING, sender="77@lid", from_me=True, push_name=None)
    await database.write(receive, tenant.device.id, mine, sessions={}, identities={})
    view = await view_of(database, tenant.device.id)
    assert (view.direction, view.peer, view.state) == ("out", PEER, "sent")


async def test_both_directions_stand_in_one_order_and_in_pages(
    database: Database, tenant: Tenant
) -> None:
    device = tenant.device
    for number in range(3):
        await database.write(accept, a_message(device, text=f"out {number}"))
        incoming = replace(INCOMING, wa_message_id=f"A{number}", text=f"in {number}")
        await database.write(receive, device.id, incoming, sessions={}, identities={})
    texts, after = [], None
    for more in (True, True, False):
        page = await database.read(messages, device.id, after, 2)
        assert page is not None
        assert page.more is more
        texts += [view.text for view in page.messages]
        after = page.messages[-1].message_id
    assert texts == ["out 0", "in 0", "out 1", "in 1", "out 2", "in 2"]
    assert await database.read(messages, device.id, after) == MessagePage((), False)


async def test_another_devices_message_is_no_place_to_start_behind(
    database: Database, tenant: Tenant
) -> None:
    other = await database.write(make_tenant, "Other")
    await database.write(receive, other.device.id, INCOMING, sessions={}, identities={})
    foreign = (await view_of(database, other.device.id)).message_id
    assert await database.read(messages, tenant.device.id, foreign) is None
    assert await database.read(message, tenant.device.id, foreign) is None
    assert await database.read(messages, tenant.device.id, "msg_unknown") is None


async def test_texts_and_hashes_are_forgotten_when_they_are_old(
    database: Database, tenant: Tenant, clock: Clock
) -> None:
    device_id = tenant.device.id
    await database.write(
        receive, device_id, INCOMING,
        ciphertext_digests=[b"old" * 11], sessions={}, identities={},
    )  # fmt: skip
    day_later = clock.forward(days=1)
    young = replace(INCOMING, wa_message_id="A2")
    await database.write(
        receive, device_id, young,
        ciphertext_digests=[b"new" * 11], sessions={}, identities={},
    )  # fmt: skip
    assert await database.write(forget_texts, day_later) == 1
    assert await database.write(forget_texts, day_later) == 0
    assert await database.write(forget_ciphertexts, day_later) == 1
    views = (await page_of(database, device_id)).messages
    assert [view.text for view in views] == [None, "Hi there"]
    assert not await database.read(seen_ciphertext, device_id, b"old" * 11)
    assert await database.read(seen_ciphertext, device_id, b"new" * 11)


async def test_forgetting_takes_no_more_than_it_is_allowed_at_once(
    database: Database, tenant: Tenant, clock: Clock
) -> None:
    for number in range(3):
        incoming = replace(INCOMING, wa_message_id=f"A{number}")
        await database.write(receive, tenant.device.id, incoming, sessions={}, identities={})
    later = clock.forward(days=1)
    assert await database.write(forget_texts, later, 2) == 2
    assert await database.write(forget_texts, later, 2) == 1


PN, LID = "919876543210", "123"
BY_LID = Incoming("A1", f"{LID}@lid", f"{LID}@lid", False, "Hi there", NOON)
BY_NUMBER = Incoming("A1", PN, f"{PN}@s.whatsapp.net", False, "Hi there", NOON)
# By LID, with the number of the chat known.
MIXED = Incoming("A1", PN, f"{LID}@lid", False, "Hi there", NOON)


@pytest.mark.parametrize("first", [BY_LID, BY_NUMBER, MIXED], ids=["lid", "number", "mixed"])
@pytest.mark.parametrize("second", [BY_LID, BY_NUMBER, MIXED], ids=["lid", "number", "mixed"])
async def test_message_is_known_under_every_name_of_its_sender(
    database: Database, tenant: Tenant, first: Incoming, second: Incoming
) -> None:
    device_id = tenant.device.id
    assert await database.write(receive, device_id, first, sessions={}, identities={})
    await database.write(learn_mapping, device_id, PN, LID, merged)
    assert not await database.write(receive, device_id, second, sessions={}, identities={})


async def test_same_id_of_somebody_else_is_another_message(
    database: Database, tenant: Tenant
) -> None:
    device_id = tenant.device.id
    await database.write(learn_mapping, device_id, PN, LID, merged)
    other = Incoming("A1", "77@lid", "77@lid", False, "Hi there", NOON)
    assert await database.write(receive, device_id, BY_LID, sessions={}, identities={})
    assert await database.write(receive, device_id, other, sessions={}, identities={})


async def test_name_of_the_author_is_shown_and_forgotten_with_the_text(
    database: Database, tenant: Tenant
) -> None:
    device_id = tenant.device.id
    mine = replace(INCOMING, wa_message_id="A2", from_me=True)
    for incoming in (INCOMING, mine):
        await database.write(receive, device_id, incoming, sessions={}, identities={})
    assert [view.name for view in (await page_of(database, device_id)).messages] == [
        "Someone",
        None,
    ]
    assert await database.read(name_of, device_id, PEER) == "Someone"
    await database.write(forget_texts, NOON + timedelta(days=1))
    assert (await page_of(database, device_id)).messages[0].name is None


async def test_own_name_is_nobody_elses(database: Database, tenant: Tenant) -> None:
    mine = replace(INCOMING, from_me=True)
    await database.write(receive, tenant.device.id, mine, sessions={}, identities={})
    assert await database.read(name_of, tenant.device.id, PEER) is None


async def test_what_the_phone_tells_is_stored_with_the_ratchet_that_read_it(
    database: Database, tenant: Tenant
) -> None:
    device_id = tenant.device.id
    told = Told((SharedKey(b"id", b"data", 1),), b"notice", "The shop")
    await database.write(
        receive, device_id, None, sessions={(PEER, 0): b"session"}, identities={}, told=("A3", told)
    )
    assert await database.read(shared_keys, device_id) == list(told.keys)
    waiting = await database.read(next_notice, device_id)
    assert waiting is not None
    assert waiting.notice == b"notice"
    assert await database.read(fact, device_id, PUSH_NAME_FACT) == b"The shop"
