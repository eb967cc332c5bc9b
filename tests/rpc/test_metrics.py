"""The metrics after traffic that is known to the last value, by the names and labels that dashboards are built on."""

import time
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from sidekey.v1 import encryption_pb2 as pb

import sidecar as package
from sidecar.composition import Sidecar
from sidecar.config import load
from tests.fakes.kms import FakeKms
from tests.rpc.batches import Row, fixed, ragged, rows_of, values
from tests.rpc.running import Running, refusal, running

FAMILIES = {
    "sidekey_build_info": "gauge",
    "sidekey_bytes_in_flight": "gauge",
    "sidekey_cache_evictions": "counter",
    "sidekey_cache_lookups": "counter",
    "sidekey_cache_refreshes": "counter",
    "sidekey_cache_size": "gauge",
    "sidekey_cache_stale": "gauge",
    "sidekey_call_seconds": "histogram",
    "sidekey_calls": "counter",
    "sidekey_calls_in_flight": "gauge",
    "sidekey_corrupt_data_keys": "counter",
    "sidekey_data_keys_made": "counter",
    "sidekey_incomplete_data_keys": "gauge",
    "sidekey_keystore_errors": "counter",
    "sidekey_kms_calls": "counter",
    "sidekey_kms_seconds": "histogram",
    "sidekey_next_rollover_timestamp_seconds": "gauge",
    "sidekey_primary_age_seconds": "gauge",
    "sidekey_primary_created_timestamp_seconds": "gauge",
    "sidekey_rollover_overdue": "gauge",
    "sidekey_rollovers": "counter",
    "sidekey_row_errors": "counter",
    "sidekey_value_bytes": "counter",
    "sidekey_values": "counter",
}


async def test_every_family_is_there_under_its_name_with_help(sidecar: Running) -> None:
    _, text = await sidecar.page("/metrics")
    families = list(text_string_to_metric_families(text))
    assert {family.name: family.type for family in families} == FAMILIES
    assert all(family.documentation for family in families)


async def test_values_and_bytes_are_counted_by_direction_and_mode_and_nulls_are_not(sidecar: Running) -> None:
    caller = sidecar.caller
    rows: list[Row] = [b"four", None, b"", b"seven77"]
    mixed: list[Row] = []
    for batch in (values(*rows), ragged(*rows), values(*rows * 10)):
        mixed += rows_of(await caller.encrypt(batch))
    mixed += rows_of(await caller.encrypt(fixed(b"12345678", None, b"12345678", width=8), mode=pb.MODE_DETERMINISTIC))
    assert await sidecar.metric("sidekey_values_total", direction="encrypt", mode="randomized") == 36
    assert await sidecar.metric("sidekey_value_bytes_total", direction="encrypt", mode="randomized") == 132
    assert await sidecar.metric("sidekey_values_total", direction="encrypt", mode="deterministic") == 2
    assert await sidecar.metric("sidekey_value_bytes_total", direction="encrypt", mode="deterministic") == 16
    answer = await caller.decrypt(ragged(*mixed, b"no ciphertext"), on_error=pb.ON_ERROR_REPORT)
    assert len(answer.row_errors) == 1
    assert await sidecar.metric("sidekey_values_total", direction="decrypt", mode="randomized") == 36
    assert await sidecar.metric("sidekey_value_bytes_total", direction="decrypt", mode="randomized") == 132
    assert await sidecar.metric("sidekey_values_total", direction="decrypt", mode="deterministic") == 2
    assert await sidecar.metric("sidekey_value_bytes_total", direction="decrypt", mode="deterministic") == 16
    assert await sidecar.metric("sidekey_row_errors_total", code="MALFORMED") == 1


async def test_a_fixed_width_column_counts_its_values_alone(sidecar: Running) -> None:
    caller = sidecar.caller
    sealed = await caller.encrypt(fixed(b"12345678", None, b"12345678", width=8))
    await caller.decrypt(sealed.column)
    for direction in ("encrypt", "decrypt"):
        assert await sidecar.metric("sidekey_values_total", direction=direction, mode="randomized") == 2
        assert await sidecar.metric("sidekey_value_bytes_total", direction=direction, mode="randomized") == 16


