"""Agreement: each side understands what the other one made, so that no row times nothing.

Everything is done once by the same functions that are timed. Where a result is fixed by the inputs
both sides must have the same bytes; where chance is in it, each reads what the other wrote.
"""

from __future__ import annotations

from bench.baileys import Baileys, bytes_of
from bench.fleet import TEXT
from bench.functions import Row
from bench.inputs import OWN_LID, RECIPIENT, Inputs, plain_node
from bench.processes import BenchError
from sitpayd.whatsapp.codec import decode
from sitpayd.whatsapp.frames import FrameDecoder
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.stanzas.content import parse_message, unpad
from sitpayd.whatsapp.stanzas.message import parse_outgoing
from sitpayd.whatsapp.stanzas.receipt import parse_receipt

# Messages there and back between one of us and one of them.
_EXCHANGES = 4


async def check_agreement(inputs: Inputs, rows: list[Row], other: Baileys) -> None:
    """Compare all rows.

    Raises:
        BenchError: If the sides disagree in one.
    """
    ours = {row.name: row.make(1)(0) for row in rows}
    theirs = {row.name: await other.show(row.name) for row in rows}
    for name, result in ours.items():
        if not _agrees(name, result, theirs[name], inputs):
            raise BenchError(f"Baileys and we disagree about: {name}")
    await _talk(inputs, other)


def _agrees(name: str, ours: object, theirs: object, inputs: Inputs) -> bool:
    if name.startswith("decode") and isinstance(ours, Node):
        return plain_node(ours) == theirs
    match name:
        case "first message, sent":
            return _opens(ours, inputs) and _opens(bytes_of(theirs), inputs)
        case "send to 5 devices" | "send to 5 devices, sessions stored":
            return _reaches_all(ours, inputs) and _reaches_all(bytes_of(theirs), inputs)
        case "receive" | "receive, sessions stored":
            assert isinstance(theirs, dict)
            told = (theirs["text"], bytes_of(theirs["frame"]))
            return _confirms(ours, inputs) and _confirms(told, inputs)
    return ours == bytes_of(theirs) and bool(ours)


def _opens(body: object, inputs: Inputs) -> bool:
    """Whether the second person reads this first message."""
    assert isinstance(body, bytes)
    return inputs.talk.second.receive_first(body)[1] == inputs.talk.plaintext


def _reaches_all(frame: object, inputs: Inputs) -> bool:
    """Whether each of the devices reads the text in this frame."""
    sent = parse_outgoing(_opened(frame, inputs))
    texts = []
    for peer, (jid, enc) in zip(inputs.peers, sent.participants, strict=True):
        _, plaintext = peer.person.decrypt(peer.theirs, enc.body)
        content = parse_message(unpad(plaintext))
        is_own = peer.jid.user == OWN_LID.user
        texts.append(content.text if (content.destination == RECIPIENT) == is_own else None)
        if jid != peer.jid:
            return False
    return texts == [TEXT] * len(inputs.peers)


def _confirms(result: object, inputs: Inputs) -> bool:
    """Whether the text was read, and the frame is a receipt for that message."""
    assert isinstance(result, tuple)
    text, frame = result
    receipt = parse_receipt(_opened(frame, inputs))
    return text == TEXT and receipt.ids == ("3EB0F1A2B3C4D5E6F70000",) and receipt.type is None


def _opened(frame: object, inputs: Inputs) -> Node:
    """The stanza in the first frame of a connection, as the server reads it."""
    assert isinstance(frame, bytes)
    (body,) = FrameDecoder().receive(frame)
    return decode(inputs.handshake.server_cipher().decrypt(body))


async def _talk(inputs: Inputs, other: Baileys) -> None:
    """Let one of ours talk with one of theirs, each message stepping the ratchet."""
    talk = inputs.talk
    record = talk.first_record
    for _ in range(_EXCHANGES):
        record, body = talk.first.encrypt(record, talk.plaintext)
        heard = await other.hear(body)
        record, plaintext = talk.first.decrypt(record, await other.say())
        if not heard == plaintext == talk.plaintext:
            raise BenchError("Baileys and we lost each other in a session")
