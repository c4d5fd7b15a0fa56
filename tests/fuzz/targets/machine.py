"""A whole device's decisions: a server that says anything between things that are right.

The device lives in the world of `tests/actors/test_machine_properties.py`, whose promises are the
oracle. An input is a list of turns (`turns.py`): how many right things happen first, then a stanza.
A stanza with the id `#` answers the oldest open question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Final

from sitpayd.actors.commands import Command, Send
from sitpayd.actors.events import Event
from sitpayd.actors.messages import Message
from sitpayd.whatsapp.codec import decode, encode
from sitpayd.whatsapp.errors import RemoteProtocolError
from sitpayd.whatsapp.node import Node
from tests.fuzz import seeds, trees, turns
from tests.fuzz.mutators import change
from tests.fuzz.people import steady
from tests.fuzz.target import Outcome, Target

with steady("machine"):
    # Their keys are made when they are first looked at.
    from tests.actors import builders
    from tests.actors.test_machine_properties import World, _answered

# What right things make of a device: linked, connected, with a message on its way.
_STEPS: Final = 16


class _Device(World):
    """A device in its world; what it says must be what can be sent."""

    def perform(self, command: Command) -> Event | Message | None:
        if isinstance(command, Send):
            encode(command.node)
        return super().perform(command)


class Machine(Target):
    """`actors.machine` and all pure files below it."""

    name = "machine"
    summary = "no stanza brings a device down or makes it break a promise"
    base_s = 0.2
    per_byte_s = 100e-6

    def seeds(self) -> Sequence[bytes]:
        stanzas = [decode(seed) for seed in seeds.stanzas()]
        answers = _answers()
        said = [
            *(bytes((steps,)) + encode(node) for steps in (0, 3, 9) for node in stanzas),
            *(bytes((steps,)) + encode(node) for steps in range(14) for node in answers),
        ]
        return [turns.joined([turn]) for turn in said]

    def mutate(self, rng: Random, data: bytes, other: bytes) -> bytes:
        return turns.changed(rng, data, other, _changed_turn)

    def check(self, data: bytes) -> Sequence[Outcome]:
        device = _Device()
        device.begin(builders.started(), 0, None)
        outcomes: list[Outcome] = []
        for turn in turns.turns_of(data):
            for _ in range(turn[0] % _STEPS):
                device.next_good_thing()
            if not device.open:
                continue
            try:
                node = decode(turn[1:])
            except RemoteProtocolError:
                continue
            before = device.machine.phase
            device.hear(_answering(device, node))
            outcomes.append((before, device.machine.phase, device.machine.reason, node.tag))
        return outcomes


def _answers() -> list[Node]:
    """What a kind server answers to what a device asks on its way to a message."""
    device = _Device()
    device.begin(builders.started(), 0, None)
    answers = []
    for _ in range(30):
        answers += [_renamed(_answered(query, free=True), "#") for query in device.asked]
        device.next_good_thing()
    return list({encode(answer): answer for answer in answers}.values())


def _renamed(node: Node, id: str) -> Node:
    return replace(node, attrs={**node.attrs, "id": id})


def _answering(device: World, node: Node) -> Node:
    if node.text("id") != "#" or not device.asked:
        return node
    return _renamed(node, device.asked.pop(0).required_text("id"))


def _changed_turn(rng: Random, turn: bytes, donor: bytes) -> bytes:
    if rng.random() < 0.15:
        return bytes((int(rng.random() * _STEPS),)) + turn[1:]
    stanza = trees.changed(rng, turn[1:], donor[1:]) or change(rng, turn[1:], donor[1:])
    return turn[:1] + stanza
