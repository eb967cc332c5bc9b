"""Structured logs: JSON lines, or colours on a terminal. Owns what may appear in a log line.

A log line holds words of this program and plain values that it chose to log. Never the text of a foreign exception,
the ``repr`` of an object or a library's message with its arguments: any of them may quote a value, a key, a credential.

Use: ``structlog.get_logger("sidecar.keys").warning("rollover_failed", keyring=name, exc_info=error)``.
"""

import contextlib
import logging
import math
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import PurePath
from types import FrameType, TracebackType
from typing import Any, TextIO

import structlog

from sidecar.errors import SidekeyError

_MAX_FRAMES = 30
_MAX_DEPTH = 4

_EventDict = MutableMapping[str, Any]


def configure(level: str, log_format: str, stream: TextIO | None = None) -> None:
    """Log to ``stream`` (default: stderr) from ``level`` up, and route the standard library's logging there too.

    ``level``: debug, info, warning or error. ``log_format``: json, console, or auto (console on a terminal).
    Libraries log from WARNING up whatever ``level`` is: below it, some log requests with their bodies.
    """
    out = sys.stderr if stream is None else stream
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            _add_logger_name,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _reduce_exception,
            _reduce_values,
            *_renderers(log_format, is_terminal=out.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *names: _Writer(out, names[0] if names else "sidecar"),
        # Loggers made at import time follow a later configure().
        cache_logger_on_first_use=False,
    )
    _route_standard_logging(max(number, logging.WARNING))


def install_hooks() -> None:
    """Log exceptions that nobody caught, in threads and finalizers, instead of printing them with their texts."""
    log = structlog.get_logger("sidecar")
    threading.excepthook = lambda args: log.error("uncaught_in_thread", exc_info=args.exc_value)
    sys.unraisablehook = lambda args: log.error("uncaught_in_finalizer", exc_info=args.exc_value)


def describe(error: BaseException) -> dict[str, Any]:
    """An exception without its text: type, frames (``file:line:function``), and the same of what caused it.

    Only texts of our own taxonomy are kept, since callers may see those.
    """
    described: dict[str, Any] = {"type": type(error).__name__}
    if isinstance(error, SidekeyError):
        described["message"] = str(error)
    described["frames"] = _frames(error.__traceback__)
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        described["causes"] = _cause_types(cause)
    return described


def _frames(trace: TracebackType | None) -> list[str]:
    frames = [
        f"{_short(frame.f_code.co_filename)}:{line}:{frame.f_code.co_name}" for frame, line in traceback.walk_tb(trace)
    ]
    return frames[-_MAX_FRAMES:]


def _cause_types(cause: BaseException | None) -> list[str]:
    names: list[str] = []
    while cause is not None and len(names) < _MAX_FRAMES:
        names.append(type(cause).__name__)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return names


def _short(filename: str) -> str:
    return "/".join(PurePath(filename).parts[-2:])


def _add_logger_name(logger: Any, _method: str, event: _EventDict) -> _EventDict:
    event.setdefault("logger", logger.name)
    return event


def _reduce_exception(_logger: Any, _method: str, event: _EventDict) -> _EventDict:
    info = event.pop("exc_info", None)
    event.pop("stack_info", None)
    if isinstance(info, tuple):
        info = info[1]
    elif info and not isinstance(info, BaseException):
        info = sys.exc_info()[1]
    if isinstance(info, BaseException):
        event["exception"] = describe(info)
    return event


def _reduce_values(_logger: Any, _method: str, event: _EventDict) -> _EventDict:
    return {name: _plain(value) for name, value in event.items()}


def _plain(value: Any, depth: int = 0) -> Any:
    """``value`` where it is plain data; of everything else, bytes above all, only the type's name."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no word for it.
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str | PurePath):
        return str(value)
    if depth < _MAX_DEPTH and isinstance(value, Mapping):
        return {str(_plain(key)): _plain(below, depth + 1) for key, below in value.items()}
    if depth < _MAX_DEPTH and isinstance(value, list | tuple | set | frozenset):
        return [_plain(each, depth + 1) for each in value]
    return f"<{type(value).__name__}>"


def _renderers(log_format: str, *, is_terminal: bool) -> list[Callable[..., Any]]:
    if log_format == "console" or (log_format == "auto" and is_terminal):
        return [
            _flatten_exception,
            structlog.dev.ConsoleRenderer(colors=is_terminal, exception_formatter=structlog.dev.plain_traceback),
        ]
    return [structlog.processors.JSONRenderer()]


def _flatten_exception(_logger: Any, _method: str, event: _EventDict) -> _EventDict:
    if "exception" in event:
        described = event["exception"]
        head = ": ".join(part for part in (described["type"], described.get("message")) if part)
        causes = [f"  caused by {name}" for name in described.get("causes", ())]
        event["exception"] = "\n".join([head, *(f"  {frame}" for frame in described["frames"]), *causes])
    return event


class _Writer:
    """Writes finished lines; structlog's innermost logger."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream = stream
        self.name = name

    def msg(self, line: str) -> None:
        # A call must not fail because nobody reads the logs any more: a closed pipe, a full disk.
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(line + "\n")
            self._stream.flush()

    debug = info = warning = error = critical = msg


class _Bridge(logging.Handler):
    """Hands over what libraries log, reduced to what cannot hold a secret."""

    def emit(self, record: logging.LogRecord) -> None:
        where = f"{_short(record.pathname)}:{record.lineno}:{record.funcName}"
        level = min(record.levelno // 10 * 10, logging.CRITICAL)  # structlog knows no levels between.
        log = structlog.get_logger(record.name)
        log.log(level, _constant_message(record), where=where, exc_info=record.exc_info)


def _constant_message(record: logging.LogRecord) -> str:
    """The message without its arguments, if it is a constant of the code that logs it: then it holds no value.

    A message that was put together before it was logged may quote anything, and is left out.
    """
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_lineno == record.lineno and frame.f_code.co_filename == record.pathname:
            return record.msg if _is_constant(record.msg, frame) else "library_message"
        frame = frame.f_back
    return "library_message"


def _is_constant(message: object, frame: FrameType) -> bool:
    return isinstance(message, str) and any(message is each for each in frame.f_code.co_consts)


def _route_standard_logging(level: int) -> None:
    bridge = _Bridge(level)
    root = logging.getLogger()
    # Any other handler would write messages and tracebacks in full.
    root.handlers[:] = [bridge]
    root.setLevel(level)
