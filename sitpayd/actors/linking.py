"""Linking: what the server says while a device is being linked, and what follows. Pure.

The codes and their times are pairing.py. Here stands what ends a round: the phone's proofs, which
are verified before anything is confirmed, and what forbids that this account is linked at all.

Source: whatsmeow pair.go.
"""

from __future__ import annotations

from dataclasses import dataclass

from sitpayd.actors.commands import Command, HideQr, SaveIdentity, Send
from sitpayd.actors.failures import Verdict
from sitpayd.actors.pairing import PairingMachine
from sitpayd.actors.phase import Phase
from sitpayd.whatsapp.errors import PairingError, RemoteProtocolError
from sitpayd.whatsapp.keys import DeviceKeys
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas import ib, notification, pairing, pairing_code
from sitpayd.whatsapp.stanzas.pairing import PairedIdentity


@dataclass(frozen=True, slots=True)
class Linked:
    """The phone has linked the device; `commands` make it last, in this order."""

    paired: PairedIdentity
    commands: tuple[Command, ...]


@dataclass(frozen=True, slots=True)
class Over:
    """The round is over: why, and what is still said before the connection ends."""

    verdict: Verdict
    last: tuple[Command, ...] = ()


def is_about_linking(node: Node) -> bool:
    """Whether this request of the server has to do with the linking of a device."""
    return any(node.child(tag) is not None for tag in ("pair-device", "pair-success"))


def link(node: Node, keys: DeviceKeys, codes: PairingMachine) -> Linked | Over:
    """Verify a `pair-success`.

    Raises:
        RemoteProtocolError: If nothing can be answered to it.
    """
    try:
        paired, reply = pairing.accept_pair_success(node, keys)
        codes.check(paired)
    except PairingError as error:
        refusal = Send(pairing.pairing_error(node, error))
        return Over(Verdict(Phase.UNPAIRED, "pairing_refused"), (refusal,))
    if not codes.may_link(paired.jid.user):
        # As whatsmeow refuses for its application: PrePairCallback.
        refusal = Send(pairing.pairing_error(node, PairingError(500, "internal-error")))
        return Over(Verdict(Phase.ACTION_REQUIRED, "other_number"), (refusal,))
    # After SaveIdentity: a confirmed device that we do not remember is lost for good.
    return Linked(paired, (HideQr(), SaveIdentity(paired), Send(reply)))


def heard(node: Node, codes: PairingMachine) -> list[Command] | Over:
    """Take what server and phone say during a round, besides `pair-success`."""
    try:
        if node.tag == "notification":
            match notification.parse_notification(node):
                case notification.OtherNotification(type=pairing_code.NOTIFICATION_TYPE):
                    return codes.typed(pairing_code.parse_primary_hello(node))
                case notification.PasskeyRequested():
                    return Over(Verdict(Phase.ACTION_REQUIRED, "passkey"))
        elif node.tag == "ib" and ib.DowngradeWebClient() in ib.parse_ib(node):
            return Over(Verdict(Phase.ACTION_REQUIRED, "no_multi_device"))
    except RemoteProtocolError:
        pass  # it was acknowledged; nothing can be made of it
    return []
