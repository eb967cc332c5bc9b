"""The client library as a contender: what a user of ``encrypt_array`` sees, Arrow work and all."""

import pyarrow as pa
import sidekey

from bench.cases import Case, rows_of
from bench.measure import Contender, over_grpc
from bench.wire import ASSOCIATED_DATA


def encrypt_array(client: "sidekey.AsyncClient", case: Case) -> Contender:
    """``encrypt_array`` on the fixed-width column of a case, one call after the other."""
    rows = rows_of(case.size, case.rows)
    width = case.size.longest
    array = pa.Array.from_buffers(pa.binary(width), case.rows, [None, pa.py_buffer(rows.data)])

    async def call() -> object:
        return await client.encrypt_array(array, associated_data=ASSOCIATED_DATA, mode=case.mode.value)

    return over_grpc(call, in_flight=1)
