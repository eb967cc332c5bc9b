"""Counts what calls do to values; its metrics are looked up once, since a call may hold a single value."""

from collections import Counter
from collections.abc import Iterable
from typing import Literal

from sidecar.crypto.format import RowFailure, Suite
from sidecar.metrics import Metrics

Direction = Literal["encrypt", "decrypt", "reencrypt", "query"]
_DIRECTIONS: tuple[Direction, ...] = ("encrypt", "decrypt", "reencrypt", "query")


class Traffic:
    """Values, bytes and failed rows of one sidecar."""

    def __init__(self, metrics: Metrics) -> None:
        pairs = [(direction, suite) for direction in _DIRECTIONS for suite in Suite]
        self._values = {pair: metrics.values.labels(pair[0], pair[1].name.lower()) for pair in pairs}
        self._bytes = {pair: metrics.value_bytes.labels(pair[0], pair[1].name.lower()) for pair in pairs}
        self._row_errors = metrics.row_errors

    def count(self, direction: Direction, suite: Suite, values: int, data_bytes: int) -> None:
        """Count values that are not NULL, and the bytes of their plaintexts.

        A reencrypted value is counted once, in the mode in which it comes back, a query token for each data key.
        """
        self._values[direction, suite].inc(values)
        self._bytes[direction, suite].inc(data_bytes)

    def count_failures(self, failures: Iterable[RowFailure]) -> None:
        """Count rows that could not be decrypted."""
        for failure, rows in Counter(failures).items():
            self._row_errors.labels(failure.name).inc(rows)
