"""How a batch of any length is cut into messages. Knows rows and their costs, not what is in them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator

MESSAGE_BYTES = 768 * 2**10
"""What one message aims at: large enough to hide a call's cost, small enough to pipeline."""

MAX_MESSAGE_BYTES = 15 * 2**20
"""What a message may aim at: the sidecar's limit of 16 MiB less associated data, names and framing."""

MAX_ROWS = 2**20
MAX_VALUE_BYTES = 8 * 2**20
MAX_ASSOCIATED_DATA_BYTES = 64 * 2**10

DETERMINISTIC_OVERHEAD = 24
RANDOMIZED_OVERHEAD = 40

ROW_FRAMING = 6
"""Upper bound of what a row costs beside its bytes: tag and length, or an offset, and a bit of validity."""


def split(rows: int, cost: Callable[[int], int], message_bytes: int, *, start: int = 0) -> Iterator[tuple[int, int]]:
    """Cut rows start..rows into ranges of at most ``message_bytes`` and ``MAX_ROWS``, but of at least one row each.

    ``cost(i)`` is what the first ``i`` rows cost together, in bytes; it never falls.
    """
    while start < rows:
        limit = cost(start) + message_bytes
        stop = bisect_right(range(rows + 1), limit, lo=start + 1, hi=min(rows, start + MAX_ROWS) + 1, key=cost) - 1
        stop = max(stop, start + 1)
        yield start, stop
        start = stop
