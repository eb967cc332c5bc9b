"""What fails: typed errors, rows in the caller's numbers, retries within the deadline, cancelling."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import re
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
import sidekey
from sidekey.v1 import encryption_pb2 as pb

from sidecar.errors import KmsUnavailableError
from tests.client.conftest import Connect
from tests.client.managed import Managed
from tests.client.reference import Reference, serve

Code = grpc.StatusCode


@pytest.mark.parametrize(
    ("code", "reason", "kind", "retryable"),
    [
        (Code.INVALID_ARGUMENT, "INVALID_BATCH", sidekey.InvalidArgumentError, False),
        (Code.NOT_FOUND, "UNKNOWN_KEYRING", sidekey.NotFoundError, False),
        (Code.PERMISSION_DENIED, "KMS_ACCESS_DENIED", sidekey.PermissionDeniedError, False),
        (Code.UNAUTHENTICATED, "UNAUTHENTICATED", sidekey.PermissionDeniedError, False),
        (Code.FAILED_PRECONDITION, "KEY_DISABLED", sidekey.KeyStateError, False),
        (Code.DATA_LOSS, "DECRYPT_FAILED", sidekey.DecryptionError, False),
        (Code.DATA_LOSS, "CORRUPT_KEY", sidekey.KeyStateError, False),
        (Code.FAILED_PRECONDITION, "STATE_TRANSITION", sidekey.KeyStateError, False),
        (Code.FAILED_PRECONDITION, "KEYRING_EXISTS", sidekey.InvalidArgumentError, False),
        (Code.INVALID_ARGUMENT, "MODE_NOT_ALLOWED", sidekey.InvalidArgumentError, False),
        (Code.NOT_FOUND, "NO_SUCH_KEY", sidekey.NotFoundError, False),
        (Code.PERMISSION_DENIED, "MANAGEMENT_OFF", sidekey.PermissionDeniedError, False),
        (Code.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED", sidekey.LimitError, True),
        (Code.INTERNAL, "INTERNAL", sidekey.SidekeyError, False),
    ],
)
def test_a_status_becomes_its_error_at_the_first_attempt(
    connect: Connect,
    address: str,
    reference: Reference,
    code: Code,
    reason: str,
    kind: type[sidekey.SidekeyError],
    retryable: bool,
) -> None:
    reference.abort = (code, reason, "words for the caller")
    with pytest.raises(kind, match="words for the caller") as raised:
        connect(address).encrypt([b"a"])
    error = raised.value
    assert type(error) is kind
    assert (error.code, error.reason, error.retryable) == (code, reason, retryable)
    assert reference.begun == 1


def test_a_text_without_a_reason_is_not_passed_on(connect: Connect, address: str, reference: Reference) -> None:
    reference.abort = (Code.UNKNOWN, "", "Exception: a foreign server's text")
    with pytest.raises(sidekey.SidekeyError) as raised:
        connect(address).encrypt([b"a"])
    assert "foreign" not in str(raised.value)
    assert "UNKNOWN" in str(raised.value)


@pytest.mark.parametrize("rows", [1, 300])
def test_an_outage_shorter_than_the_timeout_is_not_seen(
    connect: Connect, address: str, reference: Reference, rows: int
) -> None:
    reference.unavailable_first = 3
    client = connect(address, message_bytes=2_000)
    values = [b"%d" % row for row in range(rows)]
    assert client.decrypt(client.encrypt(values)) == values
    assert reference.begun == len(reference.calls) + 3


def test_each_attempt_gets_the_time_that_is_left(connect: Connect, address: str, reference: Reference) -> None:
    reference.unavailable_first = 4
    connect(address, timeout=5.0).encrypt([b"a"])
    assert reference.calls[0].seconds_left < 4.8


def test_a_long_outage_says_where_how_long_and_what_to_check(
    connect: Connect, address: str, reference: Reference
) -> None:
    reference.unavailable_first = 10**6
    began = time.monotonic()
    with pytest.raises(
        sidekey.UnavailableError, match=r"the KMS cannot be reached.*check that it reaches its KMS"
    ) as raised:
        connect(address, timeout=0.5).encrypt([b"a"])
    error = raised.value
    assert 0.4 < time.monotonic() - began < 2
    assert (error.target, error.reason, error.retryable) == (address, "KMS_UNAVAILABLE", True)
    assert error.attempts == reference.begun > 2
    assert 0.4 < error.seconds <= 0.6


def test_an_outage_of_the_kms_that_ends_in_a_hang_says_so(connect: Connect, sidecar: Managed) -> None:
    kms = sidecar.kms
    kms.fail_wrap_with = KmsUnavailableError("the KMS cannot be reached")
    hang = threading.Timer(0.2, lambda: setattr(kms, "gate", asyncio.Event()))
    hang.start()
    try:
        with pytest.raises(sidekey.UnavailableError, match="check that it reaches its KMS") as raised:
            connect(sidecar.address, timeout=3.0).encrypt([b"a"], keyring=f"new-{os.urandom(4).hex()}")
    finally:
        hang.join()
        gate, kms.gate, kms.fail_wrap_with = kms.gate, None, None
        assert gate is not None
        sidecar.loop.call_soon_threadsafe(gate.set)
    assert raised.value.reason == "KMS_UNAVAILABLE"
    assert raised.value.attempts > 1
    assert 2.5 < raised.value.seconds < 10


def test_a_missing_sidecar_is_named_with_what_to_check(connect: Connect, tmp_path: Path) -> None:
    address = f"unix://{tmp_path}/none.sock"
    with pytest.raises(sidekey.UnavailableError, match=r"none\.sock.*sidekey serve") as raised:
        connect(address, timeout=0.3).encrypt([b"a"])
    assert raised.value.reason == ""


def test_a_restarted_sidecar_is_found_again_within_the_timeout(connect: Connect, socket_path: Path) -> None:
    address = f"unix://{socket_path}"
    client = connect(address, timeout=20.0)
    first = serve(address, Reference())
    ciphertexts = client.encrypt([b"a"])
    first.stop(None).wait()
    second: list[grpc.Server] = []
    start = threading.Timer(0.3, lambda: second.append(serve(address, Reference())))
    start.start()
    try:
        assert client.decrypt(ciphertexts) == [b"a"]
    finally:
        start.join()
        second[0].stop(None).wait()


def test_a_slow_sidecar_exceeds_the_deadline(connect: Connect, address: str, reference: Reference) -> None:
    reference.delay = 5.0
    began = time.monotonic()
    with pytest.raises(sidekey.DeadlineExceededError, match=r"within 0\.[23] s") as raised:
        connect(address, timeout=0.2).encrypt([b"a"])
    assert time.monotonic() - began < 2
    assert raised.value.retryable


def test_messages_are_pipelined_within_the_window(connect: Connect, address: str, reference: Reference) -> None:
    reference.delay = 0.05
    client = connect(address, message_bytes=1, max_in_flight=3)
    values = [b"%d" % row for row in range(12)]
    began = time.monotonic()
    client.encrypt(values)
    assert time.monotonic() - began < 12 * 0.05
    assert reference.most_at_once == 3


def test_answers_out_of_order_are_put_in_order(connect: Connect, address: str, reference: Reference) -> None:
    reference.delay_of_call = {0: 0.2, 2: 0.1}
    client = connect(address, message_bytes=1)
    values = [b"%d" % row for row in range(8)]
    ciphertexts = client.encrypt(values, mode="deterministic")
    assert client.decrypt(ciphertexts) == values


def test_when_one_message_fails_the_others_are_cancelled(connect: Connect, address: str, reference: Reference) -> None:
    reference.delay = 5.0
    reference.abort_of_call = {3: (Code.NOT_FOUND, "UNKNOWN_KEYRING", "no such keyring")}
    client = connect(address, message_bytes=1, max_in_flight=4)
    began = time.monotonic()
    with pytest.raises(sidekey.NotFoundError):
        client.encrypt([b"a"] * 50)
    assert time.monotonic() - began < 3
    deadline = time.monotonic() + 5
    while reference.cancelled < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert reference.cancelled == 3
    assert reference.begun == 4


def _with_bad_rows(client: Any, bad: dict[int, bytes], rows: int = 60) -> tuple[list[bytes | None], list[bytes | None]]:
    values: list[bytes | None] = [b"%d" % row for row in range(rows)]
    ciphertexts = client.encrypt(values)
    for row, ciphertext in bad.items():
        ciphertexts[row] = ciphertext
        values[row] = None
    return values, ciphertexts


UNKNOWN = b"\xf8" + b"\x77" * 7 + bytes(16)


def test_bad_rows_raise_with_the_callers_row_numbers(connect: Connect, target: str) -> None:
    client = connect(target, message_bytes=500)
    _, ciphertexts = _with_bad_rows(client, {51: b"no ciphertext"})
    with pytest.raises(sidekey.DecryptionError, match="row 51: MALFORMED") as raised:
        client.decrypt(ciphertexts)
    assert raised.value.rows == (sidekey.RowError(51, "MALFORMED", retryable=False),)
    assert raised.value.code is Code.DATA_LOSS


def test_bad_rows_become_none_and_are_listed_in_order_when_asked(connect: Connect, target: str) -> None:
    client = connect(target, message_bytes=500)
    values, ciphertexts = _with_bad_rows(client, {51: b"no ciphertext", 7: UNKNOWN, 8: b""})
    assert client.decrypt(ciphertexts, on_error="null") == values
    found, errors = client.decrypt_with_errors(ciphertexts)
    assert found == values
    assert [(error.row, error.code) for error in errors] == [(7, "UNKNOWN_KEY"), (8, "MALFORMED"), (51, "MALFORMED")]


def test_other_associated_data_fails_every_row(connect: Connect, target: str) -> None:
    client = connect(target)
    ciphertexts = client.encrypt([b"a", None, b"b"], associated_data=b"one")
    with pytest.raises(sidekey.DecryptionError, match=r"row 0: AUTHENTICATION_FAILED, row 2: AUTHENTICATION_FAILED$"):
        client.decrypt(ciphertexts, associated_data=b"two")


def test_many_bad_rows_are_counted_and_not_all_named(connect: Connect, target: str) -> None:
    with pytest.raises(sidekey.DecryptionError, match="row 4: MALFORMED and 195 more") as raised:
        connect(target).decrypt([b"bad"] * 200)
    assert len(raised.value.rows) == 100


@pytest.mark.parametrize(
    ("code", "kind", "status"),
    [
        (pb.ROW_ERROR_CODE_KEY_DISABLED, sidekey.KeyStateError, Code.FAILED_PRECONDITION),
        (pb.ROW_ERROR_CODE_KEY_DESTROYED, sidekey.KeyStateError, Code.FAILED_PRECONDITION),
        (pb.ROW_ERROR_CODE_WRONG_KEYRING, sidekey.KeyStateError, Code.FAILED_PRECONDITION),
        (pb.ROW_ERROR_CODE_PERMISSION_DENIED, sidekey.PermissionDeniedError, Code.PERMISSION_DENIED),
        (pb.ROW_ERROR_CODE_AUTHENTICATION_FAILED, sidekey.DecryptionError, Code.DATA_LOSS),
        (99, sidekey.DecryptionError, Code.DATA_LOSS),
    ],
)
@pytest.mark.parametrize("method", ["decrypt", "reencrypt"])
def test_a_row_code_decides_the_class_of_the_error(
    connect: Connect,
    address: str,
    reference: Reference,
    method: str,
    code: int,
    kind: type[sidekey.SidekeyError],
    status: Code,
) -> None:
    client = connect(address)
    ciphertexts = client.encrypt([b"a", b"b"])
    reference.row_errors = {1: code}
    with pytest.raises(kind) as raised:
        getattr(client, method)(ciphertexts)
    assert type(raised.value) is kind
    assert raised.value.code is status
    assert raised.value.rows[0].row == 1


def test_an_unavailable_data_key_is_tried_again(connect: Connect, address: str, reference: Reference) -> None:
    client = connect(address)
    ciphertexts = client.encrypt([b"a", b"b"])
    reference.key_unavailable_first = 2
    assert client.decrypt(ciphertexts) == [b"a", b"b"]
    assert reference.begun == 4


def test_a_corrupt_data_key_is_an_operators_and_is_not_tried_again(
    connect: Connect, address: str, reference: Reference
) -> None:
    client = connect(address)
    ciphertexts = client.encrypt([b"a", b"b"])

    def corrupt(answer: Any) -> None:
        answer.values.values[1] = b""
        answer.values.validity = b"\x01"
        answer.row_errors.add(row=1, code=pb.ROW_ERROR_CODE_KEY_UNAVAILABLE, retryable=False)

    reference.tamper = corrupt
    with pytest.raises(sidekey.KeyStateError, match="row 1: KEY_UNAVAILABLE") as raised:
        client.decrypt(ciphertexts)
    assert (raised.value.reason, raised.value.retryable) == ("CORRUPT_KEY", False)
    assert raised.value.code is Code.DATA_LOSS
    assert client.decrypt(ciphertexts, on_error="null") == [b"a", None]
    assert reference.begun == 3


@pytest.mark.parametrize("on_error", ["raise", "null"])
def test_an_outage_of_a_data_key_never_reads_as_a_failed_row(
    connect: Connect, address: str, reference: Reference, on_error: str
) -> None:
    client = connect(address, timeout=0.3)
    ciphertexts = client.encrypt([b"a", b"b"])
    reference.key_unavailable_first = 10**6
    with pytest.raises(sidekey.UnavailableError, match="data key") as raised:
        client.decrypt(ciphertexts, on_error=on_error)
    assert raised.value.reason == "KEY_UNAVAILABLE"


def _drop_a_row(answer: Any) -> None:
    answer.values.values.pop()


def _other_shape(answer: Any) -> None:
    answer.column.byte_width = 3


def _null_a_row(answer: Any) -> None:
    answer.values.validity = b"\x02"


def _short_bitmap(answer: Any) -> None:
    answer.values.validity = b"\xff\xff\xff"


@pytest.mark.parametrize("tamper", [_drop_a_row, _other_shape, _null_a_row, _short_bitmap])
def test_an_answer_that_does_not_fit_is_an_error(
    connect: Connect, address: str, reference: Reference, tamper: Any
) -> None:
    client = connect(address)
    reference.tamper = tamper
    with pytest.raises(sidekey.SidekeyError, match="does not fit the question") as raised:
        client.encrypt([b"a", b"b"])
    assert raised.value.code is Code.INTERNAL


def test_a_row_error_outside_the_batch_does_not_fit(connect: Connect, address: str, reference: Reference) -> None:
    client = connect(address)
    ciphertexts = client.encrypt([b"a"])
    reference.tamper = lambda answer: answer.row_errors.add(row=1, code=1)
    with pytest.raises(sidekey.SidekeyError, match="does not fit the question"):
        client.decrypt(ciphertexts)


def test_errors_pickle_and_copy_whole(connect: Connect, address: str, reference: Reference) -> None:
    reference.unavailable_first = 10**6
    with pytest.raises(sidekey.UnavailableError) as raised:
        connect(address, timeout=0.1).encrypt([b"a"])
    for again in (pickle.loads(pickle.dumps(raised.value)), copy.copy(raised.value)):  # noqa: S301 (our own bytes)
        assert type(again) is sidekey.UnavailableError
        assert str(again) == str(raised.value)
        assert again.__dict__ == raised.value.__dict__


def test_errors_hold_no_values_and_chain_no_foreign_error(connect: Connect, target: str) -> None:
    client = connect(target)
    marker = b"\xf8marker-of-a-value"
    with pytest.raises(sidekey.DecryptionError) as raised:
        client.decrypt([marker])
    error = raised.value
    assert not re.search("marker", f"{error} {error!r} {error.__dict__}")
    assert error.__cause__ is None
    assert error.__context__ is None
