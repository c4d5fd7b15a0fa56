"""Requests of the control API, read: the body field by field, and whom a name means.

What the routes do is control.py.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

from quart import request

from sitpayd.whatsapp.errors import RemoteProtocolError
from sitpayd.whatsapp.jid import PN_SERVER, Jid
from sitpayd.whatsapp.node import Attr, Node

from .accounts import PHONE, Device
from .client import ADDRESSES, Client
from .phone import Phone
from .server import Server

_Word = TypeVar("_Word", bound=StrEnum)


class ControlError(Exception):
    """A request that cannot be done.

    Attributes:
        status: the HTTP status.
        field: the field that is wrong; None if none is.
    """

    def __init__(self, status: int, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.field = field


class Body:
    """A JSON body, read field by field."""

    def __init__(self, value: object) -> None:
        if not isinstance(value, dict):
            raise ControlError(400, "the body is not a JSON object")
        self._fields: dict[str, object] = value

    def text(self, name: str, default: str | None = None) -> str:
        """A text field."""
        value = self._fields.get(name, default)
        if not isinstance(value, str):
            raise ControlError(422, f"{name} must be a text", name)
        return value

    def optional_text(self, name: str) -> str | None:
        """A text field that may be absent or null."""
        return None if self._fields.get(name) is None else self.text(name)

    def number(self, name: str, default: int | None = None) -> int:
        """A whole number."""
        value = self._fields.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise ControlError(422, f"{name} must be a whole number", name)
        return value

    def optional_number(self, name: str) -> int | None:
        """A whole number that may be absent or null."""
        return None if self._fields.get(name) is None else self.number(name)

    def optional_seconds(self, name: str) -> float | None:
        """A number of seconds that may be absent or null."""
        return None if self._fields.get(name) is None else self.seconds(name)

    def choice(self, name: str, words: type[_Word]) -> _Word:
        """One of the words of an enum."""
        value = self.text(name)
        try:
            return words(value)
        except ValueError as error:
            known = ", ".join(word.value for word in words)
            raise ControlError(422, f"{name} must be one of {known}", name) from error

    def seconds(self, name: str) -> float:
        """A number of seconds."""
        value = self._fields.get(name)
        if not isinstance(value, int | float) or isinstance(value, bool) or value < 0:
            raise ControlError(422, f"{name} must be a number of seconds", name)
        return float(value)

    def flag(self, name: str, default: bool | None = None) -> bool:
        """True or false."""
        value = self._fields.get(name, default)
        if not isinstance(value, bool):
            raise ControlError(422, f"{name} must be true or false", name)
        return value

    def optional_jid(self, name: str) -> Jid | None:
        """An address that may be absent or null."""
        text = self.optional_text(name)
        return None if text is None else _jid(text, name)

    def inner(self, name: str) -> Body:
        """An object inside of this one; it may be absent."""
        return Body(self._fields.get(name, {}))

    def texts(self) -> dict[str, str]:
        """Every field; each is a text."""
        return {name: self.text(name) for name in self._fields}

    def stanzas(self, name: str) -> tuple[Node, ...]:
        """A list of elements: `{"tag", "attrs", "children" or "text"}` each; it may be absent."""
        return _elements(self._fields.get(name, []), name)

    @property
    def names(self) -> set[str]:
        """The fields that are there."""
        return set(self._fields)


def _elements(value: object, field: str) -> tuple[Node, ...]:
    if not isinstance(value, list):
        raise ControlError(422, f"{field} must be a list of elements", field)
    return tuple(_element(item, field) for item in value)


def _element(value: object, field: str) -> Node:
    element = Body(value)
    attrs = {name: _attribute(name, text) for name, text in element.inner("attrs").texts().items()}
    text = element.optional_text("text")
    content = element.stanzas("children") or (None if text is None else text.encode())
    return Node(element.text("tag"), attrs, content)


def _attribute(name: str, text: str) -> Attr:
    return _jid(text, name) if name in ADDRESSES else text


def _jid(text: str, field: str) -> Jid:
    try:
        return Jid.parse(text)
    except RemoteProtocolError as error:
        raise ControlError(422, str(error), field) from error


async def read_body(*, optional: bool = False) -> Body:
    """The body of the request; if it is optional, it may be empty."""
    data = await request.get_data()
    if not data and optional:
        return Body({})
    return Body(await request.get_json(force=True))


def query_number(name: str, default: int) -> int:
    """A whole number behind the route's question mark."""
    value = request.args.get(name, str(default))
    if not (value.isascii() and value.isdigit()):
        raise ControlError(422, f"{name} must be a whole number", name)
    return int(value)


def query_seconds(name: str) -> float:
    """A number of seconds behind the route's question mark; 0 if it is absent."""
    try:
        value = float(request.args.get(name, "0"))
    except ValueError as error:
        raise ControlError(422, f"{name} must be a number of seconds", name) from error
    if not 0 <= value < float("inf"):
        raise ControlError(422, f"{name} must be a number of seconds", name)
    return value


def phone_of(server: Server, number: str, field: str = "phone") -> Phone:
    """The phone of a number."""
    try:
        return server.phone(number.removeprefix("+"))
    except KeyError as error:
        raise ControlError(404, "this number has no account", field) from error


def device_of(server: Server, text: str, field: str = "jid") -> Device:
    """A phone or companion, by its address."""
    jid = _jid(text if "@" in text else f"{text}@{PN_SERVER}", field)
    device = server.accounts.device(jid)
    if device is None:
        raise ControlError(404, "there is no such device", field)
    return device


def companion_of(server: Server, text: str) -> Device:
    """A companion, by its address."""
    device = device_of(server, text)
    if device.number == PHONE:
        raise ControlError(409, "this is the phone itself", "jid")
    return device


def client_of(server: Server, text: str) -> Client:
    """The socket of a companion, by the device's address."""
    client = server.client(companion_of(server, text))
    if client is None:
        raise ControlError(409, "the device is not connected", "jid")
    return client
