"""Repairs: what could not be read, on either side, as a machine of its own."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sitpayd.actors.commands import (
    AddressByNumber,
    AskPhone,
    Command,
    LookUpResend,
    Resend,
    Send,
)
from sitpayd.actors.events import ResendLookedUp, Resent, Unread
from sitpayd.actors.queries import Queries
from sitpayd.actors.repairs import (
    ASK_PHONE_AFTER_S,
    MAX_AGE_S,
    MAX_PHONE_REQUESTS_A_MINUTE,
    MAX_RESENDS,
    MAX_RESENDS_A_MINUTE,
    MAX_WAITING,
    RECREATE_AFTER_S,
    Repairs,
)
from sitpayd.storage.records import OutboxRow
from sitpayd.whatsapp.errors import RemoteProtocolError
from sitpayd.whatsapp.jid import Jid
from sitpayd.whatsapp.keys import KeyPair
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.signal.session import PreKeyBundle
from sitpayd.whatsapp.stanzas import prekeys
from sitpayd.whatsapp.stanzas.content import MessageName
from sitpayd.whatsapp.stanzas.prekeys import BundleRefused
from sitpayd.whatsapp.stanzas.receipt import Receipt, Retry
from tests.actors.builders import (
    FRIEND_LID,
    FRIEND_PN,
    OWN_LID,
    OWN_PN,
    PAIRED,
    SERVER_T,
    UNIX_OFFSET_S,
    a_row,
    bundle_of,
    bundles_result,
    refused,
    result,
)

COMPANION = FRIEND_LID.with_device(2)
OUR_OTHER = OWN_LID.with_device(9)
BY_LID = replace(a_row(), participants=f"{FRIEND_LID} {COMPANION} {OUR_OTHER}".encode())
NOW = 1000.0
BASE_KEY, OTHER_BASE_KEY = b"b" * 32, b"o" * 32
REGISTRATION = 4711
BUNDLE = bundle_of(KeyPair.generate())
STORED = frozenset({FRIEND_LID, COMPANION, OUR_OTHER})


def a_receipt(
    count: int = 1,
    *,
    from_: Jid = COMPANION,
    bundle: PreKeyBundle | None = None,
    registration_id: int | None = REGISTRATION,
    id: str = BY_LID.wa_message_id,
) -> Receipt:
    retry = Retry(count, SERVER_T, 7, registration_id, bundle, None)
    return Receipt((id,), from_, None, "retry", None, None, SERVER_T, False, retry)


def ack_of(receipt: Receipt) -> Node:
    return Node("ack", {"id": receipt.ids[0], "to": receipt.from_ or "nobody"})


def known(
    receipt: Receipt,
    *,
    row: OutboxRow | None = BY_LID,
    device: Jid = COMPANION,
    served: int = 0,
    base_key: bytes | None = BASE_KEY,
    registration_id: int | None = REGISTRATION,
) -> ResendLookedUp:
    return ResendLookedUp(receipt, row, device, STORED, served, base_key, registration_id)


class Scene:
    """Repairs, the clock, and what was asked last."""

    def __init__(self) -> None:
        self.queries: Queries[object] = Queries()
        self.repairs = Repairs(self.queries, "bundle")
        self.now = NOW
        self.repairs.online(PAIRED, UNIX_OFFSET_S)

    def asks(self, receipt: Receipt, **facts: object) -> list[Command]:
        """A device asks, and what is known of that is looked up."""
        assert self.repairs.asked(receipt, ack_of(receipt), self.now) == [LookUpResend(receipt)]
        return self.repairs.looked_up(known(receipt, **facts), self.now)  # type: ignore[arg-type]  # names and types of `known`

    def bundle_asked(self, commands: list[Command], device: Jid = COMPANION) -> str:
        """The id of the question for this device's bundle, which is all that was said."""
        (command,) = commands
        assert isinstance(command, Send)
        assert prekeys.parse_bundles_query(command.node) == (device,)
        return command.node.required_text("id")

    def bundle_comes(self, query_id: str, device: Jid = COMPANION) -> list[Command]:
        return self.repairs.answered(bundles_result(query_id, {device: BUNDLE}), self.now)

    def resent(self, order: Resend) -> None:
        stanza = Node("message")
        said = self.repairs.done(Resent((stanza, order.ack)), self.now)
        assert said == [Send(stanza), Send(order.ack)]

    def is_resent(self, receipt: Receipt, **facts: object) -> Resend:
        """A device asks and gets it, without a question for a bundle."""
        (order,) = self.asks(receipt, **facts)
        assert isinstance(order, Resend)
        self.resent(order)
        return order

    def is_refused(self, receipt: Receipt, **facts: object) -> None:
        assert self.asks(receipt, **facts) == [Send(ack_of(receipt))]


