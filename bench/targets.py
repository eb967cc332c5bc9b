"""What the sidecar must reach, and whether it did. Pure arithmetic on results."""

from collections.abc import Iterator
from dataclasses import dataclass

from bench.cases import B32, RAGGED, Case, Direction, Mode, Shape, Size
from bench.inprocess import TINK_SIV
from bench.results import Results
from bench.run import ECHO, LOOP, SIDECAR

MEGABYTE = 1_000_000

COLUMN_TARGETS = (
    (Mode.DETERMINISTIC, B32, 0.5),
    (Mode.DETERMINISTIC, RAGGED, 0.35),
    (Mode.RANDOMIZED, B32, 0.4),
    (Mode.RANDOMIZED, RAGGED, 0.3),
)
"""At least so much of echo's rows a second, 10,000 rows a column, 4 calls in flight."""


@dataclass(frozen=True, slots=True)
class Target:
    """One promise and what became of it."""

    what: str
    bound: float
    at_most: bool
    """Whether the bound is the most or the least that is right."""
    unit: str
    measured: float | None
    """None where the run did not measure it, or it failed."""

    @property
    def reached(self) -> bool | None:
        """None where there is nothing to judge."""
        if self.measured is None:
            return None
        return self.measured <= self.bound if self.at_most else self.measured >= self.bound


def judge(results: Results) -> list[Target]:
    """Every target, reached or not or not measured."""
    return [*_columns(results), *_tink(results), *_values(results), *_single_values(results), *_memory(results)]


def _columns(results: Results) -> Iterator[Target]:
    for mode, size, bound in COLUMN_TARGETS:
        for direction in Direction:
            found = results.find(_column(size, mode, direction), 4)
            ratio = found.rate_ratio(SIDECAR, ECHO) if found else None
            yield Target(
                f"{direction} {mode} columns, 10,000 rows of {size.name}, 4 in flight", bound, False, "of echo", ratio
            )


def _tink(results: Results) -> Iterator[Target]:
    for direction in Direction:
        found = results.find(_column(B32, Mode.DETERMINISTIC, direction), 4)
        ratio = found.rate_ratio(SIDECAR, TINK_SIV) if found else None
        what = f"{direction} deterministic columns, 10,000 rows of 32B, 4 in flight"
        yield Target(what, 5, False, f"of {TINK_SIV} in process", ratio)


def _values(results: Results) -> Iterator[Target]:
    for mode in Mode:
        for direction in Direction:
            found = results.find(Case(B32, 1_000, Shape.VALUES, mode, direction), 4)
            ratio = found.rate_ratio(SIDECAR, LOOP) if found else None
            what = f"{direction} {mode} values, 1,000 of 32B, 4 in flight"
            yield Target(what, 2, False, "of a pyca AESSIV loop in the handler", ratio)


def _single_values(results: Results) -> Iterator[Target]:
    for mode in Mode:
        for direction in Direction:
            found = results.find(Case(B32, 1, Shape.VALUES, mode, direction), 1)
            ratio = found.p50_ratio(SIDECAR, ECHO) if found else None
            yield Target(f"{direction} {mode}, one value of 32B, p50", 1.4, True, "of echo", ratio)


def _memory(results: Results) -> Iterator[Target]:
    memory = results.memory.get(SIDECAR)
    idle = memory.idle / MEGABYTE if memory else None
    yield Target("resident memory, idle", 150, True, "MB", idle)


def _column(size: Size, mode: Mode, direction: Direction) -> Case:
    return Case(size, 10_000, Shape.COLUMN, mode, direction)
