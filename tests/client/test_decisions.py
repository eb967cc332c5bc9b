"""The parts without I/O: splitting, retry times, targets and channel options, status details, settings."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import grpc
import pytest
import sidekey
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st
from sidekey import _plan
from sidekey._channel import channel_options, resolve_target
from sidekey._retry import Attempts
from sidekey._status import Failure, reason_of

UNAVAILABLE = Failure(grpc.StatusCode.UNAVAILABLE, "KMS_UNAVAILABLE", "the KMS cannot be reached")


@given(st.lists(st.integers(0, 300), max_size=200), st.integers(1, 1000))
def test_a_split_covers_all_rows_within_the_limit_and_wastes_little(sizes: list[int], limit: int) -> None:
    costs = list(accumulate(sizes, initial=0))
    pieces = list(_plan.split(len(sizes), costs.__getitem__, limit))
    assert [row for start, stop in pieces for row in range(start, stop)] == list(range(len(sizes)))
    for start, stop in pieces:
        assert stop > start
        assert costs[stop] - costs[start] <= limit or stop - start == 1
        if stop < len(sizes):
            assert costs[stop + 1] - costs[start] > limit


def test_a_split_keeps_to_the_limit_of_rows() -> None:
    pieces = list(_plan.split(2 * _plan.MAX_ROWS + 5, lambda _: 0, 10))
    assert [stop - start for start, stop in pieces] == [_plan.MAX_ROWS, _plan.MAX_ROWS, 5]


class Clock:
    """Time that passes only when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def _pauses(timeout: float, jitter: float) -> tuple[list[float], sidekey.SidekeyError]:
    clock = Clock()
    attempts = Attempts("host:1", timeout, timer=clock, jitter=lambda: jitter)
    found: list[float] = []
    try:
        while True:
            assert attempts.begin() <= 1000.0 + timeout - clock.now + 0.001
            found.append(attempts.pause(UNAVAILABLE))
            clock.now += found[-1]
    except sidekey.SidekeyError as error:
        return found, error


def test_pauses_double_to_a_second_and_shrink_towards_the_deadline() -> None:
    pauses, error = _pauses(timeout=10.0, jitter=1.0)
    assert pauses[:7] == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0])
    assert sum(pauses) == pytest.approx(10.0, abs=0.06)
    assert isinstance(error, sidekey.UnavailableError)
    assert error.attempts == len(pauses) + 1
    assert error.seconds == pytest.approx(sum(pauses))


@given(st.floats(0, 1, exclude_max=True), st.floats(0.01, 100))
def test_pauses_never_outlive_the_deadline(jitter: float, timeout: float) -> None:
    pauses, _ = _pauses(timeout, jitter)
    assert sum(pauses) <= timeout
    assert all(pause > 0 for pause in pauses)


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.UNAVAILABLE])
def test_only_unavailable_is_tried_again(code: grpc.StatusCode) -> None:
    attempts = Attempts("host:1", 30.0)
    attempts.begin()
    with pytest.raises(sidekey.SidekeyError) as raised:
        attempts.pause(Failure(code, "", ""))
    assert raised.value.code is code


DEADLINE = Failure(grpc.StatusCode.DEADLINE_EXCEEDED, "", "Deadline Exceeded")
NO_CONNECTION = Failure(grpc.StatusCode.UNAVAILABLE, "", "failed to connect")
DENIED = Failure(grpc.StatusCode.PERMISSION_DENIED, "KMS_ACCESS_DENIED", "the KMS denies it")


@pytest.mark.parametrize(
    ("failures", "kind", "reason", "text"),
    [
        ([DEADLINE], sidekey.DeadlineExceededError, "", r"no answer from host:1 within 5\.0 s"),
        (
            [UNAVAILABLE, DEADLINE],
            sidekey.UnavailableError,
            "KMS_UNAVAILABLE",
            r"in 2 attempts over 10\.0 s: the KMS cannot be reached; check that it reaches its KMS",
        ),
        ([NO_CONNECTION, UNAVAILABLE, DEADLINE], sidekey.UnavailableError, "KMS_UNAVAILABLE", r"in 3 attempts"),
        ([UNAVAILABLE, NO_CONNECTION, DEADLINE], sidekey.UnavailableError, "", r"failed to connect; .*sidekey serve"),
        ([UNAVAILABLE, DENIED], sidekey.PermissionDeniedError, "KMS_ACCESS_DENIED", "the KMS denies it"),
    ],
)
def test_an_outage_whose_last_attempt_runs_out_of_time_is_told_by_what_was_last_heard_of_it(
    failures: list[Failure], kind: type[sidekey.SidekeyError], reason: str, text: str
) -> None:
    clock = Clock()
    attempts = Attempts("host:1", 60.0, timer=clock)
    for failure in failures[:-1]:
        attempts.begin()
        clock.now += 5.0
        attempts.pause(failure)
    attempts.begin()
    clock.now += 5.0
    with pytest.raises(kind, match=text) as raised:
        attempts.pause(failures[-1])
    error = raised.value
    assert (type(error), error.reason) == (kind, reason)
    if isinstance(error, sidekey.UnavailableError):
        assert (error.attempts, error.seconds) == (len(failures), 5.0 * len(failures))