@pytest.fixture
def scene() -> Scene:
    return Scene()


# --- who is entitled ---


def test_device_that_could_not_read_gets_the_message_once_more(scene: Scene) -> None:
    receipt = a_receipt()
    assert scene.is_resent(receipt) == Resend(receipt, ack_of(receipt))


@pytest.mark.parametrize(
    "facts",
    [
        {"row": None},
        {"device": FRIEND_LID.with_device(3)},
        {"served": MAX_RESENDS},
        {"served": 1_000_000},
    ],
    ids=["unknown message", "not written to", "asked too often", "has the message"],
)
def test_device_that_is_not_entitled_is_only_acknowledged(
    scene: Scene, facts: dict[str, object]
) -> None:
    scene.is_refused(a_receipt(), **facts)
    # And the next one has its turn.
    scene.is_resent(a_receipt())


def test_storm_of_requests_is_acknowledged_and_not_answered(scene: Scene) -> None:
    """T-57: whoever asks, a minute has room for so many resends."""
    for number in range(MAX_RESENDS_A_MINUTE):
        scene.is_resent(a_receipt(id=f"M{number}"))
    scene.is_refused(a_receipt(id="one more"))
    scene.now += 60.0
    scene.is_resent(a_receipt(id="one more"))


def test_receipt_from_nobody_is_acknowledged(scene: Scene) -> None:
    nameless = replace(a_receipt(), from_=None)
    assert scene.repairs.asked(nameless, Node("ack"), NOW) == [Send(Node("ack"))]


# --- with which session ---


def test_keys_of_the_receipt_begin_a_new_session(scene: Scene) -> None:
    receipt = a_receipt(bundle=BUNDLE)
    assert scene.is_resent(receipt) == Resend(receipt, ack_of(receipt), BUNDLE)


def test_device_without_session_gets_one_from_its_bundle(scene: Scene) -> None:
    receipt = a_receipt()
    asked = scene.bundle_asked(scene.asks(receipt, base_key=None, registration_id=None))
    order = Resend(receipt, ack_of(receipt), BUNDLE)
    assert scene.bundle_comes(asked) == [order]
    scene.resent(order)


def test_other_registration_ends_the_old_session(scene: Scene) -> None:
    receipt = a_receipt(registration_id=1)
    asked = scene.bundle_asked(scene.asks(receipt))
    assert scene.bundle_comes(asked) == [Resend(receipt, ack_of(receipt), BUNDLE, anew=True)]


@pytest.mark.parametrize("facts", [{"registration_id": None}, {}], ids=["ours", "theirs"])
def test_unknown_registration_is_no_other(scene: Scene, facts: dict[str, object]) -> None:
    scene.is_resent(a_receipt(registration_id=REGISTRATION if facts else None), **facts)


def test_second_request_begins_a_new_session_once_an_hour(scene: Scene) -> None:
    receipt = a_receipt(2)
    asked = scene.bundle_asked(scene.asks(receipt))
    (order,) = scene.bundle_comes(asked)
    assert isinstance(order, Resend)
    scene.resent(order)
    scene.now += RECREATE_AFTER_S
    scene.is_resent(a_receipt(2, id="another"), base_key=OTHER_BASE_KEY)
    scene.now += 1.0
    scene.bundle_asked(scene.asks(a_receipt(2, id="a third"), base_key=OTHER_BASE_KEY))


