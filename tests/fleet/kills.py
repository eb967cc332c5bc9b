"""How many kills there are, and when each comes. ``SIDEKEY_SOAK=1`` makes them ten times as many."""

import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import pytest
from _pytest.mark import ParameterSet

from tests.fleet.points import COMMITTING

_TIMES: Final = 10 if os.environ.get("SIDEKEY_SOAK") == "1" else 1


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill."""

    point: str | None
    """Where the worker ends itself; None: it is killed from outside, at a moment that was drawn."""
    passes: int = 1
    """At which passing of the point."""
    after: float = 0.0
    """In [0, 1): the moment, as a fraction of the time that the whole takes."""


def cases(**tests: int) -> list[ParameterSet]:
    """The keystores for parametrization, each as often as there are to be tests of it."""
    return [
        pytest.param(keystore, id=f"{keystore}-{number}")
        for keystore, most in tests.items()
        for number in range(most * _TIMES)
    ]


def kills(
    points: Sequence[str], keystore: str, chance: random.Random, *, count: int, most_passes: int = 1
) -> Iterator[Kill]:
    """The kills of one test: half of them at drawn moments, the others at each of the points in turn."""
    known = [point for point in points if point != COMMITTING or not keystore.startswith("dynamodb")]
    first = chance.randrange(len(known))
    for number in range(count):
        if number % 2:
            yield Kill(known[(first + number // 2) % len(known)], passes=chance.randint(1, most_passes))
        else:
            yield Kill(None, after=chance.random())
