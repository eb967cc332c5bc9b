"""Reencrypting against decrypting and encrypting row by row, with the slow reference: every mixture, every shape."""

import secrets
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.crypto import reencryption
from sidecar.crypto.cipher import DataKeyCipher
from sidecar.crypto.column import Column
from sidecar.crypto.decryption import Ciphertexts, Decrypted, read_ciphertexts
from sidecar.crypto.format import RowFailure, Suite
from sidecar.crypto.reencryption import Destination, Reencrypted, reencrypt
from sidecar.crypto.siv import Path
from tests.crypto import reference
from tests.crypto.columns import PATHS, bounded, fixed, ragged, rows_of
from tests.crypto.test_batches import CIPHERS, KEYS, MOST_ROWS, ciphertexts, expected, junk

HOME = "0123456789abcd"
"""The data key that rows move to; some are under it already."""
ONE_KEY = {HOME: KEYS[HOME]}
SUITES = [Suite.DETERMINISTIC, Suite.RANDOMIZED]
Rows = Sequence[bytes | None]


def moved(column: Column, path: Path, old: bytes, new: bytes, suite: Suite | None) -> tuple[Ciphertexts, Reencrypted]:
    ciphers = CIPHERS[path]
    home = ciphers[HOME]
    assert isinstance(home, DataKeyCipher)
    read = read_ciphertexts(column)
    keys = {key_id: ciphers.get(key_id, RowFailure.UNKNOWN_KEY) for key_id in read.key_ids}
    return read, reencrypt(read, keys, old, Destination(home, new, suite), secrets.token_bytes)


def check(rows: Rows, done: Reencrypted, outcomes: list[reference.Outcome], new: bytes, to: Suite | None) -> None:
    """Each row is what decrypting and encrypting it gives; what was so already is the same bytes."""
    unchanged = 0
    values: Counter[Suite] = Counter()
    sizes: Counter[Suite] = Counter()
    for row, outcome, failure, answer in zip(rows, outcomes, done.failures.tolist(), rows_of(done.column), strict=True):
        if not isinstance(outcome, bytes):
            assert answer is None
            assert failure == (outcome or 0)
            continue
        assert row is not None
        assert answer is not None
        assert not failure
        suite = to or Suite(row[0])
        values[suite] += 1
        sizes[suite] += len(outcome)
        assert answer[:8] == bytes([suite]) + bytes.fromhex(HOME)
        assert reference.decrypt(ONE_KEY, answer, new) == outcome
        unchanged += answer == row
        if suite is Suite.RANDOMIZED and answer != row:
            assert answer[8:24] != row[8:24]
    assert done.unchanged == unchanged
    assert (done.values, done.value_bytes) == (values, sizes)
    assert done.verified == Counter(
        row[1:8].hex() for row, outcome in zip(rows, outcomes, strict=True) if row and isinstance(outcome, bytes)
    )


@bounded(250)
@given(st.data(), st.binary(max_size=20), st.booleans(), st.sampled_from([None, *SUITES]), st.binary(max_size=50))
def test_any_mixture_in_a_variable_size_column_moves_as_row_by_row(
    data: st.DataObject, old: bytes, same: bool, to: Suite | None, beneath: bytes
) -> None:
    new = old if same else old + b"!"
    good = ciphertexts(old, st.binary(max_size=50), [0xF8, 0xF9])
    rows = data.draw(st.lists(st.one_of(good, good, junk(st.integers(0, 64)), st.none()), max_size=MOST_ROWS))
    for path in PATHS:
        read, done = moved(ragged(rows, beneath), path, old, new, to)
        check(rows, done, expected(rows, old), new, to)
        assert done.column.width is None
        grown = [len(a or b"") - len(b) for a, b in zip(rows_of(done.column), rows, strict=True) if b is not None]
        assert max([0, *grown]) <= reencryption.most_growth(read, to)


