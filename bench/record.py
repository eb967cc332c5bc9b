"""Results as JSON, complete: every repeat, so that other questions can be asked of them later."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from bench.cases import Case
from bench.results import Measurement, Results
from bench.run import ECHO, SIDECAR
from bench.targets import Target

FORMAT = 1


def write(path: Path, results: Results, targets: Sequence[Target], run: Mapping[str, object]) -> None:
    """Write everything to a file, making its directory; ``run`` says when, where and how it was measured."""
    record = {
        "format": FORMAT,
        **run,
        "targets": [{**asdict(target), "reached": target.reached} for target in targets],
        "measurements": [_measurement(found) for found in results.measurements],
        "in_process": [asdict(rate) for rate in results.peers],
        "memory_bytes": {name: asdict(memory) for name, memory in results.memory.items()},
        "over_message_limit": [case.name for case in results.too_long],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _measurement(found: Measurement) -> dict[str, object]:
    return {
        **_case(found.case),
        "in_flight": found.in_flight,
        "rate_to_echo": found.rate_ratio(SIDECAR, ECHO),
        "p50_to_echo": found.p50_ratio(SIDECAR, ECHO),
        "failures": dict(found.failures),
        "contenders": {name: _contender(found, name) for name in found.repeats},
    }


def _contender(found: Measurement, name: str) -> dict[str, object]:
    latency = found.latency(name)
    return {
        "rows_per_second": found.rows_per_second(name),
        "bytes_per_second": found.bytes_per_second(name),
        "p50_seconds": latency and latency[0],
        "p99_seconds": latency and latency[1],
        "repeats": [asdict(repeat) for repeat in found.repeats[name]],
    }


def _case(case: Case) -> dict[str, object]:
    return {
        "case": case.name,
        "direction": case.direction.value,
        "mode": case.mode.value,
        "shape": case.shape.value,
        "size": case.size.name,
        "rows": case.rows,
    }
