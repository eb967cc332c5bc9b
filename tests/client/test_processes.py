"""Who may share a client: threads, forked children, event loops. And what importing it costs."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sidekey

from tests.client.reference import Reference

README = Path(__file__).parents[2] / "clients/python/README.md"


def _run(script: str, target: str) -> str:
    """The output of a script in a fresh interpreter: a fork must not carry this process's servers with it."""
    # Newer Pythons warn of any fork in a process with threads, which is what is tested here.
    warnings = ["-W", "error", "-W", "ignore:This process:DeprecationWarning"]
    done = subprocess.run(
        [sys.executable, *warnings, "-c", textwrap.dedent(script), target],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


FORK = """
    import os, sys
    import sidekey

    client = sidekey.Client(sys.argv[1], timeout=10)
    before = client.encrypt([b"before"])
    for _ in range(3):
        child = os.fork()
        if not child:
            assert client.decrypt(before) == [b"before"]
            assert client.decrypt(client.encrypt([b"%d" % row for row in range(50_000)]))[-1] == b"49999"
            client.close()
            sys.exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert client.decrypt(before) == [b"before"]
    print("both spoke")
"""


def test_a_forked_child_makes_its_own_channel_and_leaves_the_parents(target: str) -> None:
    assert _run(FORK, target) == "both spoke\n"


POOL = """
    import multiprocessing, sys
    import sidekey

    client = sidekey.Client(sys.argv[1], timeout=10)

    def there_and_back(number):
        value = b"%d" % number
        return client.decrypt(client.encrypt([value])) == [value]

    if __name__ == "__main__":
        assert there_and_back(0)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            print(pool.map(there_and_back, range(8)) == [True] * 8)
"""


def test_a_pool_of_forked_workers_may_inherit_a_client(target: str) -> None:
    assert _run(POOL, target) == "True\n"


ASYNC_FORK = """
    import asyncio, os, sys
    import sidekey

    client = sidekey.AsyncClient(sys.argv[1], timeout=10)

    async def there_and_back():
        return await client.decrypt(await client.encrypt([b"value"]))

    child = os.fork()
    assert asyncio.run(there_and_back()) == [b"value"]
    if child:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        print("both spoke")
"""


def test_an_async_client_made_before_a_fork_works_in_both(target: str) -> None:
    assert _run(ASYNC_FORK, target) == "both spoke\n"


USED_BEFORE_FORK = """
    import asyncio, os, sys
    import sidekey

    client = sidekey.AsyncClient(sys.argv[1], timeout=10)

    async def there_and_back():
        return await client.decrypt(await client.encrypt([b"value"]))

    asyncio.run(there_and_back())
    child = os.fork()
    if not child:
        try:
            asyncio.run(there_and_back())
        except RuntimeError as error:
            os._exit(7 if "fork" in str(error) else 8)
        os._exit(9)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), asyncio.run(there_and_back()))
"""


def test_an_async_client_used_before_a_fork_says_so_in_the_child_instead_of_hanging(target: str) -> None:
    assert _run(USED_BEFORE_FORK, target) == "7 [b'value']\n"


def test_threads_share_one_client(target: str) -> None:
    with sidekey.Client(target, message_bytes=2_000) as client, ThreadPoolExecutor(16) as pool:

        def there_and_back(number: int) -> bool:
            values: list[bytes | None] = [b"%d" % number] * (number % 5 * 60 + 1)
            return client.decrypt(client.encrypt(values)) == values

        assert all(pool.map(there_and_back, range(80)))


def test_an_async_client_serves_one_event_loop_after_another(target: str) -> None:
    client = sidekey.AsyncClient(target)

    async def there_and_back() -> list[bytes | None]:
        return await client.decrypt(await client.encrypt([b"value", None]))

    assert asyncio.run(there_and_back()) == [b"value", None]
    assert asyncio.run(there_and_back()) == [b"value", None]


async def test_many_tasks_share_one_async_client(target: str) -> None:
    async with sidekey.AsyncClient(target) as client:

        async def there_and_back(number: int) -> bool:
            return await client.decrypt(await client.encrypt([b"%d" % number])) == [b"%d" % number]

        assert all(await asyncio.gather(*(there_and_back(number) for number in range(100))))


async def test_a_cancelled_task_cancels_what_is_in_flight(address: str, reference: Reference) -> None:
    reference.delay = 5.0
    async with sidekey.AsyncClient(address, message_bytes=1, max_in_flight=2) as client:
        task = asyncio.create_task(client.encrypt([b"a"] * 10))
        while reference.begun < 2:  # noqa: ASYNC110 (the server counts in its own threads)
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(3):
            while reference.cancelled < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
    assert reference.begun == 2


def test_a_closed_client_says_so(target: str) -> None:
    with sidekey.Client(target) as client:
        client.encrypt([b"a"])
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.encrypt([b"a"])


async def test_a_closed_async_client_says_so(target: str) -> None:
    async with sidekey.AsyncClient(target) as client:
        await client.encrypt([b"a"])
    await client.close()
    with pytest.raises(RuntimeError, match="closed"):
        await client.encrypt([b"a"])


IMPORT = """
    import sys
    sys.modules["pyarrow"] = sys.modules["numpy"] = None
    import sidekey
    assert not {"google.rpc", "sidecar"} & set(sys.modules)
    client = sidekey.Client(sys.argv[1])
    assert client.decrypt(client.encrypt([b"a"])) == [b"a"]
    try:
        client.encrypt_array([1])
    except ImportError as error:
        print(error)
"""


def test_lists_need_neither_pyarrow_nor_numpy_and_arrays_say_what_to_install(target: str) -> None:
    assert _run(IMPORT, target) == "arrays need pyarrow and numpy: pip install 'sidekey[arrow]'\n"


def test_the_readmes_snippet_runs(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIDEKEY_TARGET", target)
    (snippet,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    exec(compile(snippet, str(README), "exec"), {})  # noqa: S102 (our own README)
