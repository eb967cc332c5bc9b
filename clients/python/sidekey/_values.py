"""Lists of bytes and None, to and from the contract's ValueBatch; needs nothing but Python."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate

from sidekey import _plan
from sidekey._exchange import Answer, too_large, unfit
from sidekey._terms import Query, Terms
from sidekey.v1 import encryption_pb2 as pb

Values = list[bytes | None]


class _Sent:
    """The rows of one operation on a list, on their way out.

    Raises TypeError naming the first row that is neither bytes nor None, InvalidArgumentError naming the first that is
    too long.
    """

    def __init__(self, values: Iterable[bytes | None], terms: Terms | Query) -> None:
        self._values = _checked(values)
        lengths = [0 if value is None else len(value) for value in self._values]
        limit = terms.max_value_bytes
        if lengths and max(lengths) > limit:
            row = next(row for row, length in enumerate(lengths) if length > limit)
            raise too_large(row, lengths[row], limit)
        per_row = terms.overhead + _plan.ROW_FRAMING
        self._costs = list(accumulate((length + per_row for length in lengths), initial=0))

    @property
    def rows(self) -> int:
        return len(self._values)

    def cost(self, rows: int) -> int:
        return self._costs[rows]

    def batch(self, start: int, stop: int) -> pb.ValueBatch:
        values = self._values[start:stop]
        if None not in values:
            return pb.ValueBatch(values=values)  # type: ignore[arg-type]
        return pb.ValueBatch(values=[value or b"" for value in values], validity=_bitmap(values))

    def _answered(self, start: int, stop: int, answer: Answer | pb.KeyTokens, failed: Sequence[int]) -> Values:
        """The values of an answer. Raises SidekeyError where they do not fit what was sent."""
        if answer.WhichOneof("batch") != "values" or len(answer.values.values) != stop - start:
            raise unfit("another shape, or another number of rows")
        values: Values = list(answer.values.values)
        sent = self._values[start:stop]
        expected = [row for row, value in enumerate(sent) if value is None] if None in sent else []
        nulls = _nulls(answer.values.validity, stop - start)
        if nulls != sorted({*expected, *failed}):
            raise unfit("other rows are NULL")
        for row in nulls:
            values[row] = None
        return values


class ValueList(_Sent):
    """The rows of one operation on a list; see ``Payload``. Raises as ``_Sent``."""

    def __init__(self, values: Iterable[bytes | None], terms: Terms) -> None:
        super().__init__(values, terms)
        self._answers: dict[int, Values] = {}

    def accept(self, start: int, stop: int, answer: Answer, failed: Sequence[int]) -> None:
        self._answers[start] = self._answered(start, stop, answer, failed)

    def result(self) -> Values:
        return [value for start in sorted(self._answers) for value in self._answers[start]]


class TokenList(_Sent):
    """The rows of one question for query tokens; see ``TokenPayload``. Raises as ``_Sent``."""

    def __init__(self, values: Iterable[bytes | None], terms: Query) -> None:
        super().__init__(values, terms)
        self._answers: dict[int, list[list[bytes] | None]] = {}

    def accept(self, start: int, stop: int, answer: pb.QueryTokensResponse) -> None:
        by_key = [self._answered(start, stop, tokens, ()) for tokens in answer.tokens]
        self._answers[start] = [
            None if value is None else [tokens[row] or b"" for tokens in by_key]
            for row, value in enumerate(self._values[start:stop])
        ]

    def result(self) -> list[list[bytes] | None]:
        return [tokens for start in sorted(self._answers) for tokens in self._answers[start]]


def _checked(values: Iterable[bytes | None]) -> Values:
    if isinstance(values, bytes | bytearray | memoryview | str):
        raise TypeError(f"values is one {type(values).__name__}; pass a list of bytes or None, for example [value]")
    checked = list(values)
    for row, value in enumerate(checked):
        if value is not None and not isinstance(value, bytes):
            raise TypeError(f"row {row} is {type(value).__name__}, not bytes or None; {_hint(value)}")
    return checked


def _hint(value: object) -> str:
    if isinstance(value, str):
        return "text goes as value.encode()"
    if isinstance(value, bytearray | memoryview):
        return "pass bytes(value)"
    return "numbers and dates go as Arrow arrays, by encrypt_array"


def _bitmap(values: Values) -> bytes:
    """Bit i is set where row i is not None, least significant bit first."""
    bits = "".join("0" if value is None else "1" for value in reversed(values))
    return int(bits, 2).to_bytes((len(values) + 7) // 8, "little")


def _nulls(validity: bytes, rows: int) -> list[int]:
    """The rows that a bitmap marks NULL. Raises SidekeyError where its length does not fit."""
    if not validity:
        return []
    if len(validity) != (rows + 7) // 8:
        raise unfit("a validity bitmap of another length")
    bits = format(int.from_bytes(validity, "little"), f"0{len(validity) * 8}b")[::-1]
    return [row for row in range(rows) if bits[row] == "0"]
