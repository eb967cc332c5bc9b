"""Every fault, done to real processes in every situation; what is met is what is declared, and nothing is lost."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiobotocore.session import get_session  # type: ignore[import-untyped]

from tests.faults import settings
from tests.faults.breaking import FaultyKms, Knob, faulty_kms, faulty_postgres
from tests.faults.expected import (
    LONGEST_CALL_SECONDS,
    OF_POSTGRESQL,
    RECOVERY_SECONDS,
    STALE,
    Fault,
    Situation,
    expected,
)
from tests.faults.measuring import Measured, Rewrap, measure
from tests.faults.plant import Plant, plant
from tests.kms.moto import REGION, aws_environment, moto_server

__all__ = ["aws_environment", "moto_server"]

Record = Callable[[str, object], None]
_DEFECTS = {"call_defect", "fetch_defect", "kms_provider_defect", "library_message", "upkeep_defect"}
"""Events that no fault from outside may cause."""


@contextlib.asynccontextmanager
async def _under(fault: Fault, kms: FaultyKms, directory: Path) -> AsyncIterator[tuple[str, Knob]]:
    """The URL of the keystore, and the fault's knob."""
    if fault not in OF_POSTGRESQL:
        yield settings.sqlite_url(directory), kms
        return
    async with faulty_postgres(fault) as (url, knob):
        yield url, knob


async def _wrapping_keys(moto: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two blocks of a configuration, each of a wrapping key of its own."""
    async with get_session().create_client("kms", region_name=REGION, endpoint_url=moto) as client:
        made = [(await client.create_key())["KeyMetadata"]["KeyId"] for _ in range(2)]
    one, two = ({"plugin": "awsKms", "isKms": True, "keyId": key_id, "region": REGION} for key_id in made)
    return one, two


def _holds(situation: Situation, fault: Fault, measured: Measured, record: Record) -> None:
    declared = expected(situation, fault)
    told = (measured.encrypt, measured.decrypt, measured.ready, measured.late)
    assert told == (declared.encrypt, declared.decrypt, declared.ready, 0), (situation, measured)
    assert set(declared.events) <= measured.events, (situation, measured)
    if situation is Situation.REWRAPPING:
        assert measured.work == declared.work
    assert declared.until != STALE or measured.stale > 0, (situation, measured)
    assert measured.slowest_seconds < LONGEST_CALL_SECONDS, (situation, measured)
    assert measured.seconds_to_recover is not None, (situation, measured)
    assert measured.seconds_to_recover < RECOVERY_SECONDS, (situation, measured)
    record(situation.value, f"{measured.slowest_seconds:.1f} s | {measured.seconds_to_recover:.1f} s")


async def _nothing_is_lost(it: Plant) -> None:
    """Whoever encrypted it, and whatever has become of its data key since."""
    for process in (it.steady, it.brief):
        await it.ledger.decrypt(process.caller, settings.SHARED, settings.REFRESHED, settings.ROLLING)
        # What it still has to tell the keystore goes by what this event loop serves.
        await asyncio.to_thread(process.served.stop)
        assert not process.events(0) & _DEFECTS


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.usefixtures("aws_environment")
async def test_every_situation_meets_what_is_declared_and_nothing_is_lost(
    fault: Fault, moto_server: str, tmp_path: Path, record_property: Record
) -> None:
    first, second = await _wrapping_keys(moto_server)
    async with (
        faulty_kms(moto_server, fault) as kms,
        faulty_kms(moto_server, fault) as way_of_rewrap,
        _under(fault, kms, tmp_path) as (url, knob),
        plant(tmp_path, first, url, kms.environment()) as it,
    ):
        rewrap = None if fault in OF_POSTGRESQL else Rewrap(it, fault, way_of_rewrap, second)
        for situation, measured in (await measure(it, knob, fault, rewrap)).items():
            _holds(situation, fault, measured, record_property)
        await _nothing_is_lost(it)
