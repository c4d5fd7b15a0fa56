"""QR: a text as a PNG for the API and as blocks for a terminal.

A picture takes 20 to 40 ms of computing, too long for the event loop: it is made in a thread, once
for each code on show, however many ask, and goes away with the code.
"""

from __future__ import annotations

import base64
import io
from typing import Final
from weakref import WeakKeyDictionary

import qrcode
import trio
from qrcode.constants import ERROR_CORRECT_L
from qrcode.image.pil import PilImage

from sitpayd.actors.registry import ShownQr
from sitpayd.api.errors import ApiError

# Level L, as WhatsApp Web itself shows: the text is long, and a screen loses no corner.
_BOX_PIXELS: Final = 6
# Modules of white around the code. Source: ISO/IEC 18004.
_BORDER: Final = 4
# A fixed mask saves trying all eight, which is most of the time; readers take any.
_MASK: Final = 3
RENDERERS: Final = 2
# A code is on show for 20 s; one that comes later is of no use.
DRAWN_WITHIN_S: Final = 10.0


class Pictures:
    """The pictures of the codes on show."""

    def __init__(self) -> None:
        self._limiter = trio.CapacityLimiter(RENDERERS)
        self._pictures: WeakKeyDictionary[ShownQr, _Picture] = WeakKeyDictionary()

    async def data_uri(self, qr: ShownQr) -> str:
        """Get a code's picture as `data:image/png;base64,...`.

        Raises:
            ApiError: `overloaded`, if its turn does not come in time.
        """
        picture = self._pictures.get(qr)
        if picture is None:
            picture = self._pictures[qr] = _Picture()
        with trio.move_on_after(DRAWN_WITHIN_S):
            # Who comes meanwhile waits for the same one; if its maker is cancelled, the next makes.
            async with picture.lock:
                if picture.uri is None:
                    picture.uri = await trio.to_thread.run_sync(
                        _data_uri, qr.text, limiter=self._limiter
                    )
                return picture.uri
        raise ApiError("overloaded", "Too many codes are being drawn.", retry_after_s=5)


class _Picture:
    __slots__ = ("lock", "uri")

    def __init__(self) -> None:
        self.lock = trio.Lock()
        self.uri: str | None = None


def png(text: str) -> bytes:
    """Draw a text as a PNG picture."""
    picture = io.BytesIO()
    _code(text).make_image(image_factory=PilImage).save(picture)
    return picture.getvalue()


def blocks(text: str) -> str:
    """Draw a text for a terminal: half blocks, two rows a line, dark on light."""
    rows = _code(text).get_matrix()
    # A code has an odd number of rows; one more, light as the border, makes pairs.
    rows.append([False] * len(rows[0]))
    # Light modules are the drawn ones: terminals are mostly dark.
    glyphs = {(False, False): "█", (False, True): "▀", (True, False): "▄", (True, True): " "}
    pairs = zip(rows[::2], rows[1::2], strict=True)
    return "\n".join(
        "".join(glyphs[bool(upper), bool(lower)] for upper, lower in zip(*pair, strict=True))
        for pair in pairs
    )


def _data_uri(text: str) -> str:
    return f"data:image/png;base64,{base64.b64encode(png(text)).decode('ascii')}"


def _code(text: str) -> qrcode.QRCode[PilImage]:
    code = qrcode.QRCode(
        error_correction=ERROR_CORRECT_L,
        box_size=_BOX_PIXELS,
        border=_BORDER,
        mask_pattern=_MASK,
    )
    code.add_data(text)
    code.make(fit=True)
    return code
