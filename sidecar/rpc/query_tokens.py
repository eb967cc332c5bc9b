"""QueryTokens: what a value looks like, encrypted deterministically, under each data key that may have encrypted it."""

import secrets

from sidekey.v1 import encryption_pb2 as pb

from sidecar.crypto.format import Suite
from sidecar.keys.keyrings import Keyrings
from sidecar.rpc.admission import Admission
from sidecar.rpc.batches import BatchLimits, decode, set_batch
from sidecar.rpc.requests import DEFAULT_KEYRING, associated_data_of, keyring_name
from sidecar.rpc.traffic import Traffic


class QueryTokens:
    """Answers QueryTokens.

    Tokens are not counted as a use of their data keys: they are compared and thrown away, and each query would make
    every old data key look as if it was still needed.
    """

    def __init__(self, keyrings: Keyrings, admission: Admission, limits: BatchLimits, traffic: Traffic) -> None:
        self._keyrings = keyrings
        self._admission = admission
        self._limits = limits
        self._traffic = traffic

    async def answer(self, request: pb.QueryTokensRequest) -> pb.QueryTokensResponse:
        """The tokens of every row under every live data key, the newest first. Raises SidekeyError."""
        keyring = keyring_name(request.keyring or DEFAULT_KEYRING)
        associated_data = associated_data_of(request.associated_data)
        column, as_values = decode(request, self._limits)
        response = pb.QueryTokensResponse()
        with self._admission.admit(column.count, column.data.size):
            # For its check of the mode, and so that an unknown keyring is one here too.
            await self._keyrings.encryption(keyring, Suite.DETERMINISTIC)
            data_keys = await self._keyrings.live(keyring)
            overhead = Suite.DETERMINISTIC.overhead_bytes
            self._limits.check_answer(column, overhead, as_values=as_values, copies=len(data_keys))
            for data_key in data_keys:
                tokens = data_key.cipher.encrypt(column, Suite.DETERMINISTIC, associated_data, secrets.token_bytes)
                entry = response.tokens.add(key_id=data_key.key_id, generation=data_key.generation)
                set_batch(entry, tokens, as_values=as_values)
                size = tokens.size_of_values - overhead * tokens.valid_count
                self._traffic.count("query", Suite.DETERMINISTIC, tokens.valid_count, size)
        return response
