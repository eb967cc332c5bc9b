"""The self-test at every start: it passes here, and no cipher that is wrong in any way gets past it."""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from sidecar.crypto import planes, selftest, siv
from sidecar.crypto.blocks import Planes, words
from sidecar.crypto.planes import PlaneSiv
from sidecar.crypto.siv import ColumnSiv, Path
from sidecar.errors import SelfTestError

Method = Callable[..., Any]

REFUSED = r"it must not serve$"


def test_this_machine_gives_the_known_answers() -> None:
    selftest.run()


def first_bit_wrong(method: Method) -> Method:
    """The method with one bit of its first block flipped: the smallest lie."""

    def lie(*args: object) -> Planes:
        answer = cast(Planes, method(*args)).copy()
        words(answer)[0] ^= np.uint64(1)
        return answer

    return lie


def without_constant(name: str) -> Callable[[PlaneSiv, bytes], None]:
    """A constructor that leaves one of the constants zero."""
    right = PlaneSiv.__init__

    def wrong(self: PlaneSiv, key: bytes) -> None:
        right(self, key)
        constant: bytes | np.ndarray[Any, Any] = getattr(self, name)
        setattr(self, name, bytes(16) if isinstance(constant, bytes) else np.zeros_like(constant))

    return wrong


@pytest.mark.parametrize("name", ["tags", "keystream", "associate_nonces"])
def test_planes_that_lie_in_one_bit_of_one_row_are_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PlaneSiv, name, first_bit_wrong(getattr(PlaneSiv, name)))
    with pytest.raises(SelfTestError, match=REFUSED):
        selftest.run()


@pytest.mark.parametrize("name", ["_zero_mac", "_k1", "_short", "_long"])
def test_a_missing_constant_of_the_planes_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PlaneSiv, "__init__", without_constant(name))
    with pytest.raises(SelfTestError, match=REFUSED):
        selftest.run()


@pytest.mark.parametrize("polynomial", [0, 0x86, 0x1B])
def test_doubling_by_another_polynomial_is_found(polynomial: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planes, "_POLYNOMIAL", polynomial)
    with pytest.raises(SelfTestError, match=REFUSED):
        selftest.run()


@pytest.mark.parametrize("mask", [2**64 - 1, 2**64 - 1 ^ 0x80])
def test_a_counter_that_keeps_the_bits_of_rfc_5297_is_found(mask: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planes, "_CTR_MASK", np.uint64(mask))
    with pytest.raises(SelfTestError, match=REFUSED):
        selftest.run()


@pytest.mark.parametrize("method", ["_decrypt_planes", "_decrypt_each"])
@pytest.mark.parametrize("verdict", [True, False])
def test_a_comparison_of_tags_with_a_fixed_verdict_is_found(
    verdict: bool, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = cast(Method, getattr(ColumnSiv, method))

    def decided(*args: object) -> object:
        return np.full_like(right(*args), verdict)

    monkeypatch.setattr(ColumnSiv, method, decided)
    with pytest.raises(SelfTestError, match=REFUSED):
        selftest.run()


class BadOpenssl:
    """OpenSSL's AES-SIV, wrong in one way."""

    way = ""

    def __init__(self, key: bytes) -> None:
        self._aead = AESSIV(key[::-1] if self.way == "key" else key)

    def encrypt(self, data: bytes, components: list[bytes]) -> bytes:
        if self.way == "refuses":
            raise ValueError("data must not be zero length")
        sealed = self._aead.encrypt(data, components[:-1] if self.way == "components" else components)
        return sealed[:-1] + bytes([sealed[-1] ^ (self.way == "ciphertext")])

    def decrypt(self, data: bytes, components: list[bytes]) -> bytes:
        if self.way == "rejects":
            raise InvalidTag
        try:
            value = self._aead.decrypt(data, components[:-1] if self.way == "components" else components)
        except InvalidTag:
            if self.way == "accepts":
                return bytes(len(data) - 16)
            raise
        return value[::-1] if self.way == "value" else value


@pytest.mark.parametrize("way", ["key", "components", "ciphertext", "rejects", "accepts", "value", "refuses"])
@pytest.mark.parametrize("path", [Path.AUTO, Path.OPENSSL])
def test_an_openssl_that_is_wrong_in_any_way_is_found(way: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(siv, "AESSIV", type("Bad", (BadOpenssl,), {"way": way}))
    monkeypatch.setattr(selftest, "Path", [path])
    with pytest.raises(SelfTestError, match=REFUSED) as caught:
        selftest.run()
    assert caught.value.__cause__ is None
    assert "zero length" not in str(caught.value)


def test_the_self_test_runs_every_path(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []
    right = ColumnSiv.__init__

    def noted(self: ColumnSiv, key: bytes, *, path: Path = Path.AUTO) -> None:
        made.append(path)
        right(self, key, path=path)

    monkeypatch.setattr(ColumnSiv, "__init__", noted)
    selftest.run()
    assert {*made} == {*Path}
