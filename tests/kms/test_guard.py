"""The guard around a provider: cap, pace, deadline, metrics, and errors of ours alone."""

import asyncio
import time
from typing import Any

import pytest
from structlog.testing import capture_logs

from sidecar.errors import (
    CorruptKeyError,
    KmsDeniedError,
    KmsDisabledError,
    KmsThrottledError,
    KmsUnavailableError,
    SidekeyError,
    StartupError,
)
from sidecar.kms.context import encryption_context
from sidecar.kms.guard import GuardedKms
from sidecar.metrics import Metrics
from tests.fakes.kms import FakeKms
from tests.fakes.virtual_time import in_virtual_time

DATA_KEY = bytes(range(32))
CONTEXT = encryption_context("default", "0123456789abcd")


@pytest.fixture
def fake() -> FakeKms:
    return FakeKms()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def guarded(fake: FakeKms, metrics: Metrics) -> GuardedKms:
    return GuardedKms(fake, metrics, max_concurrent_calls=3, deadline_seconds=5.0)


def counted(metrics: Metrics) -> dict[tuple[str, str], float]:
    """How often each operation ended with each result."""
    return {
        (sample.labels["operation"], sample.labels["result"]): sample.value
        for family in metrics.kms_calls.collect()
        for sample in family.samples
        if sample.name.endswith("_total")
    }


async def test_calls_go_through_and_are_counted_and_timed(guarded: GuardedKms, metrics: Metrics) -> None:
    wrapped_key = await guarded.wrap(DATA_KEY, CONTEXT)
    assert await guarded.unwrap(wrapped_key, CONTEXT) == DATA_KEY
    assert counted(metrics) == {("wrap", "ok"): 1, ("unwrap", "ok"): 1}
    for operation in ("wrap", "unwrap"):
        value = metrics.registry.get_sample_value("sidekey_kms_seconds_count", {"kms": "fake", "operation": operation})
        assert value == 1


async def test_it_is_the_provider_to_the_outside(guarded: GuardedKms, fake: FakeKms) -> None:
    await guarded.open()
    assert (guarded.name, guarded.kek_id) == ("fake", "fake:1")
    fake.kek_id = "fake:2"
    assert guarded.kek_id == "fake:2"
    await guarded.close()
    assert (fake.opened, fake.closed) == (1, 1)


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (KmsDeniedError("x"), "denied"),
        (KmsDisabledError("x"), "disabled"),
        (KmsThrottledError("x"), "throttled"),
        (KmsUnavailableError("x"), "unavailable"),
        (CorruptKeyError("x"), "corrupt"),
    ],
)
async def test_the_ports_errors_pass_as_they_are(
    guarded: GuardedKms, fake: FakeKms, metrics: Metrics, error: SidekeyError, result: str
) -> None:
    fake.fail_wrap_with = fake.fail_unwrap_with = error
    with pytest.raises(SidekeyError) as caught:
        await guarded.wrap(DATA_KEY, CONTEXT)
    assert caught.value is error
    with pytest.raises(SidekeyError) as caught:
        await guarded.unwrap(bytes(60), CONTEXT)
    assert caught.value is error
    assert counted(metrics) == {("wrap", result): 1, ("unwrap", result): 1}


@pytest.mark.parametrize(
    "error", [RuntimeError("secret"), KeyError("secret"), StartupError("secret"), OSError("secret")]
)
async def test_any_other_exception_is_an_outage_logged_by_its_type_alone(
    guarded: GuardedKms, fake: FakeKms, metrics: Metrics, error: Exception
) -> None:
    fake.fail_unwrap_with = error
    with capture_logs() as logs, pytest.raises(KmsUnavailableError) as caught:
        await guarded.unwrap(bytes(60), CONTEXT)
    assert [line["error"] for line in logs] == [type(error).__name__]
    assert "secret" not in f"{logs} {caught.value}"
    assert caught.value.__suppress_context__
    assert counted(metrics) == {("unwrap", "error"): 1}


async def test_no_more_calls_run_at_once_than_allowed(guarded: GuardedKms, fake: FakeKms) -> None:
    fake.gate = asyncio.Event()
    calls = [asyncio.create_task(guarded.wrap(DATA_KEY, CONTEXT)) for _ in range(10)]
    await asyncio.sleep(0.02)
    assert fake.running == 3
    fake.gate.set()
    await asyncio.gather(*calls)
    assert fake.wraps == 10
    assert fake.max_running == 3


