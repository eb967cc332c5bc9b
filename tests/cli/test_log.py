"""What a log line may hold: words of this program, and never a foreign text."""

import io
import json
import logging
import os
import threading
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from sidecar.errors import KmsDeniedError
from sidecar.log import configure, describe, install_hooks

SECRET = "hunter2"  # noqa: S105


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def only_line(stream: io.StringIO) -> dict[str, Any]:
    (line,) = lines(stream)
    return line


def fail_with_secrets() -> None:
    password = SECRET
    try:
        os.environ[password]  # Raises KeyError with the password in its text.
    except KeyError as error:
        raise ValueError(f"bad value {password}") from error


def test_a_line_is_json_with_event_level_logger_and_utc_time() -> None:
    stream = io.StringIO()
    configure("info", "auto", stream)
    structlog.get_logger("sidecar.keys").info("rolled_over", keyring="hr", generation=2)
    line = only_line(stream)
    stamp = datetime.fromisoformat(line.pop("timestamp"))
    assert stamp.utcoffset() == timedelta(0)
    assert line == {"event": "rolled_over", "level": "info", "logger": "sidecar.keys", "keyring": "hr", "generation": 2}


def test_the_level_decides_what_is_logged() -> None:
    stream = io.StringIO()
    configure("warning", "json", stream)
    log = structlog.get_logger("sidecar")
    log.info("quiet")
    log.warning("loud")
    assert only_line(stream)["event"] == "loud"


def test_an_exception_is_its_type_and_frames_and_never_its_text() -> None:
    stream = io.StringIO()
    configure("info", "json", stream)
    try:
        fail_with_secrets()
    except ValueError:
        structlog.get_logger("sidecar").exception("failed")
    exception = only_line(stream)["exception"]
    assert exception["type"] == "ValueError"
    assert exception["causes"] == ["KeyError"]
    assert exception["frames"][-1].startswith("cli/test_log.py:")
    assert exception["frames"][-1].endswith(":fail_with_secrets")
    assert SECRET not in stream.getvalue()


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_an_exception_may_be_given_itself_or_as_a_value(log_format: str) -> None:
    stream = io.StringIO()
    configure("info", log_format, stream)
    try:
        fail_with_secrets()
    except ValueError as error:
        log = structlog.get_logger("sidecar")
        log.warning("failed", exc_info=error)
        log.warning("failed", error=error, stack_info=True)
    assert "ValueError" in stream.getvalue()
    assert "fail_with_secrets" in stream.getvalue()
    assert SECRET not in stream.getvalue()


def test_the_text_of_our_own_errors_is_kept() -> None:
    error = KmsDeniedError("the KMS denies the use of the wrapping key")
    assert describe(error) == {"type": "KmsDeniedError", "message": str(error), "frames": []}


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_only_plain_data_is_written_and_of_the_rest_the_type(log_format: str) -> None:
    class Holder:
        def __repr__(self) -> str:
            return SECRET

    stream = io.StringIO()
    configure("info", log_format, stream)
    structlog.get_logger("sidecar").info(
        "event",
        data_key=SECRET.encode(),
        holder=Holder(),
        nested={"list": [Holder()]},
        path=Path("/p"),
        nan=float("nan"),
    )
    assert SECRET not in stream.getvalue()
    assert "<bytes>" in stream.getvalue()
    assert "/p" in stream.getvalue()


def test_a_terminal_gets_colours_and_frames_and_no_text_of_the_exception() -> None:
    stream = Terminal()
    configure("info", "auto", stream)
    try:
        fail_with_secrets()
    except ValueError:
        structlog.get_logger("sidecar").exception("failed", keyring="hr")
    text = stream.getvalue()
    assert "\x1b[" in text
    assert "fail_with_secrets" in text
    assert SECRET not in text


def test_a_terminal_gets_json_where_that_is_asked_for() -> None:
    stream = Terminal()
    configure("info", "json", stream)
    structlog.get_logger("sidecar").info("event")
    assert only_line(stream)["event"] == "event"


def test_a_librarys_message_is_kept_only_where_it_is_a_constant_and_without_its_arguments() -> None:
    stream = io.StringIO()
    configure("debug", "json", stream)
    log = logging.getLogger("botocore.endpoint")
    log.warning("Response body: %s", SECRET)
    log.error(f"Request {SECRET}")
    log.error(SECRET)
    constant, formatted, variable = lines(stream)
    assert constant["event"] == "Response body: %s"
    assert constant["logger"] == "botocore.endpoint"
    assert constant["level"] == "warning"
    assert constant["where"].startswith("cli/test_log.py:")
    assert formatted["event"] == variable["event"] == "library_message"
    assert SECRET not in stream.getvalue()


def test_no_level_of_ours_lets_a_library_log_below_warning() -> None:
    stream = io.StringIO()
    configure("debug", "json", stream)
    log = logging.getLogger("botocore.test_below_warning")
    log.setLevel(logging.DEBUG)  # As a debugging helper of the library would.
    log.debug("Making request with body")
    log.info("Found credentials")
    assert stream.getvalue() == ""


def test_a_librarys_level_between_two_and_its_exception_are_handled() -> None:
    stream = io.StringIO()
    configure("info", "json", stream)
    try:
        fail_with_secrets()
    except ValueError:
        logging.getLogger("aiohttp.server").log(35, "odd level", exc_info=True)
    line = only_line(stream)
    assert line["level"] == "warning"
    assert line["exception"]["type"] == "ValueError"
    assert SECRET not in stream.getvalue()


def test_configuring_again_replaces_and_does_not_add() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure("info", "json", first)
    log = structlog.get_logger("sidecar")
    configure("info", "json", second)
    log.info("event")
    logging.getLogger("lib").warning("once")
    assert first.getvalue() == ""
    assert [line["event"] for line in lines(second)] == ["event", "once"]


def test_a_stream_that_nobody_reads_any_more_fails_no_call() -> None:
    stream = io.StringIO()
    configure("info", "json", stream)
    stream.close()
    structlog.get_logger("sidecar").info("event")


def test_an_exception_that_a_thread_lets_through_is_logged_without_its_text() -> None:
    stream = io.StringIO()
    configure("info", "json", stream)
    install_hooks()
    thread = threading.Thread(target=fail_with_secrets)
    thread.start()
    thread.join()
    assert only_line(stream)["event"] == "uncaught_in_thread"
    assert SECRET not in stream.getvalue()
