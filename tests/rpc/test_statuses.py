"""The table from the taxonomy of errors to statuses: complete, and on the wire what it says."""

from pathlib import Path

import grpc
import pytest
from sidekey.v1 import encryption_pb2 as pb

from sidecar import errors
from sidecar.crypto.format import RowFailure
from sidecar.rpc.statuses import INTERNAL_TEXT, STATUS_OF
from tests.fakes.keystore import MemoryKeystore
from tests.fakes.kms import FakeKms
from tests.rpc.batches import values
from tests.rpc.running import Refusal, refusal, running

PUBLIC = {
    "INVALID_ARGUMENT": {"INVALID_REQUEST", "INVALID_BATCH", "VALUE_TOO_LARGE", "UNKNOWN_MODE", "MODE_NOT_ALLOWED"},
    "NOT_FOUND": {"UNKNOWN_KEYRING", "NO_SUCH_KEY"},
    "FAILED_PRECONDITION": {
        *("KEY_DISABLED", "KEY_DESTROYED", "KMS_KEY_DISABLED", "WRONG_KEYRING", "STATE_TRANSITION", "KEYRING_EXISTS"),
    },
    "DATA_LOSS": {"DECRYPT_FAILED", "UNKNOWN_KEY", "CORRUPT_KEY"},
    "PERMISSION_DENIED": {"KMS_ACCESS_DENIED", "MANAGEMENT_OFF"},
    "RESOURCE_EXHAUSTED": {"LIMIT_EXCEEDED"},
    "UNAVAILABLE": {
        *("KEY_UNAVAILABLE", "KMS_THROTTLED", "KMS_UNAVAILABLE", "KEYSTORE_UNAVAILABLE", "DRAINING"),
    },
    "INTERNAL": {"STARTUP", "SELF_TEST_FAILED", "INTERNAL"},
}
"""What callers build on: a status or a reason that changes here breaks somebody."""


def _taxonomy() -> set[type[errors.SidekeyError]]:
    found = {thing for thing in vars(errors).values() if isinstance(thing, type)}
    return {kind for kind in found if issubclass(kind, errors.SidekeyError)}


def test_every_error_of_the_taxonomy_has_its_own_row() -> None:
    assert set(STATUS_OF) == _taxonomy()


def test_statuses_and_reasons_are_those_that_callers_build_on() -> None:
    of_code: dict[str, set[str]] = {}
    for kind, code in STATUS_OF.items():
        of_code.setdefault(code.name, set()).add(kind.reason)
    assert of_code == PUBLIC


def test_every_reason_names_one_error() -> None:
    reasons = [kind.reason for kind in _taxonomy()]
    assert len(set(reasons)) == len(reasons)


def test_row_failures_are_numbered_as_the_contract_numbers_them() -> None:
    contract = {name.removeprefix("ROW_ERROR_CODE_"): number for name, number in pb.RowErrorCode.items()}
    ours = {failure.name: failure.value for failure in RowFailure}
    assert contract.pop("UNSPECIFIED") == 0
    assert ours.pop("KEY_CORRUPT") not in contract.values()
    assert ours == contract


@pytest.mark.parametrize(("kind", "code"), STATUS_OF.items(), ids=lambda it: getattr(it, "__name__", ""))
async def test_each_error_reaches_the_caller_as_its_row_says(
    tmp_path: Path, kind: type[errors.SidekeyError], code: grpc.StatusCode
) -> None:
    keystore = MemoryKeystore()
    async with running(tmp_path, {"keyrings": {"*": {}}}, kms=FakeKms(), keystore=keystore) as it:
        keystore.fail_with = kind("what went wrong, in our words")
        refused = await refusal(it.caller.encrypt(values(b"v"), keyring="broken"))
        keystore.fail_with = None
        if code is grpc.StatusCode.INTERNAL:
            assert refused == Refusal(code, "INTERNAL", INTERNAL_TEXT)
        else:
            assert refused == Refusal(code, kind.reason, "what went wrong, in our words")
        assert await it.metric("sidekey_calls_total", method="Encrypt", status=code.name) == 1
        await it.caller.serves_again()


async def test_an_error_with_the_words_of_others_is_not_among_ours(tmp_path: Path) -> None:
    """A subclass that somebody adds without a row is a defect, and says nothing."""

    class NewError(errors.SidekeyError):
        reason = "NEW"

    keystore = MemoryKeystore()
    async with running(tmp_path, kms=FakeKms(), keystore=keystore) as it:
        keystore.fail_with = NewError("never shown")
        refused = await refusal(it.caller.encrypt(values(b"v")))
        assert refused == Refusal(grpc.StatusCode.INTERNAL, "INTERNAL", INTERNAL_TEXT)
