"""Privacy tokens, restrictions of accounts, and what a phone tells its companions."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial

import httpx
import pytest
import trio

from sitpayd.simulator.main import Simulator
from sitpayd.simulator.violations import Kind
from sitpayd.whatsapp.history import (
    Chat,
    HistoryItem,
    NctSalt,
    PushName,
    inflated,
    read_history,
    read_mappings,
)
from sitpayd.whatsapp.media import HISTORY, HISTORY_PATH, opened, request_target
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import mex, notification, privacy
from sitpayd.whatsapp.stanzas.content import Content, HistorySync, LidMigration, parse_notice
from sitpayd.whatsapp.stanzas.message import LidMapping, Participant, resend
from sitpayd.whatsapp.stanzas.privacy import BUCKET_S, GivenToken, Proof, cstoken
from tests.simulator.conftest import QUICK, Start
from tests.simulator.test_routing import linked
from tests.support.companion import Companion, Wire, heard_by, kinds

ALICE, BOB = "4915111111111", "4915122222222"
NOW = int(time.time())


async def token_of(wire: Wire) -> notification.PrivacyToken:
    """The next token that the companion hears of."""
    node = await wire.expect("notification", type="privacy_token")
    given = notification.parse_notification(node)
    assert isinstance(given, notification.PrivacyToken)
    return given


async def error(companion: Companion, wire: Wire, sim: Simulator, proof: Proof | None) -> int:
    """With which code a message to Bob is refused; 0: it is taken."""
    ack = await companion.say(wire, sim.phone(BOB).account.lid, "hi", proof)
    return ack.number("error") or 0


async def ask(wire: Wire, build: partial[Node]) -> Node:
    return await wire.ask(build(wire.ids.next()))


# --- giving ---


async def test_phone_gives_its_token_to_whom_it_writes_once_a_week(start: Start) -> None:
    async with start(replace(QUICK, phone_tokens=True)) as sim:
        bob = sim.make_account(BOB)
        async with linked(sim) as (companion, wire):
            await companion.hear_peers(wire)
            for text in ("one", "two"):
                bob.send(sim.phone(ALICE).account, text)
                await companion.hear(wire)
            given = await token_of(wire)
            assert (given.user, given.lid) == (bob.account.pn, bob.account.lid)
            known = sim.server.router.trust.given(bob.account, sim.phone(ALICE).account)
            assert known == GivenToken(given.token, given.t)
            await wire.handled()
            assert "notification" not in [node.tag for node in wire.unread]


async def test_token_that_a_client_gives_reaches_the_devices_of_the_person(sim: Simulator) -> None:
    sim.make_account(ALICE)
    async with linked(sim) as (alice, first), linked(sim, BOB) as (bob, second):
        to = bob.identity.lid.bare
        answer = await ask(first, partial(privacy.give, user=to, t=NOW))
        assert privacy.parse_give_answer(answer) == ()
        given = await token_of(second)
        assert (given.lid, given.t) == (alice.identity.lid.bare, NOW)
        # What the other one has given comes back with the answer.
        answer = await ask(second, partial(privacy.give, user=given.user, t=NOW))
        assert privacy.parse_give_answer(answer) == (GivenToken(given.token, NOW),)


@pytest.mark.parametrize("t", [0, NOW + 3 * 24 * 3600], ids=["long ago", "in days"])
async def test_token_of_no_time_is_a_violation(sim: Simulator, t: int) -> None:
    sim.make_account(BOB)
    async with linked(sim) as (_, wire):
        answer = await ask(wire, partial(privacy.give, user=sim.phone(BOB).account.lid, t=t))
        assert answer.required("error").number("code") == 400
        assert kinds(sim) == [Kind.TOKEN]


async def test_token_for_oneself_is_taken_and_told_to_nobody(sim: Simulator) -> None:
    async with linked(sim) as (companion, wire):
        await companion.hear_peers(wire)
        answer = await ask(wire, partial(privacy.give, user=companion.identity.lid, t=NOW))
        assert answer.text("type") == "result"
        assert await wire.nothing()


async def test_token_for_nobody_is_refused(sim: Simulator) -> None:
    async with linked(sim) as (companion, wire):
        nobody = replace(companion.identity.lid, user="999999999999999")
        answer = await ask(wire, partial(privacy.give, user=nobody, t=NOW))
        assert answer.required("error").number("code") == 404


# --- proving ---


async def test_message_to_a_stranger_needs_a_proof_if_one_is_demanded(start: Start) -> None:
    async with start(replace(QUICK, token_refusal=463)) as sim:
        bob = sim.make_account(BOB)
        async with linked(sim) as (companion, wire):
            account, trust = sim.phone(ALICE).account, sim.server.router.trust
            assert await error(companion, wire, sim, None) == 463
            given = trust.give(bob.account, account, NOW)
            assert await error(companion, wire, sim, Proof("tctoken", given.token)) == 0
            assert await error(companion, wire, sim, None) == 463
            salted = Proof("cstoken", cstoken(account.nct_salt, bob.account.lid))
            assert await error(companion, wire, sim, salted) == 0
            # Who has written needs no proof any more.
            bob.send(account, "hello")
            assert await error(companion, wire, sim, None) == 0


async def test_what_a_message_carried_is_told(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        given = sim.server.router.trust.give(bob.account, sim.phone(ALICE).account, NOW)
        for proof in (None, Proof("tctoken", given.token)):
            ack = await companion.say(wire, bob.account.lid, "hi", proof)
            entry = sim.server.router.journal.find(ack.required_text("id"))
            assert entry is not None
            assert entry.proof == (proof and proof.kind)


async def test_token_that_is_over_proves_nothing_and_is_no_violation(start: Start) -> None:
    async with start(replace(QUICK, token_refusal=463)) as sim:
        bob = sim.make_account(BOB)
        async with linked(sim) as (companion, wire):
            trust = sim.server.router.trust
            old = trust.give(bob.account, sim.phone(ALICE).account, NOW - 5 * BUCKET_S)
            assert await error(companion, wire, sim, Proof("tctoken", old.token)) == 463


async def test_token_that_has_given_way_is_genuine_all_the_same(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        trust, account = sim.server.router.trust, sim.phone(ALICE).account
        before = trust.give(bob.account, account, NOW)
        trust.give(bob.account, account, NOW)
        assert await error(companion, wire, sim, Proof("tctoken", before.token)) == 0


@pytest.mark.parametrize(
    "proof",
    [Proof("tctoken", b"made up"), Proof("cstoken", bytes(32))],
    ids=["token", "salt"],
)
async def test_forged_proof_is_a_violation(sim: Simulator, proof: Proof) -> None:
    sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        await error(companion, wire, sim, proof)
        assert kinds(sim) == [Kind.TOKEN]


async def test_proof_in_a_resend_is_a_violation_and_refused(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        given = sim.server.router.trust.give(bob.account, sim.phone(ALICE).account, NOW)
        again = resend("3EB0", Participant(bob.account.lid, "msg", b"x"), count=1, t=NOW)
        node = replace(again, content=(*again.children, Node("tctoken", {}, given.token)))
        await wire.send(node)
        ack = await wire.expect("ack", id="3EB0")
        assert ack.number("error") == 479
        assert Kind.TOKEN in kinds(sim)
        assert companion.paired is not None


# --- restrictions ---


async def told(wire: Wire) -> tuple[mex.ReachoutTimelock | None, mex.NewChatCap | None]:
    """What the server says when it is asked how the account stands."""
    lock = mex.parse_timelock(await ask(wire, partial(mex.timelock_query)))
    cap = mex.parse_capping(await ask(wire, partial(mex.capping_query)))
    return lock, cap


async def test_account_that_was_never_restricted_says_so(sim: Simulator) -> None:
    async with linked(sim) as (_, wire):
        free = (mex.ReachoutTimelock(False), mex.NewChatCap(False))
        assert await told(wire) == free


async def test_locked_account_may_write_to_who_wrote_or_is_proved(sim: Simulator) -> None:
    bob = sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        account, trust = sim.phone(ALICE).account, sim.server.router.trust
        assert await error(companion, wire, sim, None) == 0
        account.locked_until = until = time.time() + 3600
        sim.server.router.tell_restriction(account)
        lock, _ = await told(wire)
        assert lock == mex.ReachoutTimelock(True, int(until))
        notices = [await wire.expect("notification", type="mex") for _ in range(2)]
        assert mex.parse_timelock_notice(notices[0]) == lock
        assert mex.parse_capping_notice(notices[1]) == mex.NewChatCap(False)
        assert await error(companion, wire, sim, None) == 463
        given = trust.give(bob.account, account, NOW)
        assert await error(companion, wire, sim, Proof("tctoken", given.token)) == 0
        bob.send(account, "hello")
        assert await error(companion, wire, sim, None) == 0


async def test_account_with_its_quota_used_up_begins_no_chats(sim: Simulator) -> None:
    sim.make_account(BOB)
    async with linked(sim) as (companion, wire):
        account = sim.phone(ALICE).account
        account.capped_until = until = time.time() + 3600
        _, cap = await told(wire)
        assert cap == mex.NewChatCap(True, int(until))
        assert await error(companion, wire, sim, None) == 475
        account.capped_until = None
        assert await error(companion, wire, sim, None) == 0
        account.capped_until = until
        # That is no new chat any more.
        assert await error(companion, wire, sim, None) == 0


# --- what a phone tells ---


def items_of(content: Content, data: bytes | None = None) -> list[HistoryItem]:
    notice = parse_notice(content.notice or b"")
    if isinstance(notice, LidMigration):
        lists = read_mappings(inflated([notice.payload]))
    else:
        lists = read_history(inflated([data or notice.inline or b""]))
    return [item for items in lists for item in items]


async def told_by_the_phone(companion: Companion, wire: Wire) -> Content:
    node = await wire.expect("message", category="peer")
    await wire.send(companion.receipt(node))
    return companion.decrypt(node).content


async def test_new_companion_is_told_whom_the_phone_talked_with(sim: Simulator) -> None:
    alice, bob = sim.make_account(ALICE, "Alice"), sim.make_account(BOB, "Bob")
    alice.send(bob.account, "hi")
    given = sim.server.router.trust.give(bob.account, alice.account, NOW)
    async with linked(sim) as (companion, wire):
        keys, history = [await told_by_the_phone(companion, wire) for _ in range(2)]
        assert keys.kind == "app_state_keys"
        assert set(items_of(history)) == {
            LidMapping(bob.account.pn, bob.account.lid),
            Chat(bob.account.lid, given.token, NOW, has_messages=True),
            PushName(bob.account.pn, "Bob"),
            PushName(alice.account.pn, "Alice"),
            NctSalt(alice.account.nct_salt),
        }


async def test_history_may_lie_on_the_media_server(sim: Simulator) -> None:
    alice, bob = sim.make_account(ALICE), sim.make_account(BOB, "Bob")
    alice.send(bob.account, "hi")
    async with linked(sim) as (companion, wire), httpx.AsyncClient() as http:
        await companion.hear_peers(wire)
        device = sim.server.accounts.device(companion.identity.jid)
        assert device is not None
        alice.tell_history(device, by_media=True, filler_len=100_000)
        content = await told_by_the_phone(companion, wire)
        notice = parse_notice(content.notice or b"")
        assert isinstance(notice, HistorySync)
        assert notice.file is not None
        url = f"http://{sim.server.media.host}{request_target(notice.file, HISTORY_PATH)}"
        assert "?ccb=" in url
        for code, count in ((410, 1), (200, 1)):
            sim.server.media.refuse(code, count)
        assert (await http.get(url)).status_code == 410
        spoiled, whole = (await http.get(url)).content, (await http.get(url)).content
        assert spoiled != whole
        blob = partial(iter, [whole])
        plain = b"".join(opened(blob, notice.file, HISTORY, max_len=2**24))
        assert PushName(bob.account.pn, "Bob") in items_of(content, plain)
        assert (await http.get(f"http://{sim.server.media.host}/v/t62.7118-24/x")).is_error


async def test_account_that_moves_to_lids_is_told(sim: Simulator) -> None:
    alice, bob = sim.make_account(ALICE), sim.make_account(BOB)
    alice.send(bob.account, "hi")
    async with linked(sim) as (companion, wire):
        await companion.hear_peers(wire)
        device = sim.server.accounts.device(companion.identity.jid)
        assert device is not None
        alice.tell_lids(device)
        content = await told_by_the_phone(companion, wire)
        assert items_of(content) == [LidMapping(bob.account.pn, bob.account.lid)]


async def test_who_writes_to_a_phone_is_in_its_history(sim: Simulator) -> None:
    alice, bob = sim.make_account(ALICE), sim.make_account(BOB)
    bob.send(alice.account, "hi")
    with trio.fail_after(5):
        assert await heard_by(sim, ALICE) == ["hi"]
    assert list(alice.people) == [bob.account]
