"""Known answers that the cipher must give before anything is served."""

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from sidecar.crypto.siv import ColumnSiv, Path
from sidecar.errors import SelfTestError

# RFC 5297 appendix A.1 (deterministic) and A.2 (a nonce as the last component of three).
_KEY_1 = bytes.fromhex("fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
_AD_1 = [bytes.fromhex("101112131415161718191a1b1c1d1e1f2021222324252627")]
_TEXT_1 = bytes.fromhex("112233445566778899aabbccddee")
_CIPHERTEXT_1 = bytes.fromhex("85632d07c6e8f37f950acd320a2ecc9340c02b9690c4dc04daef7f6afe5c")
_KEY_2 = bytes.fromhex("7f7e7d7c7b7a79787776757473727170404142434445464748494a4b4c4d4e4f")
_AD_2 = [
    bytes.fromhex("00112233445566778899aabbccddeeffdeaddadadeaddadaffeeddccbbaa99887766554433221100"),
    bytes.fromhex("102030405060708090a0"),
    bytes.fromhex("09f911029d74e35bd84156c5635688c0"),
]
_TEXT_2 = bytes.fromhex(
    "7468697320697320736f6d6520706c61696e7465787420746f20656e6372797074207573696e67205349562d414553"
)
_CIPHERTEXT_2 = bytes.fromhex(
    "7bdb6e3b432667eb06f4d14bff2fbd0fcb900f2fddbe404326601965c889bf17dba77ceb094fa663b7a3f748ba8af829ea64ad544a272e9c485b62a3fd5c0d"
)
_LENGTHS = (*range(50), 63, 64, 65, 255, 256, 1000)


def run() -> None:
    """Check every path against RFC 5297's answers, and the paths against each other over lengths, modes and damage.

    Raises:
        SelfTestError: an answer is wrong, or there is none; the process must not serve.
    """
    try:
        for path in Path:
            _check(path)
    except SelfTestError:
        raise
    except Exception as error:  # noqa: BLE001 - a library without the cipher, or too old for it, raises what it likes
        raise SelfTestError(f"the cipher fails on this machine ({type(error).__name__}); it must not serve") from None


def _check(path: Path) -> None:
    for key, components, text, ciphertext in (
        (_KEY_1, _AD_1, _TEXT_1, _CIPHERTEXT_1),
        (_KEY_2, _AD_2, _TEXT_2, _CIPHERTEXT_2),
    ):
        _known_answer(ColumnSiv(key, path=path), components, text, ciphertext)
    _equals_openssl(path)


def _known_answer(siv: ColumnSiv, components: list[bytes], text: bytes, ciphertext: bytes) -> None:
    offsets = np.array([0, len(text)], np.int64)
    data, _ = siv.encrypt(np.frombuffer(text, np.uint8), offsets, components)
    plaintext, _, ok = siv.decrypt(data, np.array([0, data.size]), components)
    if data.tobytes() != ciphertext or plaintext.tobytes() != text or not ok.all():
        raise SelfTestError("the cipher does not give RFC 5297's answers on this machine; it must not serve")


def _equals_openssl(path: Path) -> None:
    key = bytes(range(64))
    reference, siv = AESSIV(key), ColumnSiv(key, path=path)
    lengths = np.repeat(np.array(_LENGTHS, np.int64), 2)
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    data = (np.arange(int(offsets[-1])) * 7 % 251).astype(np.uint8)
    nonces = (np.arange(16 * lengths.size) * 11 % 253).astype(np.uint8).reshape(-1, 16)
    for used in (None, nonces):
        ciphertext, spots = siv.encrypt(data, offsets, [b"self-test"], used)
        for i in range(lengths.size):
            terms = [b"self-test"] if used is None else [b"self-test", used[i].tobytes()]
            expected = reference.encrypt(data[offsets[i] : offsets[i + 1]].tobytes(), terms)
            if ciphertext[spots[i] : spots[i + 1]].tobytes() != expected:
                raise SelfTestError("the cipher differs from OpenSSL's AES-SIV on this machine; it must not serve")
        damaged = ciphertext.copy()
        damaged[spots[:-1]] ^= np.uint8(1)
        _, left, ok = siv.decrypt(damaged, spots, [b"self-test"], used)
        plaintext, _, good = siv.decrypt(ciphertext, spots, [b"self-test"], used)
        if ok.any() or left[-1] or not good.all() or plaintext.tobytes() != data.tobytes():
            raise SelfTestError("the cipher does not tell damaged values from good ones; it must not serve")
