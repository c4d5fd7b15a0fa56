"""Telling: what a message of our own account tells this device. Pure.

Keys of the app state may come from any of our devices, a history and a list of LIDs from the phone
alone: who else sends one is not believed. They are stored with the message, and read later
(downloads.py).

Source: whatsmeow message.go, handleProtocolMessage.
"""

from __future__ import annotations

from typing import Final

from sitpayd.storage.records import SharedKey, Told
from sitpayd.whatsapp.stanzas.content import Content, HistorySync, LidMigration, PhoneNotice
from sitpayd.whatsapp.stanzas.message import IncomingMessage

PHONE: Final = 0
# Histories in which nothing stands that is kept here: of statuses, and asked for by somebody.
_UNWANTED: Final = frozenset({1, 6, 7, 8})
# What stands in the place of a name that is not known.
_NAMELESS: Final = "-"


def told_by(message: IncomingMessage, content: Content) -> Told | None:
    """What is to be kept of a message; None: nothing."""
    if not message.from_me:
        return None
    is_of_phone = message.sender.device == PHONE
    name = message.push_name if is_of_phone else None
    told = Told(
        keys=tuple(
            SharedKey(key.key_id, key.key_data, key.timestamp) for key in content.app_state_keys
        ),
        notice=content.notice if is_of_phone else None,
        own_name=None if name == _NAMELESS else name,
    )
    return None if told == Told() else told


def is_wanted(notice: PhoneNotice) -> bool:
    """Whether something stands in it that is kept here."""
    match notice:
        case HistorySync(sync_type=sync_type):
            return sync_type not in _UNWANTED
        case LidMigration():
            return True