async def test_a_hanging_kms_is_unavailable_at_the_deadline_for_those_who_wait_in_line_too(
    fake: FakeKms, metrics: Metrics
) -> None:
    guarded = GuardedKms(fake, metrics, max_concurrent_calls=1, deadline_seconds=0.2)
    fake.gate = asyncio.Event()
    started = time.monotonic()
    results = await asyncio.gather(*(guarded.wrap(DATA_KEY, CONTEXT) for _ in range(4)), return_exceptions=True)
    assert 0.19 < time.monotonic() - started < 0.55
    assert all(isinstance(result, KmsUnavailableError) for result in results)
    assert "0.2 seconds" in str(results[0])
    assert counted(metrics) == {("wrap", "unavailable"): 4}


async def test_slots_are_given_back_after_deadlines_and_cancellations(fake: FakeKms, metrics: Metrics) -> None:
    guarded = GuardedKms(fake, metrics, max_concurrent_calls=2, deadline_seconds=0.05)
    fake.gate = asyncio.Event()
    await asyncio.gather(*(guarded.wrap(DATA_KEY, CONTEXT) for _ in range(6)), return_exceptions=True)
    cancelled = asyncio.create_task(guarded.wrap(DATA_KEY, CONTEXT))
    await asyncio.sleep(0.01)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    fake.gate = None
    assert await guarded.unwrap(await guarded.wrap(DATA_KEY, CONTEXT), CONTEXT) == DATA_KEY
    assert fake.running == 0
    assert counted(metrics)["wrap", "cancelled"] == 1


class LyingKms(FakeKms):
    """A provider that answers what it should not."""

    def __init__(self, wrapped_key: object, data_key: object) -> None:
        super().__init__()
        self._answers = wrapped_key, data_key

    async def wrap(self, *_arguments: object) -> bytes:
        return self._answers[0]  # type: ignore[return-value]

    async def unwrap(self, *_arguments: object) -> bytearray:
        return self._answers[1]  # type: ignore[return-value]


async def test_an_empty_wrapped_key_is_never_taken_for_an_answer(metrics: Metrics) -> None:
    guarded = GuardedKms(LyingKms(b"", None), metrics)
    with pytest.raises(KmsUnavailableError):
        await guarded.wrap(DATA_KEY, CONTEXT)
    assert counted(metrics) == {("wrap", "unavailable"): 1}


@pytest.mark.parametrize("size", [0, 31, 33])
async def test_a_data_key_of_another_length_is_corrupt(metrics: Metrics, size: int) -> None:
    guarded = GuardedKms(LyingKms(b"", bytearray(size)), metrics)
    with pytest.raises(CorruptKeyError, match="32 bytes"):
        await guarded.unwrap(b"wrapped", CONTEXT)
    assert counted(metrics) == {("unwrap", "corrupt"): 1}


async def test_an_answer_that_is_no_data_key_at_all_is_an_outage(metrics: Metrics) -> None:
    guarded = GuardedKms(LyingKms(None, None), metrics)
    with pytest.raises(KmsUnavailableError):
        await guarded.unwrap(b"wrapped", CONTEXT)
    with pytest.raises(KmsUnavailableError):
        await guarded.wrap(DATA_KEY, CONTEXT)


async def test_a_provider_that_does_not_open_stops_the_start_in_our_words(guarded: GuardedKms, fake: FakeKms) -> None:
    fake.fail_open_with = StartupError("ours")
    with pytest.raises(StartupError, match="ours"):
        await guarded.open()
    fake.fail_open_with = RuntimeError("secret")
    with pytest.raises(StartupError, match=r"fake does not open \(RuntimeError\)") as caught:
        await guarded.open()
    assert caught.value.__suppress_context__


async def test_a_provider_that_fails_to_close_is_logged_and_does_not_stop_the_end(metrics: Metrics) -> None:
    class Stuck(FakeKms):
        async def close(self) -> None:
            raise RuntimeError("secret")

    with capture_logs() as logs:
        await GuardedKms(Stuck(), metrics).close()
    assert [line["event"] for line in logs] == ["kms_close_failed"]
    assert "secret" not in str(logs)


