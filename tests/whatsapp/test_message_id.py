from __future__ import annotations

import json
import re
from pathlib import Path

from sitpayd.whatsapp.codec import decode, encode
from sitpayd.whatsapp.message_id import new_wa_message_id
from sitpayd.whatsapp.node import Node

VECTOR = json.loads((Path(__file__).parent / "vectors" / "message_id.json").read_text())
SHAPE = re.compile(r"3EB0[0-9A-F]{18}")


def test_id_has_the_shape_web_clients_give_it() -> None:
    assert SHAPE.fullmatch(new_wa_message_id())


def test_known_clients_make_ids_of_this_shape() -> None:
    assert SHAPE.fullmatch(VECTOR["whatsmeow"])
    assert SHAPE.fullmatch(VECTOR["baileys_v2"])


def test_ids_do_not_repeat() -> None:
    assert len({new_wa_message_id() for _ in range(1000)}) == 1000


def test_id_crosses_the_wire_unchanged() -> None:
    message_id = new_wa_message_id()
    assert decode(encode(Node("message", {"id": message_id}))).text("id") == message_id