async def test_calls_are_counted_by_method_and_status_and_timed(sidecar: Running) -> None:
    caller = sidecar.caller
    await caller.still_serves()
    await caller.still_serves()
    await refusal(caller.encrypt(None))
    await refusal(caller.decrypt(values(b"noise")))
    await refusal(caller.raw("/sidekey.v1.EncryptionService/Unheard", b""))
    samples = {key: value for key, value in (await sidecar.metrics()).items() if key[0] == "sidekey_calls_total"}
    assert {tuple(sorted(dict(labels).items())): value for (_, labels), value in samples.items() if value} == {
        (("method", "Encrypt"), ("status", "OK")): 2,
        (("method", "Decrypt"), ("status", "OK")): 2,
        (("method", "Encrypt"), ("status", "INVALID_ARGUMENT")): 1,
        (("method", "Decrypt"), ("status", "DATA_LOSS")): 1,
    }
    assert await sidecar.metric("sidekey_call_seconds_count", method="Encrypt") == 3
    assert 0 < await sidecar.metric("sidekey_call_seconds_sum", method="Decrypt") < 10


async def test_the_kms_the_cache_and_the_primary_are_in_the_metrics(tmp_path: Path) -> None:
    kms = FakeKms()
    began = time.time()
    async with running(tmp_path, {"schedule.dataKeyRollOverLength": 30.0}, kms=kms) as it:
        for _ in range(3):
            await it.caller.still_serves()
        asked = {
            name: await it.metric("sidekey_kms_calls_total", kms="fake", operation=name, result="ok")
            for name in _OPERATIONS
        }
        assert asked == {"wrap": kms.wraps, "unwrap": kms.unwraps}
        assert await it.metric("sidekey_kms_seconds_count", kms="fake", operation="wrap") == kms.wraps
        assert await it.metric("sidekey_cache_size") == 1
        hits = await it.metric("sidekey_cache_lookups_total", result="hit")
        for _ in range(3):
            await it.caller.still_serves()
        assert await it.metric("sidekey_cache_lookups_total", result="hit") == hits + 6
        assert await it.metric("sidekey_cache_lookups_total", result="miss") == 0  # it was put there when it was made
        created = await it.metric("sidekey_primary_created_timestamp_seconds", keyring="default")
        assert began - 1 < created < time.time() + 1
        assert 0 <= await it.metric("sidekey_primary_age_seconds", keyring="default") < 60
        due = await it.metric("sidekey_next_rollover_timestamp_seconds", keyring="default")
        assert abs(due - created - 30 * 86_400) < 1
        assert await it.metric("sidekey_data_keys_made_total", cause="first") == 1
        assert await it.metric("sidekey_rollovers_total", result="made") == 0
        assert await it.metric("sidekey_rollover_overdue", keyring="default") == 0
        assert await it.metric("sidekey_build_info", version=package.__version__, kms="fake") == 1


_OPERATIONS = ("wrap", "unwrap")


async def test_callers_cannot_make_labels(sidecar: Running) -> None:
    before = set(await sidecar.metrics())
    for method in ("/sidekey.v1.EncryptionService/Marked", "/marked.Service/Encrypt"):
        await refusal(sidecar.caller.raw(method, b""))
    await refusal(sidecar.caller.encrypt(values(b"v"), keyring="Marked Name"))
    await refusal(sidecar.caller.decrypt(values(b"v"), keyring="marked-name"))
    assert "marked" not in str(set(await sidecar.metrics()) - before).lower()


async def test_no_http_address_is_open_unless_one_is_configured(tmp_path: Path) -> None:
    sidecar = Sidecar(load(None, {}, {"dataDir": str(tmp_path)}))
    try:
        _, http = await sidecar.start()
        assert http is None
    finally:
        await sidecar.close()
