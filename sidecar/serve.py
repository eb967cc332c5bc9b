"""Runs a sidecar as a process: its log, its signals, and its end in two stages."""

import asyncio
import gc
import os
import signal
from contextlib import AsyncExitStack

import structlog

from sidecar import __version__, log, process
from sidecar.allocator import keep_freed_memory
from sidecar.composition import Sidecar
from sidecar.config import Config, warnings_of
from sidecar.crypto import selftest

_SECOND_SIGNAL_EXIT_CODE = 130

logger = structlog.get_logger("sidecar")


def run(config: Config) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code.

    Raises:
        StartupError: the sidecar cannot serve as configured.
    """
    log.configure(config.log.level, config.log.format)
    log.install_hooks()
    process.protect()
    keep_freed_memory()
    for warning in warnings_of(config):
        logger.warning("configuration", problem=warning)
    selftest.run()
    asyncio.run(_serve(config))
    return 0


async def _serve(config: Config) -> None:
    stopping = _stop_on_signals()
    async with AsyncExitStack() as stack:
        sidecar = Sidecar(config)
        stack.push_async_callback(sidecar.close)
        addresses, http_address = await sidecar.start()
        logger.info(
            "serving",
            version=__version__,
            addresses=addresses,
            http=http_address,
            kms=sidecar.wrapping_keys.names,
            kek_ids=sidecar.wrapping_keys.kek_ids,
            ready=sidecar.ready,
            pid=os.getpid(),
        )
        # What is there by now stays for good: without it the collector has next to nothing to look through under load.
        gc.collect()
        gc.freeze()
        await stopping.wait()
        logger.info("draining", seconds=config.server.drain_seconds)
        await sidecar.drain(config.server.drain_seconds)
    logger.info("stopped")


def _stop_on_signals() -> asyncio.Event:
    """An event that the first SIGTERM or SIGINT sets; the second one ends the process as it stands."""
    stopping = asyncio.Event()

    def on_signal() -> None:
        if stopping.is_set():
            logger.warning("stopped_by_second_signal")
            os._exit(_SECOND_SIGNAL_EXIT_CODE)
        stopping.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    return stopping