@bounded(250)
@given(
    *(st.data(), st.integers(1, 80), st.binary(max_size=20), st.booleans()),
    *(st.sampled_from([None, *SUITES]), st.binary(min_size=1, max_size=90)),
)
def test_any_mixture_in_a_fixed_width_column_moves_as_row_by_row_and_stays_of_fixed_width(
    data: st.DataObject, width: int, old: bytes, same: bool, to: Suite | None, beneath: bytes
) -> None:
    new = old if same else old + b"!"
    row = st.one_of(junk(st.just(width)).map(lambda row: row.ljust(width, b"\0")), st.none())
    for suite, overhead in ((0xF8, 24), (0xF9, 40)):
        if width >= overhead:
            size = width - overhead
            row |= ciphertexts(old, st.binary(min_size=size, max_size=size), [suite])
    rows = data.draw(st.lists(row, min_size=1, max_size=MOST_ROWS))
    outcomes = expected(rows, old, reference.fixed_suite(rows))
    for path in PATHS:
        _, done = moved(fixed(rows, width, beneath), path, old, new, to)
        check(rows, done, outcomes, new, to)
        good = next((row for row, it in zip(rows, outcomes, strict=True) if row and isinstance(it, bytes)), None)
        grow = 0 if good is None or to is None else to.overhead_bytes - Suite(good[0]).overhead_bytes
        assert done.column.width == width + grow


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("to", [None, *SUITES])
@pytest.mark.parametrize("uniform", [True, False])
def test_a_big_batch_of_old_new_and_bad_rows_moves_as_row_by_row(path: Path, to: Suite | None, uniform: bool) -> None:
    rng = np.random.default_rng(7)
    rows: list[bytes | None] = []
    for number in range(3000):
        key_id = ["00000000000001", HOME][int(rng.integers(2))]
        key = KEYS[key_id]
        assert isinstance(key, bytes)
        suite = Suite.DETERMINISTIC if uniform else SUITES[int(rng.integers(2))]
        value = rng.bytes(11 if uniform else int(rng.integers(0, 70)))
        row = reference.encrypt(key, key_id, suite, b"old", value, rng.bytes(16))
        rows.append({3: None, 5: row[:-1] + bytes([row[-1] ^ 1])}.get(number % 17, row))
    for column in [ragged(rows)] + ([fixed(rows, 35)] if uniform else []):
        for new in (b"old", b"new"):
            _, done = moved(column, path, old=b"old", new=new, suite=to)
            check(rows, done, expected(rows, b"old"), new, to)
            assert bool(done.unchanged) == (new == b"old" and not (uniform and to is Suite.RANDOMIZED))


@pytest.mark.parametrize("rows", [[], [None], [None] * 30])
def test_a_column_without_values_keeps_its_shape(rows: Rows) -> None:
    for to in (None, *SUITES):
        _, done = moved(ragged(rows, b"beneath"), Path.AUTO, b"", b"", to)
        assert (rows_of(done.column), done.column.width) == (list(rows), None)
        _, done = moved(fixed(rows, 41), Path.AUTO, b"", b"", to)
        assert (rows_of(done.column), done.column.width) == (list(rows), 41)
        assert (done.unchanged, done.verified) == (0, Counter())


@pytest.mark.parametrize("damaged", [False, True])
@pytest.mark.parametrize("same", [False, True])
def test_the_plaintext_column_is_zeroed_before_its_memory_is_let_go(
    monkeypatch: pytest.MonkeyPatch, damaged: bool, same: bool
) -> None:
    key = KEYS["00000000000001"]
    assert isinstance(key, bytes)
    rows = [reference.encrypt(key, "00000000000001", 0xF8, b"", b"secret%02d" % number, b"") for number in range(50)]
    rows[9] = rows[9][:-1] + bytes([rows[9][-1] ^ damaged])
    if same:
        home = KEYS[HOME]
        assert isinstance(home, bytes)
        rows[4] = reference.encrypt(home, HOME, 0xF8, b"", b"secret04", b"")
    kept: list[Decrypted] = []
    decrypt = Ciphertexts.decrypt

    def remembering(*arguments: object) -> Decrypted:
        kept.append(decrypt(*arguments))  # type: ignore[arg-type]
        assert kept[-1].column.data.any()
        return kept[-1]

    monkeypatch.setattr(Ciphertexts, "decrypt", remembering)
    for column in (ragged(rows), fixed(rows, 32)):
        moved(column, Path.AUTO, b"", b"", None)
    assert len(kept) == 2
    assert not any(each.column.data.any() for each in kept)
