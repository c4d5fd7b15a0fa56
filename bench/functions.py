"""Functions: our side of the protocol's comparison, row by row.

Each row has a function that makes everything a run needs, outside of the time, and returns what is
timed: called with 0, 1, 2 ... The other side's rows are in functions.mjs, under the same names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from bench.fleet import TEXT
from bench.inputs import MESSAGES, OWN_LID, OWN_PN, RECIPIENT, RECIPIENT_PN, WA_MESSAGE_ID, Inputs
from sitpayd.whatsapp.codec import decode, encode
from sitpayd.whatsapp.connection import Connection
from sitpayd.whatsapp.events import NodeReceived
from sitpayd.whatsapp.frames import encode_frame
from sitpayd.whatsapp.node import Node
from sitpayd.whatsapp.noise import TransportCipher
from sitpayd.whatsapp.signal.session import SessionRecord, decrypt, encrypt, start
from sitpayd.whatsapp.stanzas.content import device_sent, pad, parse_message, text_message, unpad
from sitpayd.whatsapp.stanzas.message import Participant, outgoing, parse_incoming
from sitpayd.whatsapp.stanzas.receipt import delivery

# As often as a run may be repeated where its inputs last for ever.
UNLIMITED: Final = 1_000_000

_T = TypeVar("_T")
Once = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison.

    Attributes:
        make: makes what a run of so many repetitions needs; returns what is timed.
        limit: repetitions that the inputs are enough for.
    """

    group: str
    name: str
    make: Callable[[int], Once]
    limit: int = UNLIMITED


def make_rows(inputs: Inputs) -> list[Row]:
    """All rows, in the order in which they are shown."""
    return [*_codec_rows(inputs), *_noise_rows(inputs), *_signal_rows(inputs), *_whole_rows(inputs)]


def _codec_rows(inputs: Inputs) -> list[Row]:
    rows = [
        Row("codec", f"encode {kind}", _repeated(encode, node))
        for kind, node in inputs.stanzas.items()
    ]
    rows += [
        Row("codec", f"decode {kind}", _repeated(decode, encode(node)))
        for kind, node in inputs.stanzas.items()
    ]
    rows.append(
        Row("codec", "decode a large one, deflated", _repeated(decode, inputs.deflated_bytes))
    )
    return rows


def _repeated(function: Callable[[_T], object], argument: _T) -> Callable[[int], Once]:
    return lambda count: lambda index: function(argument)


def _noise_rows(inputs: Inputs) -> list[Row]:
    rows = [Row("Noise", "handshake, client", lambda count: lambda index: _shake_hands(inputs))]
    for length, (plaintext, sealed) in inputs.frames.items():
        rows += [
            Row("Noise", f"seal a frame of {length} bytes", _sealing(inputs, plaintext)),
            Row("Noise", f"open a frame of {length} bytes", _opening(inputs, sealed), MESSAGES),
        ]
    return rows


def _shake_hands(inputs: Inputs) -> bytes:
    return inputs.handshake.begin().receive(inputs.handshake.server_hello)


def _cipher(inputs: Inputs) -> TransportCipher:
    client = inputs.handshake.begin()
    client.receive(inputs.handshake.server_hello)
    assert client.cipher is not None
    return client.cipher


def _sealing(inputs: Inputs, plaintext: bytes) -> Callable[[int], Once]:
    def make(count: int) -> Once:
        cipher = _cipher(inputs)
        return lambda index: encode_frame(cipher.encrypt(plaintext))

    return make


def _opening(inputs: Inputs, sealed: tuple[bytes, ...]) -> Callable[[int], Once]:
    def make(count: int) -> Once:
        cipher = _cipher(inputs)
        return lambda index: cipher.decrypt(sealed[index])

    return make


