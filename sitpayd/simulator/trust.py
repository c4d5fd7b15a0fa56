"""Trust: privacy tokens, and what an account may not do for want of them.

Who has given whom a token, what a message proves with one, and whether an account is locked or has
used up its quota of new chats. How the real server decides that is not known; this one goes by the
rules its clients follow: a message proves trust with a valid token of the recipient, or with the
secret that the phone gave its companions. Whoever wrote to somebody has no need of proof from it.
"""

from __future__ import annotations

import secrets
import time
from typing import Final

from sitpayd.whatsapp.crypto import equal
from sitpayd.whatsapp.stanzas import mex
from sitpayd.whatsapp.stanzas.message import OutgoingMessage
from sitpayd.whatsapp.stanzas.privacy import GivenToken, cstoken, ends

from .accounts import PHONE, Account, Device

TOKEN_LEN: Final = 16
# Error codes of message acks.
REACHOUT_LOCKED: Final = 463
NEW_CHAT_LIMIT: Final = 475
NO_TOKEN_HERE: Final = 479
# A client's clock may be ahead by this, seconds.
_MAX_AHEAD_S: Final = 24 * 3600


class Trust:
    """The tokens of one server, and what was written between whom."""

    def __init__(self) -> None:
        self._given: dict[tuple[Account, Account], GivenToken] = {}
        # Those that gave way to others: a client may not have heard of it yet.
        self._earlier: dict[tuple[Account, Account], set[bytes]] = {}
        self._wrote: set[tuple[Account, Account]] = set()

    def give(self, giver: Account, to: Account, t: int) -> GivenToken:
        """Let a person have another one's token of this time, UTC seconds."""
        before = self._given.get((giver, to))
        if before is not None:
            self._earlier.setdefault((giver, to), set()).add(before.token)
        given = self._given[giver, to] = GivenToken(secrets.token_bytes(TOKEN_LEN), t)
        return given

    def given(self, giver: Account, to: Account) -> GivenToken | None:
        """The token that a person has of another one, valid or not."""
        return self._given.get((giver, to))

    def wrote(self, sender: Account, to: Account) -> None:
        """Note that a message was taken."""
        self._wrote.add((sender, to))

    def has_written(self, sender: Account, to: Account) -> bool:
        """Whether a message of the one to the other was taken."""
        return (sender, to) in self._wrote

    # --- what a message proves ---

    def fault(
        self, sender: Device, recipient: Account, sent: OutgoingMessage, *, is_fanout: bool
    ) -> str | None:
        """What is wrong with the proof that a message carries; None: nothing."""
        proof = sent.proof
        if proof is None or (recipient is sender.account and sent.category != "peer"):
            return None  # unmodified whatsmeow puts one into notes to oneself
        if sent.category == "peer" or not is_fanout:
            return f"<{proof.kind}> where it does not belong"
        if self._is_genuine(sender.account, recipient, sent):
            return None
        return f"<{proof.kind}> that proves nothing"

    def is_proved(self, sender: Account, recipient: Account, sent: OutgoingMessage) -> bool:
        """Whether a message proves that its sender is no stranger to its recipient."""
        proof = sent.proof
        if proof is None or not self._is_genuine(sender, recipient, sent):
            return False
        given = self.given(recipient, sender)
        return proof.kind == "cstoken" or (given is not None and time.time() < ends(given.t))

    def _is_genuine(self, sender: Account, recipient: Account, sent: OutgoingMessage) -> bool:
        proof = sent.proof
        assert proof is not None
        if proof.kind == "cstoken":
            return equal(proof.data, cstoken(sender.nct_salt, recipient.lid))
        given = self.given(recipient, sender)
        earlier = self._earlier.get((recipient, sender), set())
        return given is not None and proof.data in {given.token, *earlier}

    def refusal(
        self, sender: Device, recipient: Account, sent: OutgoingMessage, demanded: int | None
    ) -> int | None:
        """The code that a message is refused with; None: it is taken.

        Args:
            demanded: the code for a message to a stranger without proof; None: none is demanded.
        """
        account = sender.account
        if sender.number == PHONE or recipient is account or sent.category == "peer":
            return None
        if self.has_written(recipient, account):
            return None
        is_proved = self.is_proved(account, recipient, sent)
        if is_proved and sent.proof is not None and sent.proof.kind == "tctoken":
            return None
        # Beyond that a cstoken does not go. Source: Baileys issue 2441.
        if account.is_locked:
            return REACHOUT_LOCKED
        if account.is_capped and not self.has_written(account, recipient):
            return NEW_CHAT_LIMIT
        return None if is_proved else demanded

    @staticmethod
    def is_giveable(t: int) -> bool:
        """Whether a client may give its token this time."""
        return 0 < t <= time.time() + _MAX_AHEAD_S


def lock_of(account: Account) -> mex.ReachoutTimelock | None:
    """What the server says about an account's lock; None: it never had one."""
    if account.locked_until is None:
        return None
    return mex.ReachoutTimelock(account.is_locked, int(account.locked_until))


def cap_of(account: Account) -> mex.NewChatCap:
    """What the server says about an account's quota of new chats."""
    until = account.capped_until
    return mex.NewChatCap(account.is_capped, None if until is None else int(until))