def test_keys_of_a_receipt_count_as_a_new_session(scene: Scene) -> None:
    scene.is_resent(a_receipt(bundle=BUNDLE))
    scene.is_resent(a_receipt(2), base_key=OTHER_BASE_KEY)


def test_third_request_in_the_session_that_failed_at_the_second_begins_a_new_one(
    scene: Scene,
) -> None:
    scene.is_resent(a_receipt(bundle=BUNDLE, id="before"))
    scene.is_resent(a_receipt(2))
    scene.bundle_asked(scene.asks(a_receipt(3)))


def test_third_request_in_another_session_than_the_second_goes_on_in_it(scene: Scene) -> None:
    scene.is_resent(a_receipt(bundle=BUNDLE, id="before"))
    scene.is_resent(a_receipt(2))
    scene.is_resent(a_receipt(3), base_key=OTHER_BASE_KEY)


def test_third_request_without_a_second_one_goes_on_in_the_session(scene: Scene) -> None:
    scene.is_resent(a_receipt(bundle=BUNDLE, id="before"))
    scene.is_resent(a_receipt(1))
    scene.is_resent(a_receipt(3))


def test_failed_session_is_remembered_for_its_message_and_device_alone(scene: Scene) -> None:
    scene.is_resent(a_receipt(bundle=BUNDLE, id="before"))
    scene.is_resent(a_receipt(2))
    scene.is_resent(a_receipt(3, id="another"))
    fresh = a_receipt(bundle=BUNDLE, from_=FRIEND_LID, id="before")
    scene.is_resent(fresh, device=FRIEND_LID)
    scene.is_resent(a_receipt(3, from_=FRIEND_LID), device=FRIEND_LID)


@pytest.mark.parametrize("answer", ["refused", "no bundle", "unanswered", "malformed"])
def test_without_a_bundle_the_session_there_is_has_to_do(scene: Scene, answer: str) -> None:
    receipt = a_receipt(2)
    asked = scene.bundle_asked(scene.asks(receipt))
    assert said_of(scene, asked, answer) == [Resend(receipt, ack_of(receipt))]


@pytest.mark.parametrize("answer", ["refused", "no bundle", "unanswered", "malformed"])
@pytest.mark.parametrize(
    "facts", [{"base_key": None}, {"registration_id": 1}], ids=["no session", "other device"]
)
def test_without_bundle_and_session_it_is_only_acknowledged(
    scene: Scene, answer: str, facts: dict[str, object]
) -> None:
    receipt = a_receipt()
    asked = scene.bundle_asked(scene.asks(receipt, **facts))
    assert said_of(scene, asked, answer) == [Send(ack_of(receipt))]
    scene.is_resent(a_receipt())


def said_of(scene: Scene, query_id: str, answer: str) -> list[Command]:
    match answer:
        case "refused":
            return scene.repairs.answered(refused(query_id), scene.now)
        case "no bundle":
            none = bundles_result(query_id, {COMPANION: BundleRefused(404)})
            return scene.repairs.answered(none, scene.now)
        case "malformed":
            with pytest.raises(RemoteProtocolError):
                scene.repairs.answered(result(query_id), scene.now)
    return scene.repairs.unanswered(scene.now)


def test_bundle_is_asked_for_as_the_receipt_names_the_device(scene: Scene) -> None:
    hosted = Jid(FRIEND_LID.user, "hosted.lid", 2)
    asked = scene.bundle_asked(scene.asks(a_receipt(from_=hosted), base_key=None), hosted)
    (order,) = scene.bundle_comes(asked, hosted)
    assert isinstance(order, Resend)
    scene.resent(order)
    # The hour is that of the device, whatever it is called.
    scene.is_resent(a_receipt(2), base_key=OTHER_BASE_KEY)


