"""LinkingMachine: how a device gets keys and an account, besides the showing of codes. Pure.

The codes and their times are pairing.py. Here stands what ends a round: the phone's proofs, which
are verified before anything is confirmed, and what forbids that this account is linked at all. What
an end means for the device's phase is machine.py.

Source: whatsmeow pair.go.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sitpayd.actors.commands import Command, HideQr, SaveIdentity, Send
from sitpayd.actors.events import CodeAgreed, CodeMade, Started
from sitpayd.actors.failures import Verdict, verdict_of_code
from sitpayd.actors.pairing import CodeErrand, PairingMachine
from sitpayd.actors.phase import Phase
from sitpayd.actors.queries import Queries
from sitpayd.whatsapp.errors import PairingError, RemoteProtocolError
from sitpayd.whatsapp.keys import DeviceKeys
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import ib, iq, notification, pairing, pairing_code
from sitpayd.whatsapp.stanzas.pairing import PairedIdentity


@dataclass(frozen=True, slots=True)
class Linked:
    """The phone has linked the device.

    Attributes:
        commands: make it last, in this order.
        to_another: the number is another one than before.
    """

    commands: tuple[Command, ...]
    to_another: bool


@dataclass(frozen=True, slots=True)
class Over:
    """The round is over: why, and what is still said before the connection ends."""

    verdict: Verdict
    last: tuple[Command, ...] = ()


# What follows while a round is under way.
Outcome = list[Command] | Linked | Over


class LinkingMachine:
    """The linking of one device, again and again.

    Args:
        queries: of the connection; purposes asked for here are `CodeErrand`s.

    Attributes:
        codes: the rounds.
        keys: None: none were made yet.
        paired: the identity of the linked account; None: not linked.
    """

    __slots__ = ("codes", "keys", "paired")

    def __init__(self, queries: Queries[object]) -> None:
        self.codes = PairingMachine(queries)
        self.keys: DeviceKeys | None = None
        self.paired: PairedIdentity | None = None

    def restore(self, event: Started) -> None:
        """Take over what earlier lives left."""
        self.keys, self.paired = event.keys, event.paired
        self.codes.first_number = event.phone

    def anew(self, keys: DeviceKeys) -> None:
        """Fresh keys are saved: whatever belonged to the old ones is gone."""
        self.keys, self.paired = keys, None

    # --- while a round is under way ---

    def asked(self, node: Node, now: float) -> Outcome | None:
        """Take a request of the server; None: it has nothing to do with linking.

        Raises:
            RemoteProtocolError: If it is malformed and cannot be answered.
        """
        assert self.keys is not None
        if node.child("pair-device") is not None:
            refs = pairing.parse_pair_device(node)
            return [Send(iq.result(node)), *self.codes.refs(refs, self.keys, now)]
        return self._link(node, self.keys) if node.child("pair-success") is not None else None

    def heard(self, node: Node) -> Outcome:
        """Take what server and phone say, besides requests."""
        try:
            if node.tag == "notification":
                match notification.parse_notification(node):
                    case notification.OtherNotification(type=pairing_code.NOTIFICATION_TYPE):
                        return self.codes.typed(pairing_code.parse_primary_hello(node))
                    case notification.PasskeyRequested():
                        return Over(Verdict(Phase.ACTION_REQUIRED, "passkey"))
            elif node.tag == "ib" and ib.DowngradeWebClient() in ib.parse_ib(node):
                return Over(Verdict(Phase.ACTION_REQUIRED, "no_multi_device"))
        except RemoteProtocolError:
            pass  # it was acknowledged; nothing can be made of it
        return []

    def made(self, event: CodeMade, now: float) -> list[Command]:
        """Tell the server of a pairing code; one for an older round is dropped."""
        return self.codes.made(event, self.keys, now)

    def agreed(self, event: CodeAgreed, now: float) -> Outcome:
        """A typed code gave a new secret, or the phone's keys are unusable."""
        if event.agreed is None:
            return Over(Verdict(Phase.UNPAIRED, "pairing_refused"))
        assert self.keys is not None
        self.keys = replace(self.keys, adv_secret=event.agreed.adv_secret)
        return self.codes.agreed(event.agreed, now)

    def answered(self, errand: CodeErrand, node: Node, now: float) -> Outcome:
        """Take the server's answer about a pairing code.

        Raises:
            RemoteProtocolError: If it is malformed; the question counts as unanswered.
        """
        error = iq.parse_iq_error(node)
        if error is not None:
            return Over(verdict_of_code(error))
        return self.codes.answered(errand, node, now)

    def unanswered(self) -> Over:
        """No answer about a pairing code came, or none that can be read."""
        return Over(verdict_of_code(None))

    def tick(self, now: float) -> Outcome:
        """Show the next code, if one is due; without one the round is over."""
        if self.codes.over:
            return []  # its refs have not come yet
        commands = self.codes.tick(now)
        return Over(Verdict(Phase.UNPAIRED, self.codes.lapsed)) if self.codes.over else commands

    def _link(self, node: Node, keys: DeviceKeys) -> Linked | Over:
        """Verify a `pair-success`."""
        try:
            paired, reply = pairing.accept_pair_success(node, keys)
            self.codes.check(paired)
        except PairingError as error:
            refusal = Send(pairing.pairing_error(node, error))
            return Over(Verdict(Phase.UNPAIRED, "pairing_refused"), (refusal,))
        if not self.codes.may_link(paired.jid.user):
            # As whatsmeow refuses for its application: PrePairCallback.
            refusal = Send(pairing.pairing_error(node, PairingError(500, "internal-error")))
            return Over(Verdict(Phase.ACTION_REQUIRED, "other_number"), (refusal,))
        to_another = paired.jid.user != self.codes.first_number
        self.paired, self.codes.first_number = paired, paired.jid.user
        self.codes.end()
        # After SaveIdentity: a confirmed device that we do not remember is lost for good.
        return Linked((HideQr(), SaveIdentity(paired), Send(reply)), to_another)


def is_about_linking(node: Node) -> bool:
    """Whether this request of the server has to do with the linking of a device."""
    return any(node.child(tag) is not None for tag in ("pair-device", "pair-success"))
