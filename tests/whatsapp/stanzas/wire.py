"""What the tests of every family need: vectors, people, and the way through the codec."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sitpayd.whatsapp.codec import decode, encode
from sitpayd.whatsapp.jid import lid, pn
from sitpayd.whatsapp.node import Node

_VECTORS = Path(__file__).parents[1] / "vectors"

OWN_PN = pn("15551234567", 12)
OWN_LID = lid("111222333444555", 12)
PEER_PN = pn("15557654321")
PEER_LID = lid("999888777666555")


def vector(name: str) -> Any:
    return json.loads((_VECTORS / f"{name}.json").read_text())


def sent(node: Node) -> Node:
    """The node as the other side reads it."""
    return decode(encode(node))