def _signal_rows(inputs: Inputs) -> list[Row]:
    talk = inputs.talk
    first, second = talk.first, talk.second

    def begin(index: int) -> object:
        return first.encrypt(start(second.bundle, first.keys.identity), talk.plaintext)[1]

    def receive_first(index: int) -> object:
        return second.receive_first(talk.opening)[1]

    def sending(count: int) -> Once:
        record = talk.first_record

        def once(index: int) -> object:
            nonlocal record
            record, body = first.encrypt(record, talk.plaintext)
            return body

        return once

    def receiving(count: int, order: range | tuple[int, ...] = range(MESSAGES)) -> Once:
        record = talk.in_chain

        def once(index: int) -> object:
            nonlocal record
            record, plaintext = second.decrypt(record, talk.chain[order[index]])
            return plaintext

        return once

    def ping_pong(count: int) -> Once:
        people, records = (first, second), [talk.first_record, talk.second_record]

        def once(index: int) -> object:
            one, other = index % 2, (index + 1) % 2
            records[one], body = people[one].encrypt(records[one], talk.plaintext)
            records[other], plaintext = people[other].decrypt(records[other], body)
            return plaintext

        return once

    return [
        Row("Signal", "first message, sent", lambda count: begin),
        Row("Signal", "first message, received", lambda count: receive_first),
        Row("Signal", "encrypt in a chain", sending),
        Row("Signal", "decrypt in a chain", receiving, MESSAGES),
        Row("Signal", "decrypt out of order", lambda count: receiving(count, talk.order), MESSAGES),
        Row("Signal", "ping-pong, encrypt and decrypt", ping_pong),
    ]


def _whole_rows(inputs: Inputs) -> list[Row]:
    return [
        Row("whole", "send to 5 devices", lambda count: _Sending(inputs).once),
        Row(
            "whole", "send to 5 devices, sessions stored", lambda count: _Sending(inputs, True).once
        ),
        Row("whole", "receive", lambda count: _Receiving(inputs).once, MESSAGES),
        Row(
            "whole",
            "receive, sessions stored",
            lambda count: _Receiving(inputs, True).once,
            MESSAGES,
        ),
    ]


class _Sending:
    """A connected device that writes the same text again and again."""

    def __init__(self, inputs: Inputs, is_storing: bool = False) -> None:
        self._connection = inputs.handshake.connect()
        self._keys = inputs.me.keys
        self._records = {peer.jid: peer.ours for peer in inputs.peers}
        self._is_storing = is_storing
        self.stored: list[bytes] = []

    def once(self, index: int) -> bytes:
        message = text_message(TEXT)
        for_own = device_sent(RECIPIENT, message)
        participants = []
        stored = []
        for jid, record in self._records.items():
            done = encrypt(
                record,
                self._keys.identity,
                self._keys.registration_id,
                pad(for_own if jid.user == OWN_LID.user else message),
            )
            self._records[jid] = done.record
            participants.append(Participant(jid, done.kind, done.body))
            if self._is_storing:
                stored.append(done.record.to_bytes())
        self.stored = stored
        stanza = outgoing(WA_MESSAGE_ID, RECIPIENT, participants, peer_recipient_pn=RECIPIENT_PN)
        return _written(self._connection, stanza)


class _Receiving:
    """A connected device that a person writes to, in one chain."""

    def __init__(self, inputs: Inputs, is_storing: bool = False) -> None:
        self._connection = inputs.handshake.connect()
        self._identity = inputs.talk.second.keys.identity
        self._record: SessionRecord = inputs.talk.in_chain
        self._incoming = inputs.incoming
        self._is_storing = is_storing
        self.stored = b""

    def once(self, index: int) -> tuple[str | None, bytes]:
        (event,) = self._connection.receive(self._incoming[index])
        assert isinstance(event, NodeReceived)
        message = parse_incoming(event.node, OWN_PN, OWN_LID)
        done = decrypt(self._record, self._identity, message.encs[0].body)
        self._record = done.record
        if self._is_storing:
            self.stored = done.record.to_bytes()
        content = parse_message(unpad(done.plaintext))
        answer = delivery(event.node, active=True, from_me=message.from_me)
        return content.text, _written(self._connection, answer)


def _written(connection: Connection, stanza: Node) -> bytes:
    connection.send(stanza)
    (frame,) = connection.data_to_send()
    return frame
