import numpy as np
import pytest
from sidekey.v1 import encryption_pb2 as pb

from bench import wire
from bench.cases import (
    B32,
    KIB,
    MESSAGE_LIMIT,
    RAGGED,
    ROWS,
    SIZES,
    Case,
    Direction,
    Mode,
    Shape,
    Size,
    grid,
    quick_grid,
    rows_of,
    select,
)
from bench.run import is_loop_case, is_tink_case
from bench.targets import COLUMN_TARGETS


def test_the_grid_holds_every_combination_once() -> None:
    cases = list(grid())
    assert len(cases) == len(set(cases)) == len(ROWS) * len(SIZES) * 2 * 2 * 2
    assert len({case.name for case in cases}) == len(cases)


def test_only_the_largest_batch_of_the_largest_values_is_too_long_to_send() -> None:
    fits, too_long = select(grid(), None)
    assert {(case.rows, case.size) for case in too_long} == {(65_536, KIB)}
    assert len(fits) + len(too_long) == len(list(grid()))


@pytest.mark.parametrize("shape", Shape)
@pytest.mark.parametrize("size", [B32, RAGGED, KIB])
def test_no_request_is_longer_than_its_case_says(shape: Shape, size: Size) -> None:
    case = Case(size, 3_000, shape, Mode.RANDOMIZED, Direction.ENCRYPT)
    asked = wire.encrypt_request(case)
    assert asked.ByteSize() <= case.message_bytes <= MESSAGE_LIMIT


def test_the_quick_grid_is_a_part_of_the_grid_and_holds_every_target() -> None:
    quick = set(quick_grid())
    assert quick < set(grid())
    for mode, size, _ in COLUMN_TARGETS:
        assert {Case(size, 10_000, Shape.COLUMN, mode, direction) for direction in Direction} <= quick
    assert {Case(B32, 1, Shape.VALUES, mode, direction) for mode in Mode for direction in Direction} <= quick
    assert sum(map(is_tink_case, quick)) == 2
    assert sum(map(is_loop_case, quick)) == 4


@pytest.mark.parametrize(
    ("pattern", "count"),
    [("*/1KiB/65536", 0), ("encrypt/deterministic/column/32B/10000", 1), ("*/32B/1", 8), ("randomized", 92)],
)
def test_a_pattern_selects_by_name(pattern: str, count: int) -> None:
    fits, _ = select(grid(), pattern)
    assert len(fits) == count


@pytest.mark.parametrize("size", SIZES)
def test_rows_are_the_same_each_time_and_as_long_as_their_size(size: Size) -> None:
    once, again = rows_of(size, 500), rows_of(size, 500)
    lengths = np.diff(once.offsets)
    assert once.data == again.data
    assert (lengths.min(), lengths.max()) == (size.shortest, size.longest)
    assert [len(value) for value in once.values] == lengths.tolist()
    assert b"".join(once.values) == once.data


def _answer(case: Case, grow: int) -> wire.Batch:
    rows = rows_of(case.size, case.rows)
    offsets = rows.offsets + np.arange(case.rows + 1, dtype="<i4") * np.int32(grow)
    return {"column": pb.ColumnBatch(data=bytes(int(offsets[-1])), offsets=offsets.astype("<i4").tobytes())}


def test_an_answer_of_the_right_sizes_passes_and_any_other_is_refused() -> None:
    case = Case(RAGGED, 50, Shape.COLUMN, Mode.RANDOMIZED, Direction.ENCRYPT)
    wire.check_sizes(case, Direction.ENCRYPT, _answer(case, 40))
    with pytest.raises(wire.WrongAnswerError, match="wrong length"):
        wire.check_sizes(case, Direction.ENCRYPT, _answer(case, 24))
    with pytest.raises(wire.WrongAnswerError, match="another shape"):
        wire.check_sizes(case, Direction.ENCRYPT, {"values": pb.ValueBatch()})
    short = _answer(case, 40)
    short["column"].data = short["column"].data[:-1]
    with pytest.raises(wire.WrongAnswerError, match="do not cover"):
        wire.check_sizes(case, Direction.ENCRYPT, short)


def test_a_plaintext_of_the_right_sizes_and_the_wrong_bytes_is_refused() -> None:
    case = Case(B32, 50, Shape.VALUES, Mode.RANDOMIZED, Direction.DECRYPT)
    right = wire.plaintext_batch(case)
    wire.check_plaintext(case, right)
    right["values"].values[49] = bytes(32)
    with pytest.raises(wire.WrongAnswerError, match="is not what was encrypted"):
        wire.check_plaintext(case, right)
