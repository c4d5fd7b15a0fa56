"""Greeting: what a phone tells a companion about its chats, and the files that it lies in.

A history is made of what the phone knows: the people it talked with, their names, LIDs and tokens.
It comes with its notice, or lies encrypted on the media server, which is the same server as the
WebSocket's.
"""

from __future__ import annotations

import hashlib
import secrets
import zlib
from collections import OrderedDict
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

from websockets.datastructures import Headers
from websockets.http11 import Response

from sitpayd.whatsapp.media import HISTORY, MediaFile, encrypt, media_file
from sitpayd.whatsapp.schema import whatsapp_pb2 as pb

from .accounts import Account
from .trust import Trust

_MAX_FILES: Final = 64
_PATH: Final = "/v/t62.7118-24/"
INITIAL_BOOTSTRAP: Final = 0
PUSH_NAMES: Final = 4


def history_of(
    account: Account, people: Iterable[Account], trust: Trust, *, filler_len: int = 0
) -> pb.HistorySync:
    """What a phone tells of the people it talked with.

    Args:
        filler_len: bytes of a text in each chat, which no companion needs.
    """
    history = pb.HistorySync(syncType=INITIAL_BOOTSTRAP, progress=100, nctSalt=account.nct_salt)
    for person in people:
        history.conversations.append(_chat(account, person, trust, filler_len))
        history.phoneNumberToLidMappings.add(pnJid=str(person.pn), lidJid=str(person.lid))
        if person.name:
            history.pushnames.add(id=str(person.pn), pushname=person.name)
    if account.name:
        history.pushnames.add(id=str(account.pn), pushname=account.name)
    return history


def _chat(account: Account, person: Account, trust: Trust, filler_len: int) -> pb.Conversation:
    chat = pb.Conversation(id=str(person.lid), pnJid=str(person.pn))
    text = pb.Message(conversation="x" * filler_len or "hello")
    key = pb.MessageKey(remoteJid=str(person.lid), fromMe=True, id=secrets.token_hex(16).upper())
    chat.messages.add(message=pb.WebMessageInfo(key=key, message=text))
    theirs, ours = trust.given(person, account), trust.given(account, person)
    if theirs is not None:
        chat.tcToken, chat.tcTokenTimestamp = theirs.token, theirs.t
    if ours is not None:
        chat.tcTokenSenderTimestamp = ours.t
    return chat


class MediaStore:
    """The files on one media server.

    Attributes:
        host: name and port, as clients are told; "" before the server listens.
        asked: the targets that were asked for, the last one at the end.
    """

    def __init__(self) -> None:
        self.host = ""
        self.asked: list[str] = []
        self._files: OrderedDict[str, bytes] = OrderedDict()
        self._refusals: list[int] = []

    def put(self, plain: bytes) -> MediaFile:
        """Encrypt a history and keep it; returns how it is found and read."""
        deflated, media_key = zlib.compress(plain), secrets.token_bytes(32)
        blob = encrypt(deflated, media_key, HISTORY)
        path = f"{_PATH}{secrets.token_hex(12)}"
        self._files[path] = blob
        if len(self._files) > _MAX_FILES:
            self._files.popitem(last=False)
        return media_file(
            f"{path}?ccb=11-4&oh={secrets.token_hex(8)}",
            media_key,
            hashlib.sha256(blob).digest(),
            hashlib.sha256(deflated).digest(),
            len(deflated),
        )

    def refuse(self, code: int, count: int) -> None:
        """Answer the next requests with an HTTP status; 200 spoils the blob instead."""
        self._refusals += [code] * count

    def answer(self, target: str) -> Response | None:
        """Answer a request; None: it is for no file."""
        path, _, _ = target.partition("?")
        if not path.startswith(_PATH):
            return None
        self.asked.append(target)
        refusal = self._refusals.pop(0) if self._refusals else None
        blob = self._files.get(path)
        if refusal not in (None, HTTPStatus.OK):
            return _response(HTTPStatus(refusal), b"")
        if blob is None:
            return _response(HTTPStatus.NOT_FOUND, b"")
        if refusal is not None:
            blob = blob[:-1] + bytes((blob[-1] ^ 1,))
        return _response(HTTPStatus.OK, blob)


def _response(status: HTTPStatus, body: bytes) -> Response:
    headers = Headers(
        {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(len(body)),
            "Connection": "close",
        }
    )
    return Response(status.value, status.phrase, headers, body)
