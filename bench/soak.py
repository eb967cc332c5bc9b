"""Load for minutes with cancelled calls and short deadlines among good ones: does the sidecar's memory stay flat?"""

import asyncio
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.progress import Progress

from bench import machine, servers
from bench.load import Load, Tally

SAMPLE_SECONDS = 2.0
TOLERANCE = 0.10
_MEGABYTE = 1_000_000


class SoakError(Exception):
    """The soak proved nothing: too short, or the load was not what it should have been."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The sidecar's memory at one moment."""

    seconds: float
    """Since the load began."""
    resident_bytes: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether memory stayed flat after the warm-up."""

    baseline: float
    """The median of the first quarter after the warm-up, in bytes."""
    lowest: int
    highest: int
    flat: bool
    """Whether no sample was further than the tolerance from the baseline."""


def judge(samples: Sequence[Sample], warm_up_seconds: float) -> Verdict:
    """Compare every sample after the warm-up with the baseline.

    Raises ``SoakError`` where fewer than eight samples are left.
    """
    sizes = [sample.resident_bytes for sample in samples if sample.seconds >= warm_up_seconds]
    if len(sizes) < 8:
        raise SoakError(f"{len(sizes)} samples after the warm-up are too few for a verdict")
    baseline = median(sizes[: len(sizes) // 4])
    lowest, highest = min(sizes), max(sizes)
    flat = baseline * (1 - TOLERANCE) <= lowest and highest <= baseline * (1 + TOLERANCE)
    return Verdict(baseline, lowest, highest, flat)


def warm_up_of(seconds: float) -> float:
    """A fifth of the soak, but never more than a minute."""
    return min(seconds / 5, 60.0)


async def run(console: Console, seconds: float, path: Path, *, echo: bool = False) -> int:
    """Soak a sidecar of its own (or the echo server); 0 where memory stayed flat and no call failed that should not."""
    start = servers.echo if echo else servers.sidecar
    with tempfile.TemporaryDirectory(prefix="sidekey-soak-") as directory, start(Path(directory)) as server:
        samples, tally = await soak(console, server, seconds)
    verdict = judge(samples, warm_up_of(seconds))
    passed = verdict.flat and tally.as_intended
    _write(path, seconds, samples, tally, verdict)
    _print(console, tally, verdict, passed)
    grown = samples[-1].resident_bytes - samples[0].resident_bytes
    console.print(
        f"Grown since the start: {grown / _MEGABYTE:.0f} MB; {grown / max(tally.cut, 1):.0f} bytes a cut call."
    )
    return 0 if passed else 1


async def soak(console: Console, server: servers.Server, seconds: float) -> tuple[list[Sample], Tally]:
    """Load a server and sample its memory for so many seconds."""
    samples: list[Sample] = []
    with Progress(console=console, transient=True, refresh_per_second=2) as progress:
        task = progress.add_task("soaking", total=seconds)

        def show(sample: Sample) -> None:
            samples.append(sample)
            size = f"{sample.resident_bytes / _MEGABYTE:.0f} MB"
            progress.update(task, completed=sample.seconds, description=f"soaking, {size}")

        async with Load(server.target) as load:
            sampling = asyncio.create_task(_sample(server, show))
            try:
                await load.run(seconds)
            finally:
                sampling.cancel()
                with suppress(asyncio.CancelledError):
                    await sampling
    return samples, load.tally


async def _sample(server: servers.Server, show: Callable[[Sample], None]) -> None:
    begin = time.monotonic()
    while True:
        show(Sample(time.monotonic() - begin, server.resident_bytes()))
        await asyncio.sleep(SAMPLE_SECONDS)


def _write(path: Path, seconds: float, samples: Sequence[Sample], tally: Tally, verdict: Verdict) -> None:
    record = {
        "seconds": seconds,
        "machine": machine.describe(),
        "verdict": asdict(verdict),
        "calls": [{"kind": kind, "status": status, "calls": calls} for (kind, status), calls in tally.outcomes.items()],
        "samples": [asdict(sample) for sample in samples],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _print(console: Console, tally: Tally, verdict: Verdict, passed: bool) -> None:
    for (kind, status), calls in sorted(tally.outcomes.items()):
        console.print(f"{calls:>12,}  {kind}: {status}", highlight=False)
    low, high = (size / verdict.baseline - 1 for size in (verdict.lowest, verdict.highest))
    console.print(
        f"Resident memory after the warm-up: {verdict.baseline / _MEGABYTE:.0f} MB, {low:+.1%} to {high:+.1%}: "
        f"{'flat' if verdict.flat else 'not flat'} within {TOLERANCE:.0%}.",
        highlight=False,
    )
    if not tally.as_intended:
        console.print(
            "The load was not as intended: a call failed that should not, or none was cancelled or out of time.",
            style="red",
        )
    console.print("passed" if passed else "failed", style="green" if passed else "red")
