"""A device's memory on a real database, in memory; the other side holds real sessions, too."""

from __future__ import annotations

from typing import Literal

import trio

from sitpayd.actors.commands import Arm, Mark, MarkReceipt
from sitpayd.actors.events import Answer, Armed
from sitpayd.actors.memory import DeviceMemory
from sitpayd.actors.outcomes import Outcomes
from sitpayd.actors.receiving import UNHANDLED
from sitpayd.actors.reception import Reception
from sitpayd.actors.resender import Resender
from sitpayd.storage import inbox, outbox, phone, sessions
from sitpayd.storage.database import Database
from sitpayd.storage.records import Accepted, MessageView, OutboxRow, RowState
from sitpayd.whatsapp.jid import Jid
from sitpayd.whatsapp.keys import DeviceKeys
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.signal.session import Encrypted, PreKeyBundle, start
from sitpayd.whatsapp.stanzas import receipt
from sitpayd.whatsapp.stanzas.content import (
    Content,
    parse_message,
    text_message,
    unpad,
)
from sitpayd.whatsapp.stanzas.message import PADDED_VERSION, Enc
from sitpayd.whatsapp.stanzas.pairing import PairedIdentity
from tests.actors.builders import (
    FRIEND_LID,
    FRIEND_PN,
    OWN_LID,
    OWN_PN,
    SERVER_T,
    some_identity,
)
from tests.storage.builders import Tenant, a_message
from tests.whatsapp.signal.parties import Party

COMPANION = FRIEND_LID.with_device(2)
OUR_PHONE = OWN_LID.bare
# The wire has room for twenty digits.
END_OF_TIME = 10**19
HELLO = text_message("Hello!")


class Home:
    """A device's memory and what stands behind it."""

    def __init__(self, database: Database, tenant: Tenant) -> None:
        self.database = database
        self.device = tenant.device
        self.outcomes = Outcomes()
        self.restart()

    def anew(self) -> DeviceMemory:
        """The memory of the next life."""
        limiter = trio.CapacityLimiter(1)
        return DeviceMemory(self.database, self.outcomes, self.device.id, limiter)

    def restart(self) -> None:
        """Begin the next life, with nothing but what is stored."""
        self.memory = self.anew()
        self.reception = Reception(self.database, self.outcomes, self.memory)
        self.resender = Resender(self.database, self.memory)

    async def next_life(self) -> None:
        """Begin the next life, as an actor does that is started again."""
        self.restart()
        await self.memory.load_credentials()

    async def receives(self, node: Node) -> tuple[Node, ...]:
        """What a message is answered with."""
        return (await self.reception.receive(node)).nodes

    @property
    def keys(self) -> DeviceKeys:
        assert self.memory.credentials is not None
        return self.memory.credentials.keys

    @property
    def paired(self) -> PairedIdentity:
        assert self.memory.credentials is not None
        assert self.memory.credentials.paired is not None
        return self.memory.credentials.paired

    async def accepted(self, to: str = FRIEND_PN.user) -> OutboxRow:
        message = a_message(self.device, recipient=to)
        acceptance = await self.database.write(outbox.accept, message)
        assert isinstance(acceptance, Accepted)
        return acceptance.row

    async def armed(self, *parties: Party, devices: tuple[Jid, ...] = (FRIEND_LID,)) -> Armed:
        row = await self.accepted()
        bundles = {jid: party.bundle() for jid, party in zip(devices, parties, strict=True)}
        answer = await self.memory.arm(Arm(row, FRIEND_LID, FRIEND_PN, devices, (), "2:", bundles))
        assert isinstance(answer, Armed)
        return answer

    async def state_of(self, row: OutboxRow) -> tuple[str, str | None]:
        view = await self.database.read(outbox.message, self.device.id, row.message_id)
        assert view is not None
        return view.state, view.reason

    async def inbox(self) -> list[MessageView]:
        found = await self.database.read(inbox.messages_after, self.device.id, 0, 100)
        return [view for _, view in found]

    async def notices(self) -> int:
        """How many of the phone's notices wait: none, or at least one."""
        waiting = await self.database.read(phone.next_notice, self.device.id)
        return 0 if waiting is None else 1

    async def sessions(self, user: Jid) -> set[int]:
        return set(await self.database.read(sessions.load_sessions, self.device.id, str(user)))

    async def bundle(self) -> PreKeyBundle:
        """What the server hands out of our keys, with a one-time prekey of ours."""
        made = await self.memory.make_prekeys(1)
        prekey, signed = made.prekeys[0], self.keys.signed_prekey
        await self.memory.mark_uploaded((prekey.key_id,))
        return PreKeyBundle(
            self.keys.registration_id,
            self.keys.identity.public_key,
            signed.key_id,
            signed.key_pair.public_key,
            signed.signature,
            prekey.key_id,
            prekey.key_pair.public_key,
        )

    async def a_friend(self) -> Party:
        """Somebody who has fetched our keys."""
        friend = Party(1)
        friend.begin(await self.bundle())
        return friend


async def at_home(database: Database, tenant: Tenant) -> Home:
    """A device that is linked."""
    home = Home(database, tenant)
    keys = await home.memory.make_keys()
    await home.memory.save_identity(some_identity(keys))
    return home


def enc(encrypted: Encrypted) -> Node:
    attrs = {"v": str(PADDED_VERSION), "type": encrypted.kind}
    return Node("enc", attrs, encrypted.body)


def message(*encs: Node, from_: Jid = FRIEND_LID, id: str = "M1", **attrs: str | Jid) -> Node:
    return Node("message", {"id": id, "from": from_, "t": str(SERVER_T), **attrs}, encs)


def delivered(node: Node, *, from_me: bool = False) -> tuple[Node, ...]:
    return (receipt.delivery(node, active=False, from_me=from_me),)


def acked(node: Node, error: int | None = None) -> tuple[Node, ...]:
    return (receipt.ack(node, OWN_PN, error),)


def asked_again(answer: Answer) -> receipt.Retry:
    """What a retry receipt with its ack says."""
    again, plain = answer.nodes
    assert (again.tag, again.text("type")) == ("receipt", "retry")
    assert (plain.tag, plain.number("error")) == ("ack", UNHANDLED)
    retry = receipt.parse_receipt(again).retry
    assert retry is not None
    return retry


def content_of(party: Party, got: Enc) -> Content:
    """What the other side makes of it."""
    kind: Literal["pkmsg", "msg"] = "pkmsg" if got.kind == "pkmsg" else "msg"
    # A reader does not look at the record: it is the sender's.
    encrypted = Encrypted(start(Party(1).bundle(), party.identity), kind, got.body)
    return parse_message(unpad(party.receive(encrypted)))


def read(party: Party, got: Enc) -> str | None:
    """The text that the other side reads."""
    return content_of(party, got).text


async def sent_row(home: Home, party: Party | None = None, device: Jid = FRIEND_LID) -> OutboxRow:
    """A row that went to one device of a friend."""
    await home.reception.learn(FRIEND_PN, FRIEND_LID)
    row = (await home.armed(party or Party(1), devices=(device,))).row
    await home.memory.mark(Mark(row, RowState.SENT, server_time=SERVER_T))
    return row


def receipt_for(row: OutboxRow, kind: str | None, from_: Jid = FRIEND_LID) -> MarkReceipt:
    attrs: dict[str, str | Jid] = {"id": row.wa_message_id, "from": from_}
    if kind is not None:
        attrs["type"] = kind
    node = Node("receipt", attrs)
    return MarkReceipt(receipt.parse_receipt(node), receipt.ack(node, OWN_PN))