async def test_calls_are_counted_by_the_name_in_the_configuration(fake: FakeKms, metrics: Metrics) -> None:
    await GuardedKms(fake, metrics, label="awsNear").wrap(DATA_KEY, CONTEXT)
    labels = {"kms": "awsNear", "operation": "wrap"}
    assert metrics.registry.get_sample_value("sidekey_kms_calls_total", labels | {"result": "ok"}) == 1
    assert metrics.registry.get_sample_value("sidekey_kms_seconds_count", labels) == 1


async def test_who_asks_is_told_how_each_call_ended_and_why_in_safe_words(fake: FakeKms, metrics: Metrics) -> None:
    heard: list[tuple[str, str, str]] = []
    guarded = GuardedKms(fake, metrics, on_result=lambda *result: heard.append(result))
    await guarded.wrap(DATA_KEY, CONTEXT)
    for error in (KmsThrottledError("too fast"), RuntimeError("secret")):
        fake.fail_unwrap_with = error
        with pytest.raises((KmsThrottledError, KmsUnavailableError)):
            await guarded.unwrap(bytes(60), CONTEXT)
    fake.gate = asyncio.Event()
    cancelled = asyncio.create_task(guarded.wrap(DATA_KEY, CONTEXT))
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.wait([cancelled])
    assert heard == [
        ("wrap", "ok", ""),
        ("unwrap", "throttled", "too fast"),
        ("unwrap", "error", "the KMS provider fake failed (RuntimeError)"),
        ("wrap", "cancelled", ""),
    ]


@in_virtual_time
async def test_calls_go_out_at_the_pace_that_is_set_after_a_burst_of_one_seconds_worth() -> None:
    fake, loop = FakeKms(), asyncio.get_running_loop()
    guarded = GuardedKms(fake, Metrics(), max_calls_per_second=10, max_concurrent_calls=100, deadline_seconds=60)
    started = loop.time()
    ends: list[float] = []

    async def call() -> None:
        await guarded.wrap(DATA_KEY, CONTEXT)
        ends.append(loop.time() - started)

    await asyncio.gather(*(call() for _ in range(50)))
    assert ends == pytest.approx([max(0, number - 9) / 10 for number in range(50)])
    await asyncio.sleep(3600)
    ends.clear()
    started = loop.time()
    await asyncio.gather(*(call() for _ in range(15)))
    # A long rest saves up no more than a second's worth.
    assert ends == pytest.approx([max(0, number - 9) / 10 for number in range(15)])


@in_virtual_time
async def test_who_does_not_get_its_turn_within_the_deadline_is_refused_and_takes_no_turn() -> None:
    fake, loop = FakeKms(), asyncio.get_running_loop()
    guarded = GuardedKms(fake, Metrics(), max_calls_per_second=2, max_concurrent_calls=100, deadline_seconds=5)
    started = loop.time()
    results = await asyncio.gather(*(guarded.wrap(DATA_KEY, CONTEXT) for _ in range(30)), return_exceptions=True)
    assert loop.time() - started == pytest.approx(5)
    assert fake.wraps in (11, 12)  # two at once, two a second; that of the last moment may come too late
    assert sum(isinstance(result, KmsUnavailableError) for result in results) == 30 - sum(
        isinstance(result, bytes) for result in results
    )
    before = loop.time()
    await guarded.wrap(DATA_KEY, CONTEXT)
    assert loop.time() - before <= 0.5


@in_virtual_time
async def test_a_cap_on_calls_at_once_holds_besides_the_pace() -> None:
    fake = FakeKms()
    fake.delay_seconds = 1.0
    guarded = GuardedKms(fake, Metrics(), max_calls_per_second=100, max_concurrent_calls=3, deadline_seconds=60)
    started = asyncio.get_running_loop().time()
    await asyncio.gather(*(guarded.wrap(DATA_KEY, CONTEXT) for _ in range(12)))
    assert fake.max_running == 3
    assert asyncio.get_running_loop().time() - started == pytest.approx(4)


@pytest.mark.parametrize("pace", [0.0, -1.0, float("inf"), float("nan")])
def test_a_pace_that_is_none_is_refused(fake: FakeKms, metrics: Metrics, pace: float) -> None:
    with pytest.raises(ValueError, match="pace"):
        GuardedKms(fake, metrics, max_calls_per_second=pace)


@pytest.mark.parametrize("limits", [{"max_concurrent_calls": 0}, {"deadline_seconds": 0.0}])
def test_limits_of_nothing_are_refused(fake: FakeKms, metrics: Metrics, limits: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="positive"):
        GuardedKms(fake, metrics, **limits)
