"""Nonces of a batch: one call to the CSPRNG, and 128 bits a value that never repeat."""

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from sidecar.crypto.nonces import random_nonces

SEED = bytes(range(200, 248))


class FixedRandom:
    """Known bytes in place of the CSPRNG; notes how many it was asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, size: int) -> bytes:
        self.asked.append(size)
        return (SEED * (size // len(SEED) + 1))[:size]


@pytest.mark.parametrize("count", [0, 1, 64])
def test_few_nonces_are_the_csprngs_own_bytes(count: int) -> None:
    random = FixedRandom()
    assert random_nonces(count, random) == (SEED * 100)[: 16 * count]
    assert random.asked == [16 * count]


@pytest.mark.parametrize("count", [65, 1000])
def test_more_nonces_are_the_keystream_of_aes_256_ctr_under_a_fresh_seed(count: int) -> None:
    random = FixedRandom()
    nonces = random_nonces(count, random)
    assert random.asked == [48]
    # Counter mode by hand: E(key, counter), E(key, counter + 1), …, modulo 2^128.
    aes = Cipher(algorithms.AES(SEED[:32]), modes.ECB()).encryptor()  # noqa: S305  (one block at a time)
    first = int.from_bytes(SEED[32:])
    expected = [aes.update(((first + i) % 2**128).to_bytes(16)) for i in range(count)]
    assert nonces == b"".join(expected)
    assert len({*expected}) == count
