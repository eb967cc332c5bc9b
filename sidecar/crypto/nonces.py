"""Nonces for a batch: 128 random bits a value, from one call to the operating system's CSPRNG."""

from collections.abc import Callable

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from sidecar.crypto.format import NONCE_BYTES

RandomBytes = Callable[[int], bytes]

_DIRECT_COUNT = 64
_KEY_BYTES = 32


def random_nonces(count: int, random: RandomBytes) -> bytes:
    """``count`` nonces, one behind the other.

    The operating system gives some hundred megabytes of random bytes a second, which would be half the cost of a
    batch. So more than a few nonces are the keystream of AES-256-CTR under a key and a first counter that are random,
    fresh and used for this batch alone: pseudorandom bits as NIST SP 800-90A's CTR_DRBG makes them (section 10.2.1),
    and no two alike within the batch.
    """
    if count <= _DIRECT_COUNT:
        return random(NONCE_BYTES * count)
    seed = random(_KEY_BYTES + NONCE_BYTES)
    keystream = Cipher(algorithms.AES(seed[:_KEY_BYTES]), modes.CTR(seed[_KEY_BYTES:])).encryptor()
    return keystream.update(bytes(NONCE_BYTES * count))
