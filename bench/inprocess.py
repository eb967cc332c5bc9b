"""Ciphers without a server: Tink's and pyca's, one call a value, on the values that the servers are given."""

from collections.abc import Callable, Iterable
from functools import partial
from statistics import median

import tink  # type: ignore[import-untyped]
from tink import aead, daead

from bench.cases import Direction, Mode, Size, rows_of
from bench.measure import in_process, interleave
from bench.naive import NaiveSiv
from bench.results import PeerRate
from bench.wire import ASSOCIATED_DATA

TINK_SIV = "tink AES256_SIV"
TINK_GCM = "tink AES256_GCM"
PYCA_DETERMINISTIC = "pyca AESSIV, deterministic"
PYCA_RANDOMIZED = "pyca AESSIV, randomized"
PEERS = (TINK_SIV, TINK_GCM, PYCA_DETERMINISTIC, PYCA_RANDOMIZED)

Work = Callable[[list[bytes]], list[bytes]]
_VALUES = 1_000


class InProcess:
    """The ciphers, each as a function over a list of values."""

    def __init__(self) -> None:
        daead.register()
        aead.register()
        siv = tink.new_keyset_handle(daead.deterministic_aead_key_templates.AES256_SIV).primitive(
            daead.DeterministicAead
        )
        gcm = tink.new_keyset_handle(aead.aead_key_templates.AES256_GCM).primitive(aead.Aead)
        pyca = NaiveSiv()
        self._encrypt: dict[str, Work] = {
            TINK_SIV: partial(_each, siv.encrypt_deterministically),
            TINK_GCM: partial(_each, gcm.encrypt),
            PYCA_DETERMINISTIC: partial(pyca.encrypt, mode=Mode.DETERMINISTIC, associated_data=ASSOCIATED_DATA),
            PYCA_RANDOMIZED: partial(pyca.encrypt, mode=Mode.RANDOMIZED, associated_data=ASSOCIATED_DATA),
        }
        self._decrypt: dict[str, Work] = {
            TINK_SIV: partial(_each, siv.decrypt_deterministically),
            TINK_GCM: partial(_each, gcm.decrypt),
            PYCA_DETERMINISTIC: partial(pyca.decrypt, associated_data=ASSOCIATED_DATA),
            PYCA_RANDOMIZED: partial(pyca.decrypt, associated_data=ASSOCIATED_DATA),
        }

    def work(self, peer: str, direction: Direction, values: list[bytes]) -> Callable[[], list[bytes]]:
        """All values encrypted once, or all their ciphertexts decrypted once."""
        if direction is Direction.ENCRYPT:
            return partial(self._encrypt[peer], values)
        return partial(self._decrypt[peer], self._encrypt[peer](values))

    async def rates(self, size: Size, direction: Direction, repeats: int, seconds: float) -> Iterable[PeerRate]:
        """Values a second of every cipher, the median of the repeats."""
        values = rows_of(size, _VALUES).values
        contenders = {peer: in_process(self.work(peer, direction, values)) for peer in PEERS}
        measured = await interleave(contenders, repeats, seconds)
        return [
            PeerRate(peer, size.name, direction.value, _VALUES * median(r.calls_per_second for r in found))
            for peer, found in measured.items()
        ]


def _each(cipher: Callable[[bytes, bytes], bytes], values: list[bytes]) -> list[bytes]:
    return [cipher(value, ASSOCIATED_DATA) for value in values]
