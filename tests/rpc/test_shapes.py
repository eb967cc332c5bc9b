"""Every answer has the shape of its question: the same kind of batch, as many rows, in the same order, NULLs where they
were."""

import pytest
from sidekey.v1 import encryption_pb2 as pb

from tests.rpc import batches
from tests.rpc.batches import Row, fixed, ragged, rows_of, values
from tests.rpc.running import Batch, Caller

MODES = pytest.mark.parametrize(
    ("mode", "overhead", "suite"),
    [(pb.MODE_RANDOMIZED, 40, 0xF9), (pb.MODE_DETERMINISTIC, 24, 0xF8), (pb.MODE_UNSPECIFIED, 40, 0xF9)],
    ids=["randomized", "deterministic", "unspecified"],
)
RAGGED: tuple[Row, ...] = (b"a", None, b"", b"\x00\xff" * 40, None, b"b", b"c" * 5000, b"", None)
FIXED: tuple[Row, ...] = (b"abcd", None, b"\0\0\0\0", b"wxyz", None, b"abcd", b"1234", b"5678", None, b"last")

SHAPES = pytest.mark.parametrize(
    ("batch", "rows"),
    [
        (values(*RAGGED), RAGGED),
        (ragged(*RAGGED), RAGGED),
        (fixed(*FIXED, width=4), FIXED),
        (values(b"one"), (b"one",)),
        (ragged(b"one"), (b"one",)),
        (fixed(b"one", width=3), (b"one",)),
        (values(), ()),
        (ragged(), ()),
        (fixed(width=4), ()),
        (pb.ColumnBatch(), ()),
        (values(None, None, None), (None,) * 3),
        (ragged(*[None] * 9), (None,) * 9),
        (fixed(*[None] * 3, width=4), (None,) * 3),
        (values(*[b""] * 70), (b"",) * 70),
        (ragged(*[b""] * 70), (b"",) * 70),
    ],
    ids=[
        *("values", "ragged", "fixed", "one value", "one ragged row", "one fixed row"),
        *("no values", "no ragged rows", "no fixed rows", "empty column"),
        *("all-NULL values", "all-NULL ragged", "all-NULL fixed", "empty values", "empty ragged rows"),
    ],
)


@SHAPES
@MODES
async def test_every_shape_comes_back_in_its_own_shape(
    caller: Caller, batch: Batch, rows: tuple[Row, ...], mode: pb.Mode, overhead: int, suite: int
) -> None:
    encrypted = await caller.encrypt(batch, mode=mode, associated_data=b"column 7")
    sealed = rows_of(encrypted)
    assert [row is None for row in sealed] == [row is None for row in rows]
    for ciphertext, row in zip(sealed, rows, strict=True):
        if ciphertext is not None and row is not None:
            assert len(ciphertext) == len(row) + overhead
            assert ciphertext[0] == suite
    if isinstance(batch, pb.ValueBatch):
        assert encrypted.WhichOneof("batch") == "values"
        decrypted = await caller.decrypt(encrypted.values, associated_data=b"column 7")
        assert decrypted.WhichOneof("batch") == "values"
    else:
        assert encrypted.WhichOneof("batch") == "column"
        assert encrypted.column.byte_width == (batch.byte_width and batch.byte_width + overhead)
        decrypted = await caller.decrypt(encrypted.column, associated_data=b"column 7")
        assert decrypted.WhichOneof("batch") == "column"
        if any(row is not None for row in rows):
            assert decrypted.column.byte_width == batch.byte_width
    assert rows_of(decrypted) == list(rows)
    assert not decrypted.row_errors


@pytest.mark.parametrize(("mode", "width"), [(pb.MODE_DETERMINISTIC, 24), (pb.MODE_RANDOMIZED, 40)])
@pytest.mark.parametrize("rows", [(b"", b"", b""), (b"", None, b"")], ids=["full", "with a NULL"])
async def test_a_fixed_width_of_nothing_comes_back_with_offsets(
    caller: Caller, mode: pb.Mode, width: int, rows: tuple[Row, ...]
) -> None:
    sealed = await caller.sealed(*rows, mode=mode)
    answer = await caller.decrypt(fixed(*sealed, width=width))
    assert answer.column.byte_width == 0
    assert answer.column.offsets == batches.offsets(0, 0, 0, 0)
    assert rows_of(answer) == list(rows)


async def test_rows_of_both_modes_two_keyrings_and_no_value_stand_together_in_one_batch(caller: Caller) -> None:
    here = await caller.sealed(b"a", b"bb", mode=pb.MODE_DETERMINISTIC)
    there = await caller.sealed(b"ccc", keyring="other")
    mixed = [there[0], None, here[1], here[0]]
    for batch in (values(*mixed), ragged(*mixed)):
        assert rows_of(await caller.decrypt(batch)) == [b"ccc", None, b"bb", b"a"]


async def test_deterministic_is_equal_for_equal_values_and_randomized_never_is(caller: Caller) -> None:
    deterministic = await caller.sealed(b"same", b"same", b"other", mode=pb.MODE_DETERMINISTIC)
    assert deterministic[0] == deterministic[1] != deterministic[2]
    assert deterministic == await caller.sealed(b"same", b"same", b"other", mode=pb.MODE_DETERMINISTIC)
    randomized = await caller.sealed(*[b"same"] * 200)
    assert len(set(randomized)) == 200


async def test_what_lies_beneath_a_null_row_never_comes_back(caller: Caller) -> None:
    secret = b"beneath!"
    column = pb.ColumnBatch(data=secret * 3, byte_width=8, validity=b"\x05")
    encrypted = await caller.encrypt(column, mode=pb.MODE_DETERMINISTIC)
    assert encrypted.column.data[32:64] == bytes(32)
    noisy = pb.ColumnBatch(data=secret * 3, offsets=batches.offsets(0, 8, 16, 24), validity=b"\x05")
    assert len((await caller.encrypt(noisy)).column.data) == 2 * 48
    listed = pb.ValueBatch(values=[b"x", secret, b"y"], validity=b"\x05")
    assert (await caller.encrypt(listed)).values.values[1] == b""


@pytest.mark.parametrize("rows", [63, 64, 65])
async def test_bits_of_the_bitmap_behind_the_last_row_mean_nothing(caller: Caller, rows: int) -> None:
    """Arrow pads bitmaps to 64 bytes, and says nothing of what the padding holds."""
    batch = pb.ValueBatch(values=[b"v"] * rows, validity=b"\xff" * ((rows + 7) // 8) + b"\xaa" * 56)
    encrypted = await caller.encrypt(batch)
    assert encrypted.values.validity == b""
    assert rows_of(await caller.decrypt(encrypted.values)) == [b"v"] * rows


async def test_associated_data_of_64_kib_and_a_value_of_8_mib_are_taken(caller: Caller) -> None:
    for data in (b"\x01" * 65_536, b""):
        sealed = await caller.sealed(b"v", associated_data=data)
        assert rows_of(await caller.decrypt(values(*sealed), associated_data=data)) == [b"v"]
    large = b"\x5a" * (8 << 20)
    encrypted = await caller.encrypt(ragged(large))
    assert rows_of(await caller.decrypt(encrypted.column)) == [large]
