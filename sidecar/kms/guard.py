"""A guard around any provider: a cap on calls at once, a pace, a deadline for each, metrics, and errors of ours alone.

Owns what holds for every KMS, so that a provider has only its vendor to deal with. It caches and retries nothing.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeVar

import structlog

from sidecar.errors import (
    CorruptKeyError,
    KmsDeniedError,
    KmsDisabledError,
    KmsThrottledError,
    KmsUnavailableError,
    SidekeyError,
    StartupError,
)
from sidecar.kms.pace import Pace
from sidecar.kms.port import DATA_KEY_BYTES, Kms
from sidecar.metrics import Metrics

_OPEN_SECONDS: Final = 30.0

_RESULTS: Final[dict[type[SidekeyError], str]] = {
    KmsDeniedError: "denied",
    KmsDisabledError: "disabled",
    KmsThrottledError: "throttled",
    KmsUnavailableError: "unavailable",
    CorruptKeyError: "corrupt",
}
_PORT_ERRORS: Final = tuple(_RESULTS)
_T = TypeVar("_T")

log = structlog.get_logger(__name__)


class GuardedKms:
    """Implements the port on top of another implementation of it."""

    def __init__(
        self,
        kms: Kms,
        metrics: Metrics,
        *,
        label: str | None = None,
        max_concurrent_calls: int = 16,
        max_calls_per_second: float = 200.0,
        deadline_seconds: float = 5.0,
        on_result: Callable[[str, str, str], None] = lambda _operation, _result, _problem: None,
    ) -> None:
        """Guard ``kms``.

        Args:
            label: its name in the configuration, for the metrics; None: the provider's name.
            on_result: told each operation, how it ended in the words of the metric ``sidekey_kms_calls``, and what the
                problem was: the text of an error of ours, or nothing.
        """
        if max_concurrent_calls < 1 or not deadline_seconds > 0:
            raise ValueError("max_concurrent_calls and deadline_seconds must be positive")
        self._kms = kms
        self._metrics = metrics
        self._label = label or kms.name
        self._pace = Pace(max_calls_per_second)
        self._slots = asyncio.Semaphore(max_concurrent_calls)
        self._deadline_seconds = deadline_seconds
        self._on_result = on_result

    @property
    def name(self) -> str:
        """The provider's name."""
        return self._kms.name

    @property
    def kek_id(self) -> str:
        """The provider's wrapping key."""
        return self._kms.kek_id

    def may_unwrap(self, kek_id: str) -> bool:
        """As the port."""
        return self._kms.may_unwrap(kek_id)

    async def open(self) -> None:
        """Open the provider within 30 seconds; raises ``StartupError`` or what the port allows."""
        try:
            async with asyncio.timeout(_OPEN_SECONDS):
                await self._kms.open()
        except SidekeyError:
            raise
        except Exception as error:  # noqa: BLE001 - a foreign exception: its text may hold anything
            raise StartupError(f"the KMS provider {self.name} does not open ({type(error).__name__})") from None

    async def wrap(self, data_key: bytes | bytearray, encryption_context: Mapping[str, str]) -> bytes:
        """As the port, bounded by the deadline, waiting for its turn included."""

        async def call() -> bytes:
            wrapped_key = bytes(await self._kms.wrap(data_key, encryption_context))
            if not wrapped_key:
                raise KmsUnavailableError(f"the KMS provider {self.name} answered a wrap without a wrapped key")
            return wrapped_key

        return await self._observed("wrap", call)

    async def unwrap(self, wrapped_key: bytes, encryption_context: Mapping[str, str]) -> bytearray:
        """As the port, bounded by the deadline, waiting for its turn included."""

        async def call() -> bytearray:
            data_key = await self._kms.unwrap(wrapped_key, encryption_context)
            if len(data_key) != DATA_KEY_BYTES:
                raise CorruptKeyError(
                    f"the wrapped data key is damaged: what it unwraps to has not {DATA_KEY_BYTES} bytes"
                )
            return data_key

        return await self._observed("unwrap", call)

    async def close(self) -> None:
        """Close the provider; a provider that fails to is logged, since nothing is left that could act on it."""
        try:
            await self._kms.close()
        except Exception as error:  # noqa: BLE001 - as above
            log.warning("kms_close_failed", kms=self._label, error=type(error).__name__)

    async def _observed(self, operation: str, call: Callable[[], Awaitable[_T]]) -> _T:
        """Make one call, and count it and its time, whatever comes of it."""
        started = time.monotonic()
        result, problem = "cancelled", ""
        try:
            answer = await self._bounded(operation, call)
        except _PORT_ERRORS as error:
            result, problem = _result(error), str(error)
            raise
        except Exception as error:  # noqa: BLE001 - a foreign exception: its text may hold anything
            result, problem = "error", f"the KMS provider {self.name} failed ({type(error).__name__})"
            log.error("kms_provider_defect", kms=self._label, operation=operation, error=type(error).__name__)  # noqa: TRY400
            raise KmsUnavailableError(problem) from None
        else:
            result = "ok"
            return answer
        finally:
            self._metrics.kms_calls.labels(self._label, operation, result).inc()
            self._metrics.kms_seconds.labels(self._label, operation).observe(time.monotonic() - started)
            self._on_result(operation, result, problem)

    async def _bounded(self, operation: str, call: Callable[[], Awaitable[_T]]) -> _T:
        """One deadline over the wait for one's turn and the call: a queue behind a hanging KMS must not grow old."""
        try:
            async with asyncio.timeout(self._deadline_seconds), self._slots:
                await self._pace.turn()
                return await call()
        except TimeoutError:
            raise KmsUnavailableError(
                f"the KMS did not answer the {operation} within {self._deadline_seconds:g} seconds"
            ) from None


def _result(error: SidekeyError) -> str:
    return next(result for kind, result in _RESULTS.items() if isinstance(error, kind))
