"""The options of the gRPC server, in one place, so that what is measured beside it can run on the same ones."""

_MAX_METADATA_BYTES = 16 * 1024
_FRAME_SLACK_BYTES = 64 * 1024


def server_options(max_message_bytes: int) -> list[tuple[str, int]]:
    """Options of a ``grpc.aio.server``; limits are finite and the same both ways."""
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        # Answers are bounded before they are made; the slack is for what stands around the batch.
        ("grpc.max_send_message_length", max_message_bytes + _FRAME_SLACK_BYTES),
        ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
        # Two sidecars must not share a port unnoticed.
        ("grpc.so_reuseport", 0),
        # Keepalive pings find clients that went away without a word; co-located clients may ping as well.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ]
