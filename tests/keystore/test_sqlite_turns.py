"""Writers of one process take turns at SQLite's one lock, in the order in which they came."""

import asyncio
from pathlib import Path

from sidecar.keystore.factory import create
from tests.keystore.records import record

WRITERS = 200


async def test_writers_are_served_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    keystore = create(f"sqlite:///{tmp_path / 'keystore.db'}")
    await keystore.open(upgrade=True)
    served: list[int] = []

    async def write(number: int) -> None:
        assert await keystore.insert(record(generation=number))
        served.append(number)

    await asyncio.gather(*map(write, range(1, WRITERS + 1)))
    assert served == sorted(served)
    await keystore.close()
