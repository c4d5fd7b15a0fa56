"""Two records of one device, under its number and under its LID, become one."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sitpayd.whatsapp.errors import BadMacError, UnknownPreKeyError
from sitpayd.whatsapp.keys import KeyPair
from sitpayd.whatsapp.signal.record import SessionRecord, State
from sitpayd.whatsapp.signal.session import MAX_ARCHIVED, Encrypted, merge

from .parties import Party, acquaintances, strangers


def twin(party: Party) -> Party:
    """The same side, with another memory."""
    other = Party(party.registration_id, party.identity)
    other.signed_prekey, other.prekeys = party.signed_prekey, party.prekeys
    return other


def base_keys(record: SessionRecord) -> list[bytes]:
    return [record.current.base_key, *(State.from_bytes(a).base_key for a in record.archived)]


def test_record_used_last_stays_current_and_the_other_is_archived() -> None:
    (by_lid, _), (by_number, _) = acquaintances(), acquaintances()
    other = replace(by_number.session.current, remote_identity=by_lid.session.remote_identity)
    merged = merge(by_lid.session, SessionRecord(other))
    assert merged == SessionRecord(by_lid.session.current, (other.to_bytes(),))


def test_states_of_another_identity_are_dropped() -> None:
    (by_lid, _), (by_number, _) = acquaintances(), acquaintances()
    assert merge(by_lid.session, by_number.session) == by_lid.session


def test_state_that_stands_in_both_is_kept_once() -> None:
    alice, bob = acquaintances()
    before = alice.session
    alice.begin(bob.bundle())
    assert merge(alice.session, before) == alice.session
    assert merge(before, before) == before


def test_states_that_went_on_apart_from_one_beginning_are_kept_both() -> None:
    """Only the one that the peer follows decrypts what it writes next."""
    alice, bob = strangers()
    by_lid = twin(bob)
    alice.begin(bob.bundle(with_prekey=False))
    bob.receive(alice.send(b"by number"))
    by_lid.receive(alice.send(b"by LID"))
    by_lid.send(b"lost")
    answer = bob.send(b"answer")
    alice.receive(answer)
    bob.saved = merge(by_lid.session, bob.session).to_bytes()
    assert len(bob.session.archived) == 1
    assert bob.receive(alice.send(b"onwards")) == b"onwards"


def test_no_more_states_are_kept_than_a_record_has_room_for() -> None:
    alice, bob = strangers()
    by_lid = twin(alice)
    for _ in range(MAX_ARCHIVED - 1):
        alice.begin(bob.bundle(with_prekey=False))
        by_lid.begin(bob.bundle(with_prekey=False))
    merged = merge(by_lid.session, alice.session)
    wanted = base_keys(by_lid.session) + base_keys(alice.session)
    assert base_keys(merged) == wanted[: 1 + MAX_ARCHIVED]


# --- Mid-conversation ---


@dataclass(frozen=True)
class Letter:
    """A message of the peer's that is on its way."""

    encrypted: Encrypted
    plaintext: bytes


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["they begin", "we begin", "they write", "we write", "one arrives"]),
        st.booleans(),
        st.integers(0, 1000),
    ),
    min_size=4,
    max_size=24,
)


class Correspondence:
    """We keep a record under each name of the peer; the peer has one of us.

    That is how it comes about: for the peer we are one, and its messages reach us now under this
    name of it, now under that.
    """

    def __init__(self) -> None:
        self.peer, number = strangers()
        self.ours = {False: number, True: twin(number)}
        self.last_used = False
        self.on_its_way: list[Letter] = []
        self.count = 0

    def step(self, what: str, by_lid: bool, choice: int) -> None:
        us = self.ours[by_lid]
        self.count += 1
        plaintext = b"%d" % self.count
        match what:
            case "they begin":
                bundle = us.bundle()
                self.ours[not by_lid].handed_out = us.handed_out
                self.peer.begin(bundle)
            case "we begin":
                us.begin(self.peer.bundle())
            case "they write" if self.peer.saved is not None:
                self.on_its_way.append(Letter(self.peer.send(plaintext), plaintext))
            case "we write" if us.saved is not None:
                self.last_used = by_lid
                self.peer.receive(us.send(plaintext))
            case "one arrives" if self.on_its_way:
                letter = self.on_its_way[choice % len(self.on_its_way)]
                if self.arrives(us, letter):
                    self.last_used = by_lid
                    self.on_its_way.remove(letter)

    def arrives(self, us: Party, letter: Letter) -> bool:
        """Whether it can be read under this name; if not, it is asked for again and waits."""
        if letter.encrypted.kind == "msg" and us.saved is None:
            return False
        try:
            assert us.receive(letter.encrypted) == letter.plaintext
        except (BadMacError, UnknownPreKeyError):
            return False
        return True

    def merged(self) -> Party:
        recent, other = self.ours[self.last_used], self.ours[not self.last_used]
        if recent.saved is None:
            return other
        if other.saved is not None:
            recent.saved = merge(recent.session, other.session).to_bytes()
        return recent


@given(STEPS)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_is_on_its_way_is_read_behind_the_merge(
    steps: list[tuple[str, bool, int]],
) -> None:
    play = Correspondence()
    for step in steps:
        play.step(*step)
    us = play.merged()
    for letter in play.on_its_way:
        assert us.receive(letter.encrypted) == letter.plaintext
    if us.saved is None:
        return
    # And it goes on, both ways, in one state.
    assert play.peer.receive(us.send(b"here")) == b"here"
    assert us.receive(play.peer.send(b"there")) == b"there"
    assert us.session.current.base_key == play.peer.session.current.base_key


def test_identity_of_the_record_used_last_is_the_one_that_counts() -> None:
    (by_lid, _), (by_number, _) = acquaintances(), acquaintances()
    moved = replace(by_number, identity=KeyPair.generate())
    assert merge(moved.session, by_lid.session).remote_identity == moved.session.remote_identity