def _details(*details: Any) -> bytes:
    packed = []
    for detail in details:
        packed.append(any_pb2.Any())
        packed[-1].Pack(detail)
    raw: bytes = status_pb2.Status(code=3, message="text", details=packed).SerializeToString()
    return raw


INFO = error_details_pb2.ErrorInfo(reason="INVALID_BATCH", domain="sidekey", metadata={"key": "value"})
FOREIGN = error_details_pb2.ErrorInfo(reason="RATE_LIMIT", domain="googleapis.com")
RETRY = error_details_pb2.RetryInfo()
KEY = "grpc-status-details-bin"


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        (None, ""),
        ([], ""),
        ([("other-bin", _details(INFO))], ""),
        ([("other", "text"), (KEY, _details(INFO))], "INVALID_BATCH"),
        ([(KEY, _details(RETRY, FOREIGN, INFO))], "INVALID_BATCH"),
        ([(KEY, _details(FOREIGN))], ""),
        ([(KEY, b"")], ""),
        ([(KEY, b"\xff\xff\xff")], ""),
        ([(KEY, _details(INFO)[:-4])], ""),
        ([(KEY, "text where bytes belong")], ""),
        ([(KEY, _details(INFO).replace(b"INVALID", b"\xff\xff\xff\xff\xff\xff\xff"))], ""),
    ],
)
def test_the_reason_is_found_and_malformed_details_say_nothing(metadata: Any, reason: str) -> None:
    assert reason_of(metadata) == reason


@given(st.binary(max_size=60))
def test_any_bytes_for_details_are_survived(raw: bytes) -> None:
    assert isinstance(reason_of([(KEY, raw)]), str)


@pytest.mark.parametrize(
    "target", ["unix:///run/sidekey.sock", "unix:/run/s", "localhost:50051", "[::1]:1", "dns:///a:1"]
)
def test_addresses_are_taken_as_they_are(target: str) -> None:
    assert resolve_target(target) == target


@pytest.mark.parametrize("target", ["/run/sidekey.sock", "localhost", "host:port", "host:", "a b:1"])
def test_what_is_no_address_is_refused_with_what_would_be(target: str) -> None:
    with pytest.raises(ValueError, match=r"unix:///path/to/sidekey\.sock or host:port"):
        resolve_target(target)


def test_the_target_comes_from_the_environment_and_its_absence_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SIDEKEY_TARGET", "localhost:1")
    assert resolve_target(None) == "localhost:1"
    monkeypatch.delenv("SIDEKEY_TARGET")
    for make in (sidekey.Client, sidekey.AsyncClient):
        with pytest.raises(ValueError, match="set SIDEKEY_TARGET"):
            make()


def test_unix_sockets_get_an_authority_that_every_server_takes() -> None:
    assert dict(channel_options("unix:///s"))["grpc.default_authority"] == "localhost"
    assert "grpc.default_authority" not in dict(channel_options("host:1"))


def test_the_callers_channel_options_win() -> None:
    options = dict(channel_options("unix:///s", {"grpc.default_authority": "other", "grpc.keepalive_time_ms": 1}))
    assert options["grpc.default_authority"] == "other"
    assert options["grpc.keepalive_time_ms"] == 1


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"timeout": 0}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"max_in_flight": 0}, "max_in_flight"),
        ({"message_bytes": 0}, "message_bytes"),
        ({"message_bytes": 16 * 2**20}, "message_bytes must be from 1 to 15728640"),
    ],
)
def test_settings_out_of_range_are_refused(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        sidekey.Client("host:1", **arguments)
