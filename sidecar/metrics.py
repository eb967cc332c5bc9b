"""The metrics of one sidecar. Owns their names and labels; knows nothing of where they are counted or read.

Labels hold only words of this program, and names of keyrings and plugins from the configuration: never a value, a key
id, an associated data or anything else that a caller chose.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

_CALL_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_KMS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)

# When a counter was made is when the process was, so a series for each that says so only doubles what is stored.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """All metrics of one sidecar, in a registry of their own (several sidecars may live in one process)."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.calls = Counter("sidekey_calls", "Calls answered.", ["method", "status"], registry=r)
        self.call_seconds = Histogram(
            "sidekey_call_seconds", "Time to answer a call.", ["method"], buckets=_CALL_BUCKETS, registry=r
        )
        self.calls_in_flight = Gauge("sidekey_calls_in_flight", "Calls being answered.", registry=r)
        self.bytes_in_flight = Gauge("sidekey_bytes_in_flight", "Bytes of batches being answered.", registry=r)
        self.values = Counter(
            "sidekey_values", "Values of answered calls, NULLs not counted.", ["direction", "mode"], registry=r
        )
        self.value_bytes = Counter(
            "sidekey_value_bytes", "Plaintext bytes of answered calls.", ["direction", "mode"], registry=r
        )
        self.row_errors = Counter("sidekey_row_errors", "Rows that could not be decrypted.", ["code"], registry=r)
        self.cache_lookups = Counter(
            "sidekey_cache_lookups", "Data keys looked up in the cache: hit, miss or stale.", ["result"], registry=r
        )
        self.cache_refreshes = Counter(
            "sidekey_cache_refreshes", "Data keys unwrapped again ahead of their expiry.", ["result"], registry=r
        )
        self.cache_evictions = Counter(
            "sidekey_cache_evictions", "Data keys that left the cache before their expiry.", ["cause"], registry=r
        )
        self.cache_size = Gauge("sidekey_cache_size", "Data keys in the cache.", registry=r)
        self.cache_stale = Gauge(
            "sidekey_cache_stale", "Data keys in the cache that an outage keeps past their TTL.", registry=r
        )
        self.corrupt_data_keys = Counter(
            "sidekey_corrupt_data_keys", "Looks at data keys that are not what was stored.", registry=r
        )
        self.kms_calls = Counter("sidekey_kms_calls", "Calls to a KMS.", ["kms", "operation", "result"], registry=r)
        self.kms_seconds = Histogram(
            "sidekey_kms_seconds", "Time of a call to a KMS.", ["kms", "operation"], buckets=_KMS_BUCKETS, registry=r
        )
        self.incomplete_data_keys = Gauge(
            "sidekey_incomplete_data_keys", "Data keys seen that a configured wrapping key has not wrapped.", registry=r
        )
        self.keystore_errors = Counter("sidekey_keystore_errors", "Failed calls to the keystore.", registry=r)
        self.data_keys_made = Counter(
            "sidekey_data_keys_made",
            "Data keys made: a keyring's first, by rollover, by rotation.",
            ["cause"],
            registry=r,
        )
        self.rollovers = Counter("sidekey_rollovers", "Attempts to roll a keyring over.", ["result"], registry=r)
        self.primary_created = Gauge(
            "sidekey_primary_created_timestamp_seconds", "When the primary was made.", ["keyring"], registry=r
        )
        self.primary_age = Gauge("sidekey_primary_age_seconds", "Age of the primary.", ["keyring"], registry=r)
        self.next_rollover = Gauge(
            "sidekey_next_rollover_timestamp_seconds", "When the primary is due to roll over.", ["keyring"], registry=r
        )
        self.rollover_overdue = Gauge(
            "sidekey_rollover_overdue", "1 while an overdue primary goes on.", ["keyring"], registry=r
        )
        self.build = Gauge("sidekey_build_info", "Always 1.", ["version", "kms"], registry=r)
