"""The log: one event per line, key=value or JSON, without secrets.

structlog makes the lines; what the standard library's loggers and uncaught exceptions have to say
goes the same way. Every finished line passes `mask`, so that a token is not written even where
nobody thought of it. What is worth a line is decided where it happens.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from collections.abc import MutableMapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Literal, TextIO, cast

import structlog
from structlog.types import FilteringBoundLogger, Processor

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]

# The three kinds of token, whole or cut off; public ids (wa_, msg_) stay readable.
_TOKEN: Final = re.compile(r"(pk|pu|dt)_[0-9A-Za-z]{20,}")
# A value written without quotes: visible ASCII without the quote, the equals sign, the backslash.
_BARE: Final = re.compile(r"[!#-<>-\[\]-~]+")
# JSON leaves these as they are, but a terminal or an editor acts on them: DEL, C1 controls, line
# and paragraph separators, direction marks.
_UNSAFE: Final = re.compile("[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def get_logger() -> FilteringBoundLogger:
    """Get a logger that goes where `configure` says, also if that is called later."""
    return cast(FilteringBoundLogger, structlog.get_logger())


def mask(text: str) -> str:
    """Replace what follows the prefix of everything shaped like a token of ours."""
    return _TOKEN.sub(r"\1_***", text)


def configure(level: LogLevel, log_format: LogFormat, stream: TextIO | None = None) -> None:
    """Send every line of the process to a stream, standard error by default.

    Loggers keep the level of the first call, which makes a filtered event cost nothing.
    """
    _SINK.stream = stream
    _SINK.as_json = log_format == "json"
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=_PROCESSORS,
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    if _BRIDGE not in root.handlers:
        root.addHandler(_BRIDGE)
    # Other people's loggers tell at "info" what only their authors want to know.
    root.setLevel(max(number, logging.WARNING))
    sys.excepthook = _log_uncaught


class _Sink:
    """The last processor: renders an event, masks it and writes it.

    Attributes:
        stream: None is the standard error of the moment.
    """

    def __init__(self) -> None:
        self.stream: TextIO | None = None
        self.as_json = False

    def __call__(self, _: object, level: str, event: MutableMapping[str, object]) -> str:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        fields: dict[str, object] = {
            "at": now,
            # log.exception() is called so, but it writes an error.
            "level": "error" if level == "exception" else level,
            "event": event.pop("event"),
        }
        error = _error(event.pop("exc_info", None))
        fields.update(event)
        if error is not None:
            fields["error"] = "".join(traceback.format_exception(error)).rstrip()
        line = mask(_json(fields) if self.as_json else _text(fields))
        stream = sys.stderr if self.stream is None else self.stream
        stream.write(line + "\n")
        stream.flush()
        return line


class _Bridge(logging.Handler):
    """Sends the records of the standard library's loggers to the sink."""

    def emit(self, record: logging.LogRecord) -> None:
        event: dict[str, object] = {
            "event": "python.log",
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            event["exc_info"] = record.exc_info
        _SINK(None, record.levelname.lower(), event)


def _log_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    _SINK(None, "critical", {"event": "process.crashed", "exc_info": error})


def _error(exc_info: object) -> BaseException | None:
    if isinstance(exc_info, BaseException):
        return exc_info
    if isinstance(exc_info, tuple):
        return cast(BaseException | None, exc_info[1])
    return sys.exception() if exc_info else None


def _text(fields: dict[str, object]) -> str:
    return " ".join(f"{key}={_value(value)}" for key, value in fields.items() if value is not None)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if _BARE.fullmatch(text) else _quote(text)


def _json(fields: dict[str, object]) -> str:
    return _escape(json.dumps(fields, ensure_ascii=False, default=str))


def _quote(text: str) -> str:
    return _escape(json.dumps(text, ensure_ascii=False))


def _escape(line: str) -> str:
    # A lone surrogate cannot be encoded; the stream would raise on it.
    line = line.encode("utf-8", "backslashreplace").decode("utf-8")
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", line)


_SINK: Final = _Sink()
_BRIDGE: Final = _Bridge()
_PROCESSORS: Final[list[Processor]] = [structlog.contextvars.merge_contextvars, _SINK]