# --- one at a time ---


def test_requests_wait_for_their_turn(scene: Scene) -> None:
    first, second = a_receipt(id="1"), a_receipt(id="2")
    assert scene.repairs.asked(first, ack_of(first), NOW) == [LookUpResend(first)]
    assert scene.repairs.asked(second, ack_of(second), NOW) == []
    assert scene.repairs.looked_up(known(first, row=None), NOW) == [
        Send(ack_of(first)),
        LookUpResend(second),
    ]


def test_request_too_many_is_only_acknowledged(scene: Scene) -> None:
    receipts = [a_receipt(id=f"M{number}") for number in range(MAX_WAITING + 2)]
    said = [scene.repairs.asked(receipt, ack_of(receipt), NOW) for receipt in receipts]
    # One is under way, and so many wait.
    assert said == [
        [LookUpResend(receipts[0])],
        *[[]] * MAX_WAITING,
        [Send(ack_of(receipts[-1]))],
    ]


def test_lost_connection_lets_requests_go(scene: Scene) -> None:
    first, second = a_receipt(id="1"), a_receipt(id="2")
    scene.repairs.asked(first, ack_of(first), NOW)
    scene.repairs.asked(second, ack_of(second), NOW)
    scene.repairs.offline()
    # What was under way comes too late.
    assert scene.repairs.looked_up(known(first), NOW) == []
    assert scene.repairs.done(Resent((Node("message"),)), NOW) == []
    scene.repairs.online(PAIRED, UNIX_OFFSET_S)
    scene.is_resent(second)


def test_bundle_that_comes_behind_a_lost_connection_is_nothing(scene: Scene) -> None:
    asked = scene.bundle_asked(scene.asks(a_receipt(), base_key=None))
    scene.repairs.offline()
    assert scene.bundle_comes(asked) == []
    assert scene.repairs.unanswered(NOW) == []


# --- who never reads what goes by LID ---


def test_person_whose_device_asks_a_third_time_is_addressed_by_number_from_then_on(
    scene: Scene,
) -> None:
    receipt = a_receipt(3)
    first, *rest = scene.asks(receipt, served=2)
    assert first == AddressByNumber(FRIEND_PN, wanted=True)
    scene.bundle_asked(rest)


@pytest.mark.parametrize(
    ("receipt", "facts"),
    [
        (a_receipt(2), {"served": 1}),
        (a_receipt(3), {"served": 1}),
        (a_receipt(3, from_=OUR_OTHER), {"served": 2, "device": OUR_OTHER}),
        (
            a_receipt(3),
            {"served": 2, "row": replace(BY_LID, participants=str(FRIEND_PN).encode())},
        ),
        (a_receipt(3), {"served": MAX_RESENDS}),
    ],
    ids=["second time", "not encrypted anew", "own device", "went by number", "not entitled"],
)
def test_nobody_else_is_addressed_by_number(
    scene: Scene, receipt: Receipt, facts: dict[str, object]
) -> None:
    assert not any(isinstance(said, AddressByNumber) for said in scene.asks(receipt, **facts))


# --- the phone ---


def an_unread(known_as: str = "a", *, t: int | None = SERVER_T) -> Unread:
    return Unread(MessageName(FRIEND_LID, known_as, from_me=False), known_as, t)


def test_phone_is_asked_five_seconds_later(scene: Scene) -> None:
    unread = an_unread()
    assert scene.repairs.deadline() is None
    scene.repairs.unread(unread, NOW)
    assert scene.repairs.deadline() == NOW + ASK_PHONE_AFTER_S
    assert scene.repairs.tick(NOW + ASK_PHONE_AFTER_S - 0.1) == []
    assert scene.repairs.tick(NOW + ASK_PHONE_AFTER_S) == [AskPhone(unread)]
    assert scene.repairs.deadline() is None
    stanza = Node("message")
    assert scene.repairs.done(Resent((stanza,)), NOW + 6) == [Send(stanza)]


