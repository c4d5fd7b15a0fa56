"""Properties of sessions: any order, loss, repetition, restart; any bytes."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from sitpayd.whatsapp.errors import (
    BadMacError,
    DecryptError,
    DuplicateMessageError,
    LocalProtocolError,
)
from sitpayd.whatsapp.signal.ratchet import Message, parse_message
from sitpayd.whatsapp.signal.record import SessionRecord, State
from sitpayd.whatsapp.signal.session import (
    Encrypted,
    decrypt,
    decrypt_prekey_message,
    parse_prekey_message,
)

from .parties import Party, acquaintances, strangers


@dataclass(frozen=True)
class Letter:
    """A message on its way."""

    to: Party
    encrypted: Encrypted
    plaintext: bytes

    @property
    def message(self) -> Message:
        body = self.encrypted.body
        return parse_message(
            parse_prekey_message(body).message if self.encrypted.kind == "pkmsg" else body
        )

    @property
    def ratchet_key(self) -> bytes:
        return self.message.ratchet_key


def holds(party: Party, ratchet_key: bytes) -> bool:
    """Whether any state of this side still has the chain."""
    if party.record is None:
        return False
    states = [party.record.current, *map(State.from_bytes, party.record.archived)]
    return any(state.ratchet.knows(ratchet_key) for state in states)


SIDES = st.sampled_from([0, 1])
CHOICES = st.integers(0, 1000)


class Conversation(RuleBasedStateMachine):
    """Alice and Bob over a network that loses, repeats and reorders; each step is a restart.

    Fewer steps than archived states, so that only the limit of five chains can make a message
    unreadable: then its chain was seen once and is no longer held.
    """

    @initialize()
    def meet(self) -> None:
        self.parties = strangers()
        self.on_its_way: list[Letter] = []
        self.delivered: list[Letter] = []
        self.seen: set[bytes] = set()
        self.used: set[tuple[bytes, int]] = set()
        self.count = 0

    def post(self, side: int) -> Letter:
        sender, receiver = self.parties[side], self.parties[1 - side]
        if sender.saved is None:
            sender.begin(receiver.bundle())
        self.count += 1
        plaintext = b"%d" % self.count
        letter = Letter(receiver, sender.send(plaintext), plaintext)
        message_key = (letter.ratchet_key, letter.message.counter)
        assert message_key not in self.used
        self.used.add(message_key)
        return letter

    def deliver(self, letter: Letter) -> None:
        before = letter.to.saved
        try:
            assert letter.to.receive(letter.encrypted) == letter.plaintext
        except BadMacError:
            assert letter.ratchet_key in self.seen
            assert not holds(letter.to, letter.ratchet_key)
            assert letter.to.saved == before
        self.seen.add(letter.ratchet_key)
        self.delivered.append(letter)

    @rule(side=SIDES, with_prekey=st.booleans())
    def begin_anew(self, side: int, with_prekey: bool) -> None:
        self.parties[side].begin(self.parties[1 - side].bundle(with_prekey=with_prekey))

    @rule(side=SIDES, burst=st.integers(1, 4))
    def send(self, side: int, burst: int) -> None:
        self.on_its_way += [self.post(side) for _ in range(burst)]

    @precondition(lambda self: self.on_its_way)
    @rule()
    def deliver_the_oldest(self) -> None:
        self.deliver(self.on_its_way.pop(0))

    @precondition(lambda self: self.on_its_way)
    @rule(choice=CHOICES)
    def deliver_any(self, choice: int) -> None:
        self.deliver(self.on_its_way.pop(choice % len(self.on_its_way)))

    @precondition(lambda self: self.on_its_way)
    @rule(choice=CHOICES)
    def lose(self, choice: int) -> None:
        self.on_its_way.pop(choice % len(self.on_its_way))

    @precondition(lambda self: self.on_its_way)
    @rule(choice=CHOICES)
    def crash_before_saving(self, choice: int) -> None:
        """The message is still on its way afterwards, and is read later."""
        letter = self.on_its_way[choice % len(self.on_its_way)]
        before = letter.to.saved
        try:
            assert letter.to.read(letter.encrypted).plaintext == letter.plaintext
        except BadMacError:
            assert not holds(letter.to, letter.ratchet_key)
        assert letter.to.saved == before

    @precondition(lambda self: self.delivered)
    @rule(choice=CHOICES)
    def repeat(self, choice: int) -> None:
        letter = self.delivered[choice % len(self.delivered)]
        before = letter.to.saved
        held = holds(letter.to, letter.ratchet_key)
        with pytest.raises(DuplicateMessageError if held else BadMacError):
            letter.to.receive(letter.encrypted)
        assert letter.to.saved == before

    @precondition(lambda self: any(x.encrypted.kind == "msg" for x in self.on_its_way))
    @rule(choice=CHOICES, bit=CHOICES)
    def damage(self, choice: int, bit: int) -> None:
        letters = [letter for letter in self.on_its_way if letter.encrypted.kind == "msg"]
        letter = letters[choice % len(letters)]
        body = bytearray(letter.encrypted.body)
        body[bit // 8 % len(body)] ^= 1 << bit % 8
        record = letter.to.session
        with pytest.raises(DecryptError):
            decrypt(record, letter.to.identity, bytes(body))
        assert record.to_bytes() == letter.to.saved

    def teardown(self) -> None:
        """Whatever happened: three messages in turn, and both use the same state."""
        for side in (0, 1, 0):
            letter = self.post(side)
            assert letter.to.receive(letter.encrypted) == letter.plaintext
        alice, bob = self.parties
        assert alice.session.current.base_key == bob.session.current.base_key


Conversation.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=38,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestConversation = Conversation.TestCase


# --- Any bytes ---

ALICE, BOB = acquaintances()
NEXT = ALICE.send(b"next")
CAROL = Party(3333)
CAROL.begin(BOB.bundle())
FIRST = CAROL.send(b"first")
(PREKEY,) = BOB.prekeys.values()


@st.composite
def damaged(draw: st.DrawFn, body: bytes) -> bytes:
    """A piece of the body replaced by other bytes, possibly none."""
    start = draw(st.integers(0, len(body)))
    end = draw(st.integers(start, len(body)))
    return body[:start] + draw(st.binary(max_size=8)) + body[end:]


@given(st.binary() | st.binary().map(lambda rest: b"\x33" + rest) | damaged(NEXT.body))
def test_any_bytes_as_message_give_the_text_or_a_decrypt_error(body: bytes) -> None:
    try:
        plaintext = decrypt(BOB.session, BOB.identity, body).plaintext
    except DecryptError:
        return
    assert (body, plaintext) == (NEXT.body, b"next")


@given(st.binary() | st.binary().map(lambda rest: b"\x33" + rest) | damaged(FIRST.body))
def test_any_bytes_as_first_message_give_the_text_or_a_decrypt_error(body: bytes) -> None:
    try:
        message = parse_prekey_message(body)
        plaintext = decrypt_prekey_message(
            None, BOB.identity, BOB.signed_prekey.key_pair, PREKEY, message
        ).plaintext
    except DecryptError:
        return
    assert plaintext == b"first"


@given(st.integers(0, len(NEXT.body) - 1))
def test_truncated_message_is_refused(length: int) -> None:
    with pytest.raises(DecryptError):
        decrypt(BOB.session, BOB.identity, NEXT.body[:length])


@given(st.binary() | damaged(BOB.session.to_bytes()))
def test_any_bytes_at_rest_give_a_record_or_a_local_error(data: bytes) -> None:
    try:
        record = SessionRecord.from_bytes(data)
    except LocalProtocolError:
        return
    assert SessionRecord.from_bytes(record.to_bytes()) == record
