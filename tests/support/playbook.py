"""Playbook: a test of DeviceMachine that reads as a play.

`Playbook().on(Event).expects(Command, ...)`: every event is answered by its exact command list, and
an answer that nobody looked at fails the next line. Ids of queries are random; on the stage they
are called "#1", "#2" and so on, in the order in which they are asked, in both directions. The two
questions of every login for which nothing waits go by what they ask: "#digest", "#props".
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

from sitpayd.actors.commands import Command, Send
from sitpayd.actors.events import Event, Received, Tick
from sitpayd.actors.machine import DeviceMachine
from sitpayd.actors.messages import Message
from sitpayd.actors.pacing import PacingLimits
from sitpayd.actors.phase import Phase
from sitpayd.whatsapp.node import Node

# Where the clock stands when a play begins; any value but zero.
CURTAIN_S = 1000.0
_ASIDES = ("digest", "props")


class Playbook:
    """A machine, a clock that only the play moves, and what the machine said at the last.

    Attributes:
        now: clock seconds.
    """

    def __init__(self, limits: PacingLimits | None = None, *, seed: int = 0) -> None:
        self.machine = DeviceMachine(Random(seed), limits)
        self.now = CURTAIN_S
        self._said: list[Command] = []
        self._names: dict[str, str] = {}
        self._numbered = 0

    def on(self, event: Event | Message) -> Playbook:
        """Hand an event in."""
        assert not self._said, f"nobody expected {self._said}"
        if isinstance(event, Received):
            event = Received(self._real(event.node))
        commands = self.machine.handle(event, self.now)
        self._said = [self._staged(command) for command in commands]
        return self

    def real(self, node: Node) -> Node:
        """The stanza with the ids that were given out, in the place of those on the page."""
        return self._real(node)

    def hears(self, *nodes: Node) -> Playbook:
        """Hand stanzas in."""
        for node in nodes:
            self.on(Received(node))
        return self

    def expects(self, *commands: Command) -> Playbook:
        """The answer to the last event, all of it, in order."""
        said, self._said = self._said, []
        assert said == list(commands)
        return self

    def expects_nothing(self) -> Playbook:
        """The last event needs no answer."""
        return self.expects()

    def said(self) -> list[Command]:
        """Take the last answer, to look at what cannot be foretold."""
        said, self._said = self._said, []
        return said

    def later(self, seconds: float) -> Playbook:
        """Let time pass in which nothing happens."""
        self.now += seconds
        return self

    def tick(self) -> Playbook:
        """Go on to the machine's deadline and tell it."""
        deadline = self.machine.deadline()
        assert deadline is not None
        self.now = max(self.now, deadline)
        return self.on(Tick())

    def stands(self, phase: Phase, reason: str | None = None) -> Playbook:
        """Where the device stands is told outside."""
        assert (self.machine.phase, self.machine.reason) == (phase, reason)
        return self

    @property
    def waits_s(self) -> float | None:
        """Seconds until the machine's deadline; None: it waits for nothing."""
        deadline = self.machine.deadline()
        return None if deadline is None else deadline - self.now

    def _staged(self, command: Command) -> Command:
        if not isinstance(command, Send):
            return command
        node = command.node
        if node.tag != "iq" or node.text("type") not in ("get", "set"):
            return command
        real = node.required_text("id")
        if real not in self._names:
            self._names[real] = self._new_name(node)
        name = self._names[real]
        return Send(replace(_with_id(node, name), content=_without_sid(node)))

    def _new_name(self, node: Node) -> str:
        for aside in _ASIDES:
            if node.child(aside) is not None:
                return f"#{aside}"
        self._numbered += 1
        return f"#{self._numbered}"

    def _real(self, node: Node) -> Node:
        staged = {name: real for real, name in self._names.items()}
        real = staged.get(node.text("id") or "")
        return node if real is None else _with_id(node, real)


def _with_id(node: Node, name: str) -> Node:
    return replace(node, attrs={**node.attrs, "id": name})


def _without_sid(node: Node) -> tuple[Node, ...] | None:
    """The content, in which a usync names itself by the prefix of the query's id."""
    return (
        tuple(
            replace(child, attrs={**child.attrs, "sid": "sid"}) if child.tag == "usync" else child
            for child in node.children
        )
        or None
    )
