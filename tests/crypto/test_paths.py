"""Which implementation works on which rows: a forced path never touches the other one."""

from collections.abc import Sequence
from typing import NoReturn

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from sidecar.crypto import siv
from sidecar.crypto.planes import PlaneSiv
from sidecar.crypto.siv import ColumnSiv, Path
from tests.crypto.columns import laid_out, values_of

KEY = bytes(range(64))
SHARED = [b"paths"]


class ForbiddenError(Exception):
    """The other path was taken."""


class ForbiddenAesSiv:
    """OpenSSL's AES-SIV where nobody may call it."""

    def __init__(self, _key: bytes) -> None:
        pass

    def encrypt(self, _data: bytes, _components: list[bytes]) -> NoReturn:
        raise ForbiddenError

    decrypt = encrypt


@pytest.fixture
def without_openssl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(siv, "AESSIV", ForbiddenAesSiv)


@pytest.fixture
def without_planes(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> NoReturn:
        raise ForbiddenError

    for name in ("associate", "associate_nonces", "tags", "keystream"):
        monkeypatch.setattr(PlaneSiv, name, forbidden)


def round_trip(path: Path, values: Sequence[bytes], *, randomized: bool) -> list[bytes]:
    nonces = np.full((len(values), 16), 7, np.uint8) if randomized else None
    column = ColumnSiv(KEY, path=path)
    data, offsets = column.encrypt(*laid_out(values), SHARED, nonces)
    opened, ends, ok = column.decrypt(data, offsets, SHARED, nonces)
    assert ok.all()
    assert values_of(opened, ends) == [*values]
    return values_of(data, offsets)


def expected(values: Sequence[bytes], *, randomized: bool) -> list[bytes]:
    terms = [*SHARED, b"\7" * 16] if randomized else SHARED
    return [AESSIV(KEY).encrypt(value, terms) for value in values]


SHAPES = [[b""] * 300, [b"equal"] * 300, [bytes(n) for n in range(300)], [b"one"], [b"", b"x" * 9000]]


@pytest.mark.usefixtures("without_openssl")
@pytest.mark.parametrize("randomized", [False, True])
@pytest.mark.parametrize("values", SHAPES)
def test_the_planes_ask_nothing_of_openssls_aes_siv(values: list[bytes], randomized: bool) -> None:
    assert round_trip(Path.PLANES, values, randomized=randomized) == expected(values, randomized=randomized)


@pytest.mark.usefixtures("without_planes")
@pytest.mark.parametrize("randomized", [False, True])
@pytest.mark.parametrize("values", SHAPES)
def test_the_openssl_path_asks_nothing_of_the_planes(values: list[bytes], randomized: bool) -> None:
    assert round_trip(Path.OPENSSL, values, randomized=randomized) == expected(values, randomized=randomized)


@pytest.mark.usefixtures("without_planes")
@pytest.mark.parametrize("values", [[b"one"], [b"", b"two", b"x" * 100], [b"x" * 100_000] * 3])
def test_auto_leaves_few_and_long_values_to_openssl(values: list[bytes]) -> None:
    assert round_trip(Path.AUTO, values, randomized=True) == expected(values, randomized=True)


@pytest.mark.usefixtures("without_openssl")
@pytest.mark.parametrize("values", [[b"equal"] * 1000, [bytes(n % 64) for n in range(4000)]])
def test_auto_leaves_many_short_values_to_the_planes(values: list[bytes]) -> None:
    assert round_trip(Path.AUTO, values, randomized=True) == expected(values, randomized=True)


def test_auto_takes_both_paths_for_one_long_value_among_many_short_ones() -> None:
    values = [bytes(n % 20) for n in range(1000)]
    values[500] = b"long" * 5000
    calls = _Calls(KEY)
    column = ColumnSiv(KEY)
    column._aead = calls  # type: ignore[assignment]
    data, offsets = column.encrypt(*laid_out(values), SHARED)
    assert values_of(data, offsets) == expected(values, randomized=False)
    assert calls.lengths == [20_000]


class _Calls:
    """OpenSSL's AES-SIV that notes which lengths it was given."""

    def __init__(self, key: bytes) -> None:
        self._aead = AESSIV(key)
        self.lengths: list[int] = []

    def encrypt(self, data: bytes, components: list[bytes]) -> bytes:
        self.lengths.append(len(data))
        return self._aead.encrypt(data, components)
