"""The parsers of the protocol package, found by their form: who adds one has it fuzzed.

A parser is a public function whose first argument is a `Node`, whatever it is called, or one that
takes bytes or text, at once or in pieces, and is called like a parser, or a class method `parse` or
`from_bytes`. Further arguments come from `arguments.py`. A module that has none of this must be
named in `OTHERWISE`, with who tries it instead.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import cycle
from types import FunctionType, MethodType, ModuleType
from typing import Final, get_type_hints

import sitpayd.whatsapp
from sitpayd.whatsapp.node import Node
from tests.fuzz.arguments import MISSING, argument

_PACKAGE: Final = "sitpayd.whatsapp"
_PARSER_NAME: Final = re.compile(
    r"(parse|read|verify|decode|unpack|inflate|open)_\w+|unpad|inflated|opened|parse|from_bytes"
)
_PIECES: Final = (1, 2, 3, 5, 64, 1000)
# Modules without such functions, and why that is right.
OTHERWISE: Final = {
    "codec": "target nodes",
    "frames": "target frames",
    "connection": "target noise",
    "events": "values",
    "errors": "values",
    "node": "asked by every stanza parser",
    "keys": "values",
    "crypto": "primitives; used by noise, protobufs and signal",
    "tokens": "data",
    "message_id": "takes no input",
    "signal.x3dh": "target signal",
}


class NotCoveredError(Exception):
    """Something of the protocol would not be fuzzed."""


@dataclass(frozen=True, slots=True)
class Parser:
    """One of them.

    Attributes:
        name: module below the package, a dot, function.
        takes: `Node`, bytes or str.
    """

    name: str
    takes: type
    call: Callable[[object], object]

    def accepts(self, value: object) -> bool:
        """Whether it reads this; what else may be wrong is for the fuzzing to find."""
        try:
            drained(self.call(value))
        except Exception:
            return False
        return True


def drained(result: object) -> object:
    """A result; one that comes bit by bit is taken whole."""
    return list(result) if isinstance(result, Iterator) else result


@cache
def parsers() -> tuple[Parser, ...]:
    """All of them, by name.

    Raises:
        NotCoveredError: If an argument is not known, or a module has none and is not excused.
    """
    found = []
    for module in _modules():
        short = module.__name__.removeprefix(f"{_PACKAGE}.")
        here = [parser for function in _functions(module) for parser in _parser(short, function)]
        if not here and short not in OTHERWISE:
            raise NotCoveredError(f"{module.__name__} has no parser that the fuzzing finds")
        found += here
    return tuple(sorted(found, key=lambda parser: parser.name))


def taking(kind: type) -> tuple[Parser, ...]:
    """Those that take this."""
    return tuple(parser for parser in parsers() if parser.takes is kind)


def unreached(kind: type, values: Sequence[object]) -> list[str]:
    """Parsers that accept none of these: whatever is made of them ends at their first check."""
    return [p.name for p in taking(kind) if not any(map(p.accepts, values))]


def _modules() -> Iterator[ModuleType]:
    for info in pkgutil.walk_packages(sitpayd.whatsapp.__path__, f"{_PACKAGE}."):
        if not info.ispkg and ".schema." not in info.name:
            yield importlib.import_module(info.name)


def _functions(module: ModuleType) -> Iterator[FunctionType | MethodType]:
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        if isinstance(value, FunctionType):
            yield value
        elif inspect.isclass(value):
            names = {"parse", "from_bytes"} & vars(value).keys()
            members = (getattr(value, member) for member in sorted(names))
            yield from (member for member in members if isinstance(member, MethodType))


def _parser(module: str, function: FunctionType | MethodType) -> Iterator[Parser]:
    parameters = list(inspect.signature(function).parameters.values())
    hints = get_type_hints(function)
    if not parameters:
        return
    first, *others = parameters
    takes, adapted = _taken(hints.get(first.name))
    named = _PARSER_NAME.fullmatch(function.__name__)
    if takes is None or (takes is not Node and not named):
        return
    owner = (
        f"{function.__qualname__.partition('.')[0]}." if isinstance(function, MethodType) else ""
    )
    name = f"{module}.{owner}{function.__name__}"
    given = {}
    for parameter in others:
        if parameter.kind is parameter.VAR_POSITIONAL:
            continue
        value = argument(name, parameter.name, hints.get(parameter.name), parameter.default)
        if value is MISSING:
            raise NotCoveredError(f"{name} needs a `{parameter.name}`: see arguments.py")
        given[parameter.name] = value
    call = partial(function, **given)
    yield Parser(name, takes, call if adapted is None else partial(_adapted, call, adapted))


def _adapted(
    call: Callable[[object], object], adapted: Callable[[bytes], object], value: bytes
) -> object:
    return call(adapted(value))


def _taken(hint: object) -> tuple[type | None, Callable[[bytes], object] | None]:
    """What a first argument of this type is fed with, and how it is made of that."""
    if hint == Iterable[bytes]:
        return bytes, _pieces
    if hint == Callable[[], Iterable[bytes]]:
        return bytes, lambda data: partial(_pieces, data)
    return (hint, None) if hint in (Node, bytes, str) and isinstance(hint, type) else (None, None)


def _pieces(data: bytes) -> Iterator[bytes]:
    """A stream that comes in pieces of all sizes; the same ones each time."""
    sizes, at = cycle(_PIECES), 0
    while at < len(data):
        size = next(sizes)
        yield data[at : at + size]
        at += size
