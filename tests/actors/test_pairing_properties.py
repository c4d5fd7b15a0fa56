"""T-19: no old code comes back, whatever happens in which order.

PairingMachine between people who ask and go away, a server that sends refs, a phone that scans or
types, and a clock.
"""

from __future__ import annotations

from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sitpayd.actors.commands import Command, HideQr, MakeCode, Send, ShowCode, ShowQr
from sitpayd.actors.events import CodeMade
from sitpayd.actors.messages import PairingWish
from sitpayd.actors.pairing import (
    FIRST_OF_LONG_LIST_S,
    MAX_FORCED_ROUNDS,
    MAX_ROUNDS,
    NEXT_REF_S,
    ROUNDS_WINDOW_S,
    CodeErrand,
    PairingMachine,
)
from sitpayd.actors.queries import Queries
from sitpayd.whatsapp.keys import DeviceKeys, KeyPair
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import pairing_code
from sitpayd.whatsapp.stanzas.pairing import parse_qr_text
from sitpayd.whatsapp.stanzas.pairing_code import Agreed, CompanionFinish, PrimaryHello

PHONE = KeyPair.generate()
MAX_REFS = 7
NUMBERS = ("4915111111111", "4915122222222")
# Made once: each takes a tenth of a second, and what is in them does not matter here.
OFFERS = [pairing_code.offer_of(code, PHONE) for code in ("ABCD1234", "WXYZ9876")]


class Rounds(RuleBasedStateMachine):
    """One device's rounds, and what a person sees of them.

    Attributes:
        qr: text and expiry of the QR code on the screen; code: of the pairing code.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.queries: Queries[object] = Queries()
        self.pairing = PairingMachine(self.queries)
        self.keys = DeviceKeys.generate()
        self.refs_made = 0
        self.begun: list[tuple[float, bool]] = []
        self.waits = self.forced = False
        self.qr: tuple[str, float] | None = None
        self.code: tuple[str, float] | None = None
        self.seen: set[str] = set()
        self.making = False
        self.asked: list[Node] = []
        self.hellos = 0

    def see(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case ShowQr(text, seconds):
                    assert text not in self.seen, "a QR code was shown twice"
                    self.seen.add(text)
                    self.qr = (text, self.now + seconds)
                case ShowCode(text, _, seconds):
                    assert seconds <= FIRST_OF_LONG_LIST_S + (MAX_REFS - 1) * NEXT_REF_S + 1e-6
                    self.code = (text, self.now + seconds)
                case HideQr():
                    self.qr = self.code = None
                case MakeCode():
                    self.making = True

    @precondition(lambda self: self.pairing.over and not self.waits)
    @rule(forced=st.booleans(), phone=st.sampled_from([None, *NUMBERS]))
    def somebody_asks(self, forced: bool, phone: str | None) -> None:
        wish = PairingWish(forced=forced, phone=phone)
        if self.pairing.bar(wish, self.now) is None:
            self.pairing.begin(wish)
            self.keys = DeviceKeys.generate()
            self.waits, self.forced = True, forced

    @precondition(lambda self: self.waits)
    @rule(count=st.integers(1, MAX_REFS))
    def refs_come(self, count: int) -> None:
        refs = [f"2@{self.refs_made + number}" for number in range(count)]
        self.refs_made += count
        self.begun.append((self.now, self.forced))
        self.waits = False
        self.see(self.pairing.refs(refs, self.keys, self.now))

    @precondition(lambda self: not self.pairing.over)
    @rule(phone=st.sampled_from(NUMBERS))
    def somebody_wants_a_code_as_well(self, phone: str) -> None:
        wish = PairingWish(forced=True, phone=phone)
        if not self.pairing.needs_its_own(wish, self.now):
            self.see(self.pairing.join(wish))

    @precondition(lambda self: self.making)
    @rule(offer=st.sampled_from(OFFERS))
    def code_is_made(self, offer: pairing_code.CodeOffer) -> None:
        self.making = False
        made = CodeMade(offer, "Chrome (Mac OS)")
        questions = self.pairing.made(made, self.keys, self.now)
        self.asked += [question.node for question in questions if isinstance(question, Send)]

    @precondition(lambda self: self.asked)
    @rule()
    def server_answers(self) -> None:
        query = self.asked.pop(0)
        self.hellos += 1
        answer = pairing_code.ref_answer(query, b"ref %d" % self.hellos)
        self.see(self.pairing.answered(CodeErrand.HELLO, answer, self.now))

    @precondition(lambda self: self.hellos)
    @rule(older=st.sampled_from([0, 0, 1]))
    def somebody_types(self, older: int) -> None:
        ref = b"ref %d" % (self.hellos - older)
        hello = PrimaryHello(ref, OFFERS[0].wrapped, PHONE.public_key)
        for _ in self.pairing.typed(hello):
            finish = CompanionFinish(b"b" * 156, PHONE.public_key, hello.ref)
            self.keys = replace(self.keys, adv_secret=b"s" * 32)
            self.see(self.pairing.agreed(Agreed(finish, b"s" * 32, PHONE.public_key), self.now))

    @rule()
    def it_is_linked_or_lost(self) -> None:
        self.pairing.end()
        self.waits, self.making, self.asked = False, False, []
        self.see([HideQr()])

    @rule(seconds=st.floats(0.0, 300.0) | st.just(ROUNDS_WINDOW_S - 30.0))
    def time_passes(self, seconds: float) -> None:
        until = self.now + seconds
        while (deadline := self.pairing.deadline()) is not None and deadline <= until:
            self.now = deadline
            self.see(self.pairing.tick(deadline))
            if self.pairing.over:
                # As the machine does.
                self.it_is_linked_or_lost()
        self.now = until

    @invariant()
    def code_on_the_screen_belongs_to_a_round_under_way(self) -> None:
        """T-19: after a link or the end of its time nothing of a code is left."""
        if self.pairing.over:
            assert (self.qr, self.code) == (None, None)
        for shown in (self.qr, self.code):
            assert shown is None or shown[1] >= self.now, "an expired code on the screen"

    @invariant()
    def qr_code_on_the_screen_holds_the_secret_of_the_moment(self) -> None:
        """T-19: a code from before a typed one is void."""
        assert self.qr is None or parse_qr_text(self.qr[0]).adv_secret == self.keys.adv_secret

    @invariant()
    def rounds_are_bounded(self) -> None:
        for forced, most in ((False, MAX_ROUNDS), (True, MAX_FORCED_ROUNDS)):
            recent = [
                at
                for at, was_forced in self.begun
                if was_forced is forced and self.now - at < ROUNDS_WINDOW_S
            ]
            assert len(recent) <= most

    @invariant()
    def round_ends(self) -> None:
        deadline = self.pairing.deadline()
        assert deadline is None or self.now <= deadline <= self.now + 60.0


Rounds.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestRounds = Rounds.TestCase
