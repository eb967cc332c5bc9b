import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from bench import record, report
from bench.cases import B32, KIB, Case, Direction, Mode, Shape
from bench.inprocess import TINK_SIV
from bench.results import Measurement, Memory, PeerRate, Repeat, Results, percentile
from bench.run import ECHO, LOOP, SIDECAR
from bench.soak import Sample, SoakError, warm_up_of
from bench.soak import judge as judge_soak
from bench.targets import judge

_COLUMN = Case(B32, 10_000, Shape.COLUMN, Mode.DETERMINISTIC, Direction.ENCRYPT)
_VALUES = Case(B32, 1_000, Shape.VALUES, Mode.RANDOMIZED, Direction.DECRYPT)
_SINGLE = Case(B32, 1, Shape.VALUES, Mode.DETERMINISTIC, Direction.ENCRYPT)


def _repeats(*calls: int, p50: float = 0.001) -> list[Repeat]:
    return [Repeat(count, 0.5, p50, p50 * 3) for count in calls]


def _results() -> Results:
    column = {SIDECAR: _repeats(100, 300, 200), ECHO: _repeats(200, 400, 1000), TINK_SIV: _repeats(10, 60, 40)}
    values = {SIDECAR: _repeats(40, 10, 40), ECHO: _repeats(80), LOOP: _repeats(10, 10, 30)}
    single = {SIDECAR: _repeats(9, p50=0.0015), ECHO: _repeats(9, p50=0.001)}
    return Results(
        [
            Measurement(_COLUMN, 4, column, {}),
            Measurement(_VALUES, 4, values, {}),
            Measurement(_SINGLE, 1, single, {}),
            Measurement(_COLUMN, 1, {ECHO: _repeats(5)}, {SIDECAR: "UNAVAILABLE"}),
        ],
        [PeerRate(TINK_SIV, "32B", "encrypt", 1_000_000.0)],
        {SIDECAR: Memory(idle=120_000_000, after=180_000_000)},
        [Case(KIB, 65_536, Shape.COLUMN, mode, Direction.ENCRYPT) for mode in Mode],
    )


@pytest.mark.parametrize(
    ("fraction", "value"), [(0.0, 1.0), (0.5, 50.0), (0.505, 51.0), (0.99, 99.0), (0.991, 100.0), (1.0, 100.0)]
)
def test_a_percentile_is_the_nearest_rank(fraction: float, value: float) -> None:
    assert percentile([float(number) for number in range(1, 101)], fraction) == value


def test_the_percentile_of_one_value_is_that_value() -> None:
    assert percentile([7.0], 0.5) == percentile([7.0], 0.99) == 7.0


def test_rates_are_medians_and_ratios_are_medians_of_neighbours() -> None:
    column = _results().measurements[0]
    assert column.rows_per_second(SIDECAR) == 200 / 0.5 * 10_000
    assert column.bytes_per_second(SIDECAR) == 200 / 0.5 * 10_000 * 32
    # The ratio of the medians would be 0.5 as well for echo, but 5 for Tink.
    assert column.rate_ratio(SIDECAR, ECHO) == 0.5
    assert column.rate_ratio(SIDECAR, TINK_SIV) == 5.0
    assert _results().measurements[1].rate_ratio(SIDECAR, LOOP) == pytest.approx(4 / 3)


def test_what_was_not_measured_has_no_numbers() -> None:
    failed = _results().measurements[3]
    assert failed.rows_per_second(SIDECAR) is None
    assert failed.bytes_per_second(SIDECAR) is None
    assert failed.latency(SIDECAR) is None
    assert failed.rate_ratio(SIDECAR, ECHO) is None
    assert failed.p50_ratio(SIDECAR, ECHO) is None


def test_targets_are_reached_missed_or_not_measured() -> None:
    judged = {(target.what, target.unit): target for target in judge(_results())}
    column = "encrypt deterministic columns, 10,000 rows of 32B, 4 in flight"
    assert judged[column, "of echo"].reached is True
    assert judged[column, f"of {TINK_SIV} in process"].reached is True
    assert (
        judged["decrypt randomized values, 1,000 of 32B, 4 in flight", "of a pyca AESSIV loop in the handler"].reached
        is False
    )
    assert judged["encrypt deterministic, one value of 32B, p50", "of echo"].measured == 1.5
    assert judged["encrypt deterministic, one value of 32B, p50", "of echo"].reached is False
    assert judged["decrypt randomized, one value of 32B, p50", "of echo"].reached is None
    assert judged["resident memory, idle", "MB"].reached is True


def test_every_target_of_the_project_is_judged() -> None:
    assert len(judge(_results())) == 8 + 2 + 4 + 4 + 1


def test_the_report_shows_targets_numbers_failures_and_what_was_left_out() -> None:
    console = Console(width=160, record=True, file=StringIO())
    report.print_report(console, _results(), judge(_results()))
    text = console.export_text()
    assert text.index("## Targets") < text.index("## Latency") < text.index("## Throughput")
    for expected in ("4,000,000", "1.500", "0.50", "UNAVAILABLE", "65,536 rows of 1KiB", "120 MB idle", "not measured"):
        assert expected in text


def test_the_record_holds_every_repeat(tmp_path: Path) -> None:
    path = tmp_path / "made" / "results.json"
    record.write(path, _results(), judge(_results()), {"quick": True})
    found = json.loads(path.read_text())
    first = found["measurements"][0]
    assert found["quick"] is True
    assert first["case"] == _COLUMN.name
    assert first["rate_to_echo"] == 0.5
    assert [repeat["calls"] for repeat in first["contenders"][SIDECAR]["repeats"]] == [100, 300, 200]
    assert found["measurements"][3]["failures"] == {SIDECAR: "UNAVAILABLE"}
    assert found["memory_bytes"][SIDECAR]["after"] == 180_000_000


def _samples(*sizes: int) -> list[Sample]:
    return [Sample(float(second), size) for second, size in enumerate(sizes)]


@pytest.mark.parametrize(
    ("sizes", "flat"),
    [
        ((10, 50, 100, 100, 100, 100, 105, 95, 110, 90), True),
        ((10, 50, 100, 100, 100, 100, 105, 95, 111, 100), False),
        ((10, 50, 100, 100, 100, 100, 105, 95, 110, 89), False),
    ],
)
def test_a_soak_is_flat_when_no_sample_after_the_warm_up_strays_from_the_baseline(
    sizes: tuple[int, ...], flat: bool
) -> None:
    verdict = judge_soak(_samples(*sizes), warm_up_seconds=2.0)
    assert verdict.baseline == 100
    assert verdict.flat is flat


def test_a_soak_that_is_too_short_has_no_verdict() -> None:
    with pytest.raises(SoakError, match="too few"):
        judge_soak(_samples(*[100] * 9), warm_up_seconds=2.0)


def test_the_warm_up_is_a_fifth_but_never_more_than_a_minute() -> None:
    assert (warm_up_of(60), warm_up_of(600)) == (12, 60)
