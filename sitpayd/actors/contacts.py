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
from sitpayd.actors.messages import HistoryPart
from sitpayd.storage import people, phone, sessions
from sitpayd.storage.account import fact, set_fact
from sitpayd.storage.contacts import PN_SUFFIX
from sitpayd.storage.database import Database, Unit
from sitpayd.storage.people import Token
from sitpayd.storage.records import NCT_SALT_FACT, utc_now
from sitpayd.whatsapp.history import Chat, NctSalt, PushName
from sitpayd.whatsapp.jid import Jid, lid, pn
from sitpayd.whatsapp.stanzas.pairing import PairedIdentity
from sitpayd.whatsapp.stanzas.privacy import Proof, bucket_start, cstoken, ends

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

    async def keep_history(self, part: HistoryPart, own: PairedIdentity | None) -> Answer:
        """Save a part of what the phone has told; its numbers and LIDs are learned before."""
        await self._database.write(_keep_history, self._device_id, part, own)
        self.clear()
        return Answer(())

    async def is_waiting(self, notice_id: int) -> bool:
        """Whether this notice still waits."""
        return await self._database.read(phone.is_waiting, self._device_id, notice_id)

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
    salt = fact(unit, device_id, NCT_SALT_FACT) if to.is_lid else None
    return None if salt is None else Proof("cstoken", cstoken(salt, to)), people.MAX_T


def _keep_token(unit: Unit, device_id: int, command: KeepToken) -> None:
    token = Token(command.token, command.t, ends(command.t))
    people.keep_token(unit, device_id, str(command.user), token)


def _note_given(unit: Unit, device_id: int, command: NoteGiven) -> None:
    people.note_given(unit, device_id, str(command.to), command.t)
    for theirs in command.theirs:
        token = Token(theirs.token, theirs.t, ends(theirs.t))
        people.keep_token(unit, device_id, str(command.to), token)


def _keep_history(
    unit: Unit, device_id: int, part: HistoryPart, own: PairedIdentity | None
) -> None:
    ourselves = () if own is None else (own.jid.bare, own.lid.bare)
    for item in part.items:
        match item:
            case PushName(jid=jid, name=name) if jid in ourselves:
                phone.keep_own_name(unit, device_id, name)
            case PushName(jid=jid, name=name):
                people.keep_name(unit, device_id, str(jid), name)
            case Chat(jid=jid) as chat if jid not in ourselves:
                _keep_chat(unit, device_id, chat)
            case NctSalt(salt=salt):
                set_fact(unit, device_id, NCT_SALT_FACT, salt)
            case _:
                pass  # numbers and LIDs are learned, and with ourselves we need no proof
    if part.is_last:
        phone.forget_notice(unit, device_id, part.notice_id)


def _keep_chat(unit: Unit, device_id: int, chat: Chat) -> None:
    key = str(chat.jid)
    if chat.token is not None:
        people.keep_token(unit, device_id, key, Token(chat.token, chat.token_t, ends(chat.token_t)))
    if chat.given_t is not None:
        people.note_given(unit, device_id, key, chat.given_t)
    if chat.has_messages:
        # They wrote, or our phone did: what is restricted is that a companion begins a chat.
        people.note_chat(unit, device_id, key)


def _given_to(unit: Unit, device_id: int, user: Jid) -> TokenOwed | None:
    given_t = people.standing(unit, device_id, str(user.bare)).given_t
    if given_t is None:
        return None
    if user.is_lid:
        return TokenOwed(None, user.bare, given_t)
    by_lid = sessions.lid_of(unit, device_id, user.user)
    return TokenOwed(user.bare, None if by_lid is None else lid(by_lid), given_t)
