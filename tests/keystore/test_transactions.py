"""Transactions whose callers leave before they end."""

import asyncio
import gc
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from sidecar.errors import KeystoreUnavailableError
from sidecar.keystore.transactions import Transactions


async def test_a_transaction_that_fails_after_its_caller_has_left_is_nobodys_defect() -> None:
    defects: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: defects.append(context))
    left, ended = asyncio.Event(), asyncio.Event()

    async def work(_connection: AsyncConnection) -> None:
        await left.wait()
        ended.set()
        raise RuntimeError("a driver's text")

    transactions = Transactions(create_async_engine("sqlite+aiosqlite://"), timeout_seconds=0.1)
    with pytest.raises(KeystoreUnavailableError):
        await transactions.run(work)
    left.set()
    await transactions.close()
    gc.collect()  # a task whose exception nobody has asked for says so when it is collected
    assert ended.is_set()
    assert defects == []
