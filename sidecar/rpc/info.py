"""InfoService: what this sidecar is and takes."""

from __future__ import annotations

from typing import Any

import grpc
from sidekey.v1 import info_pb2 as pb
from sidekey.v1 import info_pb2_grpc as pb_grpc

from sidecar import __version__
from sidecar.crypto.format import MAX_ASSOCIATED_DATA_BYTES, MAX_VALUE_BYTES, Suite
from sidecar.rpc.batches import BatchLimits


class InfoService(pb_grpc.InfoServiceServicer):
    """Answers with facts that do not change while the process lives."""

    def __init__(self, limits: BatchLimits, kms_name: str) -> None:
        self._info = pb.GetServerInfoResponse(
            version=__version__,
            limits=pb.Limits(
                max_message_bytes=limits.max_message_bytes,
                max_rows=limits.max_rows,
                max_value_bytes=MAX_VALUE_BYTES,
                max_associated_data_bytes=MAX_ASSOCIATED_DATA_BYTES,
            ),
            suites=[pb.Suite(id=suite, name=suite.title, overhead_bytes=suite.overhead_bytes) for suite in Suite],
            kms=kms_name,
        )

    async def GetServerInfo(  # noqa: N802
        self, request: pb.GetServerInfoRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetServerInfoResponse:
        """Version, limits, suites and the kind of KMS."""
        return self._info
