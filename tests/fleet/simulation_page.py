"""The tables of docs/costs.md: what a fleet asks for in a day, by a formula and as simulated.

``python -m tests.fleet.simulation_page`` simulates all of them (some minutes) and writes them into the page;
``--price 0.03`` is that of 10,000 requests to the KMS.
"""

import argparse
import asyncio
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from sidecar.config import Config
from tests.fleet.simulation import DAY, Asked, Fleet, asked_by, defaults

PAGE: Final = Path(__file__).parents[2] / "docs" / "costs.md"
PRICE: Final = 0.03
"""US dollars for 10,000 requests."""
MONTH_DAYS: Final = 30
_HOUR: Final = 3600.0
_HEAD: Final = (
    "| sidecars by keyrings | KMS requests a day by the formula | simulated | a month | keystore reads | writes |",
    "|---|---|---|---|---|---|",
)

FLEETS: Final[Mapping[str, Fleet]] = {
    **{f"{n} by {k}": Fleet(sidecars=n, keyrings=k) for n in (1, 10, 100) for k in (1, 10, 100)},
    "10 by 10, idle": Fleet(10, 10, in_use=False),
    "10 by 1, all keyrings roll over at noon": Fleet(10, 1, rolls_over=True),
    "10 by 10, two KMSs": Fleet(10, 10, kmses=2),
}


def formula(fleet: Fleet, config: Config) -> float:
    """KMS requests a day, as the page says it: refreshes of the data keys in use, starts and rollovers."""
    cache = config.cache
    refreshes = DAY / (cache.ttl_seconds * cache.refresh_after_fraction * (1 - cache.jitter_fraction / 2))
    data_keys = fleet.keyrings * (1.5 if fleet.rolls_over else 1.0)
    starts = fleet.sidecars * 2 * fleet.kmses
    rollovers = fleet.keyrings * 2 * fleet.kmses if fleet.rolls_over else 0
    if not fleet.in_use:
        # Once at the start, once since it was used, and once since the refresh of its keyring asked for it.
        return starts + fleet.sidecars * data_keys * 2.5
    return starts + rollovers + fleet.sidecars * data_keys * refreshes


def is_large(fleet: Fleet) -> bool:
    """Whether simulating it takes more than a few seconds."""
    return fleet.sidecars * fleet.keyrings >= 1000


async def a_day(fleet: Fleet) -> Asked:
    """What a fleet asks for in a day; of more than ten keyrings in use, as an hour of it says."""
    if not fleet.in_use or fleet.sidecars * fleet.keyrings <= 10:
        return await asked_by(fleet)
    start = await asked_by(replace(fleet, seconds=defaults().usage.flush_seconds))
    hour = await asked_by(replace(fleet, seconds=_HOUR))
    return _prolonged(start, hour, DAY / _HOUR)


def _prolonged(start: Asked, hour: Asked, times: float) -> Asked:
    def over(at_start: int, in_an_hour: int) -> int:
        return at_start + round((in_an_hour - at_start) * times)

    return Asked(
        tuple(map(over, start.wraps, hour.wraps)),
        tuple(map(over, start.unwraps, hour.unwraps)),
        over(start.reads, hour.reads),
        over(start.writes, hour.writes),
    )


def row(name: str, by_formula: float, asked: Asked, price: float) -> str:
    """A line of the table."""
    dollars = asked.kms_requests * MONTH_DAYS * price / 10_000
    cells = (name, f"{by_formula:,.0f}", f"{asked.kms_requests:,}", f"${dollars:,.2f}")
    return f"| {' | '.join((*cells, f'{asked.reads:,}', f'{asked.writes:,}'))} |"


def read(page: str) -> dict[str, tuple[float, float, float, float]]:
    """By fleet: requests by the formula and as simulated, reads and writes, as a page has them."""
    found = {}
    for line in _between(page).splitlines()[len(_HEAD) :]:
        name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        by_formula, simulated, _, reads, writes = (float(re.sub(r"[$,]", "", cell)) for cell in cells)
        found[name] = (by_formula, simulated, reads, writes)
    return found


def written(page: str, rows: list[str]) -> str:
    """The page with other rows."""
    return page.replace(_between(page), "\n".join((*_HEAD, *rows)))


def _between(page: str) -> str:
    return page.split("<!-- simulated -->\n")[1].split("\n<!-- end -->")[0]


def main() -> None:
    """Simulate, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m tests.fleet.simulation_page")
    parser.add_argument("--price", type=float, default=PRICE, help="US dollars for 10,000 requests (default: 0.03)")
    price = parser.parse_args().price
    config = defaults()
    rows = [row(name, formula(fleet, config), asyncio.run(a_day(fleet)), price) for name, fleet in FLEETS.items()]
    PAGE.write_text(written(PAGE.read_text(), rows))


if __name__ == "__main__":
    main()
