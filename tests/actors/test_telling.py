"""What a phone tells: kept with the message that told it, and once its notice was read."""

from __future__ import annotations

import pytest

from sitpayd.actors.commands import KeepToken
from sitpayd.actors.events import Answer
from sitpayd.actors.messages import HistoryPart
from sitpayd.storage import account, people, phone
from sitpayd.storage.records import NCT_SALT_FACT, PUSH_NAME_FACT, SharedKey, Told
from sitpayd.whatsapp.history import Chat, NctSalt, PushName
from sitpayd.whatsapp.jid import Jid
from sitpayd.whatsapp.stanzas.content import (
    AppStateKey,
    app_state_key_share,
    device_sent,
    inline_history_sync,
    lid_migration,
    pad,
)
from sitpayd.whatsapp.stanzas.message import LidMapping
from tests.actors.builders import FRIEND_LID, FRIEND_PN, OWN_LID, OWN_PN, SERVER_T
from tests.actors.home import HELLO, OUR_PHONE, Home, enc, message


@pytest.mark.parametrize(
    "told", [inline_history_sync(b"x"), lid_migration([("4915112345678", "123456789")])]
)
async def test_what_the_phone_tells_is_kept_before_it_is_answered(home: Home, told: bytes) -> None:
    phone_of_ours = await home.a_friend()
    node = message(enc(phone_of_ours.send(pad(told))), from_=OUR_PHONE, category="peer")
    for _ in range(2):  # as the server sends it again
        await home.reception.receive(node)
    assert (home.memory.notices, await home.notices()) == (1, 1)
    home.restart()
    await home.memory.load_credentials()
    assert home.memory.notices == 1


async def test_another_own_device_cannot_tell_what_only_the_phone_may(home: Home) -> None:
    colleague = await home.a_friend()
    for number, told in enumerate((inline_history_sync(b"x"), lid_migration([("4915", "12345")]))):
        node = message(
            enc(colleague.send(pad(told))),
            from_=OWN_LID.with_device(3),
            id=f"M{number}",
            category="peer",
            notify="Somebody",
        )
        await home.reception.receive(node)
    assert await home.notices() == 0
    assert await home.database.read(account.fact, home.device.id, PUSH_NAME_FACT) is None


async def test_app_state_keys_of_our_account_are_kept_before_they_are_answered(home: Home) -> None:
    colleague = await home.a_friend()
    key = AppStateKey(b"key 1", b"d" * 32, 7)
    node = message(
        enc(colleague.send(pad(app_state_key_share([key])))),
        from_=OWN_LID.with_device(3),
        category="peer",
    )
    await home.reception.receive(node)
    kept = await home.database.read(phone.shared_keys, home.device.id)
    assert kept == [SharedKey(b"key 1", b"d" * 32, 7)]


async def test_app_state_keys_of_a_stranger_are_not_kept(home: Home) -> None:
    stranger = await home.a_friend()
    key = AppStateKey(b"key 1", b"d" * 32, 7)
    await home.reception.receive(message(enc(stranger.send(pad(app_state_key_share([key]))))))
    assert await home.database.read(phone.shared_keys, home.device.id) == []


async def test_name_of_who_writes_is_kept(home: Home) -> None:
    friend = await home.a_friend()
    await home.reception.receive(
        message(enc(friend.send(pad(HELLO))), sender_pn=FRIEND_PN, notify="Bob")
    )
    for key in (str(FRIEND_LID), str(FRIEND_PN)):
        assert await home.database.read(people.name_of, home.device.id, key) == "Bob"


@pytest.mark.parametrize(("notify", "known"), [("The shop", b"The shop"), ("-", None), ("", None)])
async def test_own_name_is_learned_from_the_phone(
    home: Home, notify: str, known: bytes | None
) -> None:
    phone_of_ours = await home.a_friend()
    copy = pad(device_sent(FRIEND_PN, HELLO))
    await home.reception.receive(
        message(enc(phone_of_ours.send(copy)), from_=OUR_PHONE, recipient=FRIEND_LID, notify=notify)
    )
    assert await home.database.read(account.fact, home.device.id, PUSH_NAME_FACT) == known
    assert await home.database.read(people.name_of, home.device.id, str(OUR_PHONE)) is None


# --- what was read of the phone's notices ---


async def a_notice(home: Home) -> int:
    """The id of a notice that waits."""
    await home.database.write(phone.keep_told, home.device.id, "M1", Told(notice=b"notice"))
    waiting = await home.database.read(phone.next_notice, home.device.id)
    assert waiting is not None
    return waiting.id


async def test_part_of_a_history_is_kept(home: Home) -> None:
    notice_id, contacts = await a_notice(home), home.memory.contacts
    items = (
        PushName(FRIEND_LID, "Bob"),
        PushName(OWN_PN.bare, "The shop"),
        Chat(FRIEND_LID, b"token", SERVER_T, SERVER_T - 5),
        Chat(Jid("300000000000003", "lid"), has_messages=True),
        Chat(OWN_LID.bare, b"own", SERVER_T),
        NctSalt(b"salt"),
    )
    part = HistoryPart(notice_id, items, is_last=False)
    assert await contacts.keep_history(part, home.paired) == Answer(())
    read, device_id = home.database.read, home.device.id
    assert await read(people.name_of, device_id, str(FRIEND_LID)) == "Bob"
    assert await read(account.fact, device_id, PUSH_NAME_FACT) == b"The shop"
    assert await read(account.fact, device_id, NCT_SALT_FACT) == b"salt"
    standing = await read(people.standing, device_id, str(FRIEND_LID))
    assert standing.token is not None
    assert (standing.token.token, standing.token.t) == (b"token", SERVER_T)
    assert standing.given_t == SERVER_T - 5
    known = await read(people.standing, device_id, str(OWN_LID.bare))
    assert known.token is None
    assert await contacts.is_waiting(notice_id)
    await contacts.keep_history(HistoryPart(notice_id, (), is_last=True), home.paired)
    assert not await contacts.is_waiting(notice_id)


async def test_older_token_of_a_history_changes_nothing(home: Home) -> None:
    notice_id, contacts = await a_notice(home), home.memory.contacts
    await contacts.keep_token(KeepToken(FRIEND_LID, b"newer", SERVER_T))
    items = (Chat(FRIEND_LID, b"older", SERVER_T - 1),)
    await contacts.keep_history(HistoryPart(notice_id, items, is_last=True), home.paired)
    standing = await home.database.read(people.standing, home.device.id, str(FRIEND_LID))
    assert standing.token is not None
    assert standing.token.token == b"newer"


async def test_chat_of_before_is_no_first_contact(home: Home) -> None:
    notice_id = await a_notice(home)
    await home.reception.learn_all((LidMapping(FRIEND_PN, FRIEND_LID),))
    items = (Chat(FRIEND_LID, has_messages=True),)
    await home.memory.contacts.keep_history(HistoryPart(notice_id, items, True), home.paired)
    row = await home.accepted()
    assert not row.first_contact
