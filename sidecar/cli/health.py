"""Asks a sidecar's gRPC health service."""

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

_OPTIONS = (
    # For a Unix socket the default authority is its path, percent-encoded, which HTTP/2 peers may reject.
    ("grpc.default_authority", "localhost"),
    # A probe never leaves by a proxy that happens to be in the environment.
    ("grpc.enable_http_proxy", 0),
)


def problem(target: str, service: str, timeout_seconds: float) -> str | None:
    """Why ``service`` at ``target`` is not healthy, in one line; None where it is."""
    name = service or "the server"
    try:
        with grpc.insecure_channel(target, options=_OPTIONS) as channel:
            check = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                request_serializer=HealthCheckRequest.SerializeToString,
                response_deserializer=HealthCheckResponse.FromString,
            )
            answer = check(HealthCheckRequest(service=service), timeout=timeout_seconds)
    except grpc.RpcError as error:
        return _failure(error, target, name, timeout_seconds)
    if answer.status == HealthCheckResponse.SERVING:
        return None
    status = HealthCheckResponse.ServingStatus.Name(answer.status)
    return f"{name} at {target} is not healthy: {status}; its log and /readyz say why"


def _failure(error: grpc.RpcError, target: str, name: str, timeout_seconds: float) -> str:
    code = error.code()
    if code == grpc.StatusCode.UNAVAILABLE:
        return f"no sidecar answers at {target}"
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"no answer from {target} within {timeout_seconds:g} s"
    if code == grpc.StatusCode.NOT_FOUND:
        return f"the server at {target} has no service {name}"
    return f"the health check of {target} failed with {code.name}"
