from __future__ import annotations

from sitpayd.actors.commands import ShowQr
from sitpayd.actors.pairing import MAX_ROUNDS, ROUNDS_WINDOW_S, PairingMachine
from sitpayd.whatsapp.stanzas.pairing import qr_text
from tests.actors.builders import KEYS, REFS


def shown(ref: str, seconds: float) -> list[ShowQr]:
    return [ShowQr(qr_text(ref, KEYS), seconds)]


def test_first_of_six_refs_is_shown_for_a_minute() -> None:
    pairing = PairingMachine()
    assert pairing.refs(REFS, KEYS, 100.0) == shown("ref-1", 60.0)
    assert pairing.deadline() == 160.0
    assert not pairing.over


def test_first_of_fewer_refs_is_shown_for_twenty_seconds() -> None:
    pairing = PairingMachine()
    assert pairing.refs(REFS[:5], KEYS, 100.0) == shown("ref-1", 20.0)


def test_code_is_not_changed_before_its_time() -> None:
    pairing = PairingMachine()
    pairing.refs(REFS, KEYS, 100.0)
    assert pairing.tick(159.9) == []
    assert pairing.tick(160.0) == shown("ref-2", 20.0)


def test_nothing_is_shown_when_the_refs_are_used_up() -> None:
    pairing = PairingMachine()
    pairing.refs(["only"], KEYS, 100.0)
    assert pairing.tick(120.0) == []
    assert pairing.over
    assert pairing.deadline() is None
    assert pairing.tick(140.0) == []


def test_ended_round_shows_nothing_more() -> None:
    pairing = PairingMachine()
    pairing.refs(REFS, KEYS, 100.0)
    pairing.end()
    assert pairing.over
    assert pairing.tick(1000.0) == []


def test_three_rounds_may_begin_within_an_hour() -> None:
    pairing = PairingMachine()
    for minute in range(MAX_ROUNDS):
        assert pairing.may_begin(60.0 * minute)
        pairing.begin(60.0 * minute)
    assert not pairing.may_begin(ROUNDS_WINDOW_S - 1.0)
    assert pairing.may_begin(ROUNDS_WINDOW_S)
    pairing.begin(ROUNDS_WINDOW_S)
    assert not pairing.may_begin(ROUNDS_WINDOW_S + 59.0)
    assert pairing.may_begin(ROUNDS_WINDOW_S + 60.0)
