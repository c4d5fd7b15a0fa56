"""Where the current revision of WhatsApp's web client is published: one bounded HTTP request.

WhatsApp's own service worker, https://web.whatsapp.com/sw.js, holds `client_revision` and a number,
in JSON inside of a script, so with escaped quotes. Any page that holds the same will do, for
example one of the operator's own.

Source: Baileys lib/Utils/generics, fetchLatestWaWebVersion; whatsmeow update.go.
"""

from __future__ import annotations

import re
import ssl
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import h11
import trio

from sitpayd.actors.revision import RevisionUnknownError

MAX_BODY_LEN: Final = 1024 * 1024
_CHUNK_LEN: Final = 64 * 1024
# Without a browser's headers WhatsApp's server answers with another page. An encoded body could
# grow beyond any bound when it is decoded.
_HEADERS: Final = (
    (
        "user-agent",
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko)"
        " Chrome/141.0.0.0 Safari/537.36",
    ),
    ("accept", "*/*"),
    ("accept-encoding", "identity"),
    ("sec-fetch-site", "none"),
    ("connection", "close"),
)
_REVISION: Final = re.compile(rb'client_revision\\?"\s*:\s*([0-9]{1,10})(?![0-9])')
# The payload's field is a uint32.
_MAX_REVISION: Final = 2**32 - 1


async def look_up(url: str) -> int:
    """Fetch the revision; the caller brings the deadline. Redirects are not followed.

    Raises:
        RevisionUnknownError: If there is no answer, or the answer does not hold it.
    """
    try:
        page = await _fetch(url)
    except (OSError, UnicodeError, trio.BrokenResourceError, h11.RemoteProtocolError) as error:
        raise RevisionUnknownError(f"no answer: {type(error).__name__}") from error
    return revision_in(page)


def revision_in(page: bytes) -> int:
    """Find the revision in a page.

    Raises:
        RevisionUnknownError: If it holds none.
    """
    found = _REVISION.search(page)
    if found is None or not 0 < int(found[1]) <= _MAX_REVISION:
        raise RevisionUnknownError("the page holds no client_revision")
    return int(found[1])


async def _fetch(url: str) -> bytes:
    parts = urlsplit(url)
    host, secure = parts.hostname or "", parts.scheme == "https"
    stream: trio.abc.Stream = await trio.open_tcp_stream(
        host, parts.port or (443 if secure else 80)
    )
    if secure:
        context = ssl.create_default_context()
        stream = trio.SSLStream(stream, context, server_hostname=host, https_compatible=True)
    async with stream:
        http = h11.Connection(h11.CLIENT)
        target = parts.path or "/"
        request = h11.Request(
            method="GET", target=target, headers=[("host", parts.netloc), *_HEADERS]
        )
        await stream.send_all((http.send(request) or b"") + (http.send(h11.EndOfMessage()) or b""))
        body = bytearray()
        while True:
            match http.next_event():
                case h11.NEED_DATA:
                    http.receive_data(bytes(await stream.receive_some(_CHUNK_LEN)))
                case h11.Response(status_code=status) if status != HTTPStatus.OK:
                    raise RevisionUnknownError(f"HTTP {status}")
                case h11.Data(data=data):
                    body += data
                    if len(body) > MAX_BODY_LEN:
                        raise RevisionUnknownError("the page is too long")
                case h11.EndOfMessage() | h11.ConnectionClosed():
                    return bytes(body)
