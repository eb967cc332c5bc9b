"""Answers that others computed: RFC 5297's appendix, and the vectors of the cryptography project."""

from collections.abc import Sequence
from dataclasses import dataclass

import cryptography_vectors
import numpy as np
import pytest

from sidecar.crypto import planes
from sidecar.crypto.siv import ColumnSiv, Path
from tests.crypto import reference
from tests.crypto.columns import PATHS, laid_out, values_of


@dataclass(frozen=True)
class Answer:
    """A known answer of AES-SIV; ``components`` are S2V's, a nonce the last of them."""

    key: bytes
    components: tuple[bytes, ...]
    value: bytes
    sealed: bytes


RFC_A1 = Answer(
    bytes.fromhex("fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"),
    (bytes.fromhex("101112131415161718191a1b1c1d1e1f2021222324252627"),),
    bytes.fromhex("112233445566778899aabbccddee"),
    bytes.fromhex("85632d07c6e8f37f950acd320a2ecc9340c02b9690c4dc04daef7f6afe5c"),
)
RFC_A2 = Answer(
    bytes.fromhex("7f7e7d7c7b7a79787776757473727170404142434445464748494a4b4c4d4e4f"),
    (
        bytes.fromhex("00112233445566778899aabbccddeeffdeaddadadeaddadaffeeddccbbaa99887766554433221100"),
        bytes.fromhex("102030405060708090a0"),
        bytes.fromhex("09f911029d74e35bd84156c5635688c0"),
    ),
    b"this is some plaintext to encrypt using SIV-AES",
    bytes.fromhex(
        "7bdb6e3b432667eb06f4d14bff2fbd0fcb900f2fddbe404326601965c889bf17"
        "dba77ceb094fa663b7a3f748ba8af829ea64ad544a272e9c485b62a3fd5c0d"
    ),
)


def of_the_cryptography_project() -> list[Answer]:
    with cryptography_vectors.open_vector_file("ciphers/AES/SIV/openssl.txt", "r") as file:
        blocks = file.read().split("COUNT = ")[1:]
    answers = []
    for block in blocks:
        pairs = dict(line.split(" = ", 1) for line in block.splitlines()[1:] if " = " in line and line[0] != "#")
        entry = {name: bytes.fromhex(text) for name, text in pairs.items()}
        used = tuple(entry[name] for name in ("AAD", "AAD2", "AAD3") if name in entry)
        answers.append(Answer(entry["Key"], used, entry["Plaintext"], entry["Tag"] + entry["Ciphertext"]))
    return answers


ANSWERS = [RFC_A1, RFC_A2, *of_the_cryptography_project()]


def sealed_by(
    answer: Answer, path: Path, values: Sequence[bytes], nonces: np.ndarray[tuple[int, int], np.dtype[np.uint8]] | None
) -> list[bytes]:
    """``values`` encrypted as the answer's, its last component as the nonce where there are nonces."""
    shared = answer.components if nonces is None else answer.components[:-1]
    return values_of(*ColumnSiv(answer.key, path=path).encrypt(*laid_out(values), shared, nonces))


def test_the_vectors_of_the_cryptography_project_are_all_there() -> None:
    answers = of_the_cryptography_project()
    assert len(answers) == 4
    assert {len(answer.key) for answer in answers} == {32, 48, 64}
    assert answers[:2] == [RFC_A1, RFC_A2]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("answer", ANSWERS)
def test_every_path_gives_the_known_answer_both_ways(answer: Answer, path: Path) -> None:
    assert sealed_by(answer, path, [answer.value], None) == [answer.sealed]
    data, offsets, ok = ColumnSiv(answer.key, path=path).decrypt(*laid_out([answer.sealed]), answer.components)
    assert ok.tolist() == [True]
    assert values_of(data, offsets) == [answer.value]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("answer", ANSWERS)
def test_the_known_answer_stands_in_a_column_of_other_values_too(answer: Answer, path: Path) -> None:
    others = [bytes([n]) * n for n in range(100)]
    sealed = sealed_by(answer, path, [*others, answer.value, *others], None)
    assert sealed[100] == answer.sealed


@pytest.mark.parametrize("path", PATHS)
def test_a_nonce_is_the_last_component(path: Path) -> None:
    nonces = np.tile(np.frombuffer(RFC_A2.components[-1], np.uint8), (90, 1))
    assert sealed_by(RFC_A2, path, [RFC_A2.value] * 90, nonces) == [RFC_A2.sealed] * 90
    data, offsets = laid_out([RFC_A2.sealed] * 90)
    opened, ends, ok = ColumnSiv(RFC_A2.key, path=path).decrypt(data, offsets, RFC_A2.components[:-1], nonces)
    assert ok.all()
    assert values_of(opened, ends) == [RFC_A2.value] * 90


@pytest.mark.parametrize("answer", ANSWERS)
def test_the_tests_own_siv_written_from_the_rfc_gives_the_known_answers(answer: Answer) -> None:
    assert reference.siv_encrypt(answer.key, answer.components, answer.value) == answer.sealed


def test_s2v_passes_through_the_values_that_the_rfc_prints() -> None:
    cmac_of_zero = bytes.fromhex("0e04dfafc1efbf040140582859bf073a")
    doubled = bytes.fromhex("1c09bf5f83df7e080280b050b37e0e74")
    cmac_of_ad = bytes.fromhex("f1f922b7f5193ce64ff80cb47d93f23b")
    d = bytes.fromhex("edf09de876c642ee4d78bce4ceedfc4f")
    assert planes.double(cmac_of_zero) == doubled
    assert planes.xor(doubled, cmac_of_ad) == d
    assert planes.double(d) == bytes.fromhex("dbe13bd0ed8c85dc9af179c99ddbf819")
    siv = planes.PlaneSiv(RFC_A1.key)
    assert siv.associate([]) == cmac_of_zero
    assert siv.associate(RFC_A1.components) == d
