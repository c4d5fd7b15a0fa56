"""Contacts: what is known of people for one device, between its machine and the database.

Whose privacy token goes into a message, who has given us one, who is owed ours. A few answers are
at hand, since nearly every message asks; all of them are forgotten whenever anything changes. This
file decides nothing and knows no socket. The Signal sessions are shelf.py.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from sitpayd.actors.commands import KeepToken, NoteGiven
from sitpayd.actors.events import Answer, TokenOwed
from sitpayd.storage import people, sessions
from sitpayd.storage.account import fact
from sitpayd.storage.contacts import PN_SUFFIX
from sitpayd.storage.database import Database, Unit
from sitpayd.storage.people import Token
from sitpayd.storage.records import utc_now
from sitpayd.whatsapp.jid import Jid, lid, pn
from sitpayd.whatsapp.stanzas.privacy import Proof, bucket_start, cstoken, ends

# Name of the fact that stands in for tokens of people who gave none.
NCT_SALT: Final = "nct_salt"
# People per device whose tokens are at hand, or who are known to be owed nothing.
MAX_PEOPLE: Final = 64


class Contacts:
    """The people of one device."""

    def __init__(self, database: Database, device_id: int) -> None:
        self._database = database
        self._device_id = device_id
        self._proofs: OrderedDict[Jid, tuple[Proof | None, int]] = OrderedDict()
        self._settled: OrderedDict[str, int] = OrderedDict()

    async def proof_for(self, to: Jid) -> Proof | None:
        """What shows a person, by LID or number, that we are no strangers; None: nothing does."""
        now = int(utc_now().timestamp())
        known = self._proofs.get(to)
        if known is None or known[1] <= now:
            known = await self._database.read(_proof_for, self._device_id, to)
            self._proofs[to] = known
            if len(self._proofs) > MAX_PEOPLE:
                self._proofs.popitem(last=False)
        return known[0]

    async def keep_token(self, command: KeepToken) -> Answer:
        """Save a person's token; whatever waits for a stranger may go then."""
        await self._database.write(_keep_token, self._device_id, command)
        self.clear()
        return Answer(())

    async def note_given(self, command: NoteGiven) -> None:
        """Save that a person was given our token, and those of its own that came back."""
        await self._database.write(_note_given, self._device_id, command)
        self.clear()

    async def given_to(self, user: Jid) -> TokenOwed | None:
        """That a person is to be given our token anew, with the time it had; None: it had none."""
        return await self._database.read(_given_to, self._device_id, user)

    def is_owed_nothing(self, number: str) -> bool:
        """Whether this person is known to have our token of this week."""
        return self._settled.get(number, -1) >= bucket_start(int(utc_now().timestamp()))

    def owed_nothing(self, number: str) -> None:
        """Note that a person has our token of this week."""
        self._settled[number] = bucket_start(int(utc_now().timestamp()))
        if len(self._settled) > MAX_PEOPLE:
            self._settled.popitem(last=False)

    def clear(self) -> None:
        """Forget what is at hand: only what is stored is true."""
        self._proofs.clear()
        self._settled.clear()


def owed_to(unit: Unit, device_id: int, number: str) -> TokenOwed | None:
    """Whether the person of this number is owed our token."""
    given_t = people.standing(unit, device_id, number + PN_SUFFIX).given_t
    if given_t is not None and given_t >= bucket_start(int(unit.now.timestamp())):
        return None
    by_lid = sessions.lid_of(unit, device_id, number)
    return TokenOwed(pn(number), None if by_lid is None else lid(by_lid))


def _proof_for(unit: Unit, device_id: int, to: Jid) -> tuple[Proof | None, int]:
    """The proof, and until when that is the right one, UTC seconds."""
    token = people.standing(unit, device_id, str(to)).token
    if token is not None:
        return Proof("tctoken", token.token), token.until
    salt = fact(unit, device_id, NCT_SALT) if to.is_lid else None
    return None if salt is None else Proof("cstoken", cstoken(salt, to)), people.MAX_T


def _keep_token(unit: Unit, device_id: int, command: KeepToken) -> None:
    token = Token(command.token, command.t, ends(command.t))
    people.keep_token(unit, device_id, str(command.user), token)


def _note_given(unit: Unit, device_id: int, command: NoteGiven) -> None:
    people.note_given(unit, device_id, str(command.to), command.t)
    for theirs in command.theirs:
        token = Token(theirs.token, theirs.t, ends(theirs.t))
        people.keep_token(unit, device_id, str(command.to), token)


def _given_to(unit: Unit, device_id: int, user: Jid) -> TokenOwed | None:
    given_t = people.standing(unit, device_id, str(user.bare)).given_t
    if given_t is None:
        return None
    if user.is_lid:
        return TokenOwed(None, user.bare, given_t)
    by_lid = sessions.lid_of(unit, device_id, user.user)
    return TokenOwed(user.bare, None if by_lid is None else lid(by_lid), given_t)