def test_phone_is_not_asked_for_what_could_be_read_meanwhile(scene: Scene) -> None:
    scene.repairs.unread(an_unread("a"), NOW)
    scene.repairs.unread(an_unread("b"), NOW)
    scene.repairs.read("a")
    scene.repairs.read("never heard of")
    assert scene.repairs.tick(NOW + ASK_PHONE_AFTER_S) == [AskPhone(an_unread("b"))]


def test_phone_is_not_asked_for_what_could_be_read_while_it_waited_for_its_turn(
    scene: Scene,
) -> None:
    for known_as in ("a", "b"):
        scene.repairs.unread(an_unread(known_as), NOW)
    assert scene.repairs.tick(NOW + ASK_PHONE_AFTER_S) == [AskPhone(an_unread("a"))]
    scene.repairs.read("b")
    assert scene.repairs.done(Resent(()), NOW + 6) == []


def test_phone_is_asked_once_though_the_message_is_unreadable_again(scene: Scene) -> None:
    scene.repairs.unread(an_unread(), NOW)
    scene.repairs.unread(an_unread(), NOW + 3)
    assert scene.repairs.tick(NOW + ASK_PHONE_AFTER_S) == [AskPhone(an_unread())]
    assert scene.repairs.done(Resent(()), NOW + 6) == []


@pytest.mark.parametrize(("age_s", "asked"), [(MAX_AGE_S, True), (MAX_AGE_S + 1, False)])
def test_phone_is_not_asked_for_old_messages(scene: Scene, age_s: float, asked: bool) -> None:
    t = int(NOW + UNIX_OFFSET_S - age_s)
    scene.repairs.unread(an_unread(t=t), NOW)
    assert (scene.repairs.deadline() is not None) is asked


def test_message_that_grows_too_old_while_the_device_is_away_is_let_go(scene: Scene) -> None:
    scene.repairs.unread(an_unread(), NOW)
    scene.repairs.offline()
    assert scene.repairs.deadline() is None
    assert scene.repairs.tick(NOW + MAX_AGE_S + 1) == []
    scene.repairs.online(PAIRED, UNIX_OFFSET_S)
    assert scene.repairs.tick(NOW + MAX_AGE_S + 1) == []


def test_message_without_a_time_is_asked_for(scene: Scene) -> None:
    scene.repairs.unread(an_unread(t=None), NOW)
    assert scene.repairs.tick(NOW + ASK_PHONE_AFTER_S) == [AskPhone(an_unread(t=None))]


def test_what_the_phone_is_to_be_asked_for_outlives_a_connection(scene: Scene) -> None:
    for known_as in ("a", "b", "c"):
        scene.repairs.unread(an_unread(known_as), NOW)
    scene.repairs.tick(NOW + ASK_PHONE_AFTER_S)
    scene.repairs.unread(an_unread("d"), NOW + ASK_PHONE_AFTER_S)
    scene.repairs.offline()
    scene.repairs.online(PAIRED, UNIX_OFFSET_S)
    # "a" left with the connection, or did not; its sender is asked, too.
    later = NOW + 2 * ASK_PHONE_AFTER_S
    assert scene.repairs.tick(later) == [AskPhone(an_unread("b"))]
    assert scene.repairs.done(Resent(()), later) == [AskPhone(an_unread("c"))]
    assert scene.repairs.done(Resent(()), later) == [AskPhone(an_unread("d"))]


def test_phone_without_session_is_asked_with_its_bundle(scene: Scene) -> None:
    scene.repairs.unread(an_unread(), NOW)
    scene.repairs.tick(NOW + ASK_PHONE_AFTER_S)
    said = scene.repairs.done(Resent((), lacks_session=True), NOW + 6)
    asked = scene.bundle_asked(said, OWN_PN.bare)
    assert scene.bundle_comes(asked, OWN_PN.bare) == [AskPhone(an_unread(), BUNDLE)]
    stanza = Node("message")
    assert scene.repairs.done(Resent((stanza,)), NOW + 7) == [Send(stanza)]


def test_phone_without_session_and_bundle_is_not_asked(scene: Scene) -> None:
    scene.repairs.unread(an_unread(), NOW)
    scene.repairs.tick(NOW + ASK_PHONE_AFTER_S)
    asked = scene.bundle_asked(
        scene.repairs.done(Resent((), lacks_session=True), NOW + 6), OWN_PN.bare
    )
    assert scene.repairs.answered(refused(asked), NOW + 7) == []
    scene.is_resent(a_receipt())


def test_phone_is_not_asked_for_everything_of_a_storm(scene: Scene) -> None:
    for number in range(MAX_WAITING + 10):
        scene.repairs.unread(an_unread(str(number)), NOW)
    assert scene.repairs.waiting == MAX_WAITING
    said, now = scene.repairs.tick(NOW + ASK_PHONE_AFTER_S), NOW + ASK_PHONE_AFTER_S
    asked = 0
    while said:
        asked += 1
        said = scene.repairs.done(Resent(()), now)
    assert asked == MAX_PHONE_REQUESTS_A_MINUTE


# --- whatever comes ---


STEP = st.tuples(
    st.sampled_from(["asks", "unread", "read", "tick", "offline", "online", "answers"]),
    st.integers(1, 6),
    st.booleans(),
)


@given(st.lists(STEP, max_size=60), st.integers(0, 10_000))
@settings(max_examples=200, deadline=None)
def test_every_receipt_is_acknowledged_once_and_one_job_is_under_way(
    steps: list[tuple[str, int, bool]], seed: int
) -> None:
    """Whatever the store knows and the server answers; on one connection."""
    scene = Scene()
    received: list[Node] = []
    acknowledged: list[Node] = []
    pending: list[Command] = []

    def take(commands: list[Command]) -> None:
        for command in commands:
            match command:
                case Send(node=node) if node.tag == "ack":
                    acknowledged.append(node)
                case LookUpResend() | Resend() | AskPhone():
                    pending.append(command)
                case Send(node=node) if node.tag == "iq":
                    pending.append(command)
                case _:
                    pass
        assert len(pending) <= 1, "two jobs under way"

    def perform(lucky: bool) -> None:
        if not pending:
            return
        match pending.pop():
            case LookUpResend(receipt=receipt):
                facts = known(receipt, base_key=BASE_KEY if lucky else None)
                take(scene.repairs.looked_up(facts, scene.now))
            case Resend(ack=ack):
                take(scene.repairs.done(Resent((Node("message"), ack)), scene.now))
            case AskPhone(bundle=bundle):
                lacks = bundle is None and not lucky
                take(scene.repairs.done(Resent((), lacks_session=lacks), scene.now))
            case Send(node=node):
                if lucky:
                    device = prekeys.parse_bundles_query(node)[0]
                    answer = bundles_result(node.required_text("id"), {device: BUNDLE})
                    take(scene.repairs.answered(answer, scene.now))
                else:
                    take(scene.repairs.unanswered(scene.now))

    for what, number, lucky in steps:
        scene.now += number
        match what:
            case "asks":
                receipt = a_receipt(number, id=f"M{seed % 7}")
                ack = Node("ack", {"id": str(len(received))})
                received.append(ack)
                take(scene.repairs.asked(receipt, ack, scene.now))
            case "unread":
                scene.repairs.unread(an_unread(str(number)), scene.now)
            case "read":
                scene.repairs.read(str(number))
            case "tick":
                take(scene.repairs.tick(scene.now))
            case "offline":
                scene.repairs.offline()
                pending.clear()
                received[:] = [ack for ack in received if ack in acknowledged]
            case "online":
                scene.repairs.online(PAIRED, UNIX_OFFSET_S)
            case _:
                perform(lucky)
    while pending:
        perform(lucky=True)
    assert sorted(ack.required_text("id") for ack in acknowledged) == sorted(
        ack.required_text("id") for ack in received
    )
