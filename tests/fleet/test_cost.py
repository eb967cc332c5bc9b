"""What the page says a fleet costs is what its formula says, and what the sidecars' key management does."""

import os

import pytest

from tests.fleet.simulation import DAY, Fleet, asked_by, defaults
from tests.fleet.simulation_page import FLEETS, MONTH_DAYS, PAGE, PRICE, a_day, formula, is_large, read

SOAK = os.environ.get("SIDEKEY_SOAK") == "1"
SIMULATED = {name: fleet for name, fleet in FLEETS.items() if SOAK or not is_large(fleet)}


def about(value: float) -> object:
    """Within 10 %."""
    return pytest.approx(value, rel=0.1)


def test_the_page_has_a_row_for_every_fleet_and_each_agrees_with_the_formula() -> None:
    config, rows = defaults(), read(PAGE.read_text())
    assert list(rows) == list(FLEETS)
    for name, (by_formula, simulated, _, _) in rows.items():
        assert by_formula == round(formula(FLEETS[name], config)), name
        assert simulated == about(by_formula), name


def test_the_page_has_dollars_at_the_price_that_it_names() -> None:
    page = PAGE.read_text()
    assert f"${PRICE} for 10,000 requests" in page
    for name, (_, simulated, _, _) in read(page).items():
        assert f"| ${simulated * MONTH_DAYS * PRICE / 10_000:,.2f} |" in page, name


@pytest.mark.parametrize("name", SIMULATED)
@pytest.mark.timeout(900 if SOAK else 120)
async def test_a_simulated_day_is_what_the_page_and_the_formula_say(name: str) -> None:
    _, simulated, reads, writes = read(PAGE.read_text())[name]
    fleet, asked = FLEETS[name], await a_day(FLEETS[name])
    assert asked.kms_requests == about(simulated)
    assert asked.kms_requests == about(formula(fleet, defaults()))
    assert asked.reads == about(reads)
    assert asked.writes == about(writes)


async def test_the_same_day_is_simulated_twice() -> None:
    fleet = Fleet(3, 3, kmses=2, seconds=DAY / 24)
    assert await asked_by(fleet) == await asked_by(fleet)


async def test_a_longer_ttl_is_that_many_fewer_requests() -> None:
    config = defaults()
    hour = config.model_copy(update={"cache": config.cache.model_copy(update={"ttl_seconds": 3600.0})})
    fleet = Fleet(2, 3)
    assert (await asked_by(fleet, hour)).kms_requests == about(formula(fleet, hour))
    assert formula(fleet, hour) == about(formula(fleet, config) / 12)


async def test_a_second_kms_is_asked_at_starts_and_rollovers_alone() -> None:
    asked = await asked_by(Fleet(4, 2, kmses=2, rolls_over=True, seconds=DAY / 6))
    assert asked.wraps == (4 + 2, 4 + 2)
    assert asked.unwraps[1] == 4 + 2


async def test_a_fleet_rolls_a_keyring_over_once() -> None:
    before = await asked_by(Fleet(20, 2, seconds=DAY / 6))
    assert (await asked_by(Fleet(20, 2, rolls_over=True, seconds=DAY / 6))).wraps == (before.wraps[0] + 2,)


async def test_what_is_not_used_is_not_asked_for() -> None:
    hours = [await asked_by(Fleet(3, 4, in_use=False, seconds=seconds)) for seconds in (DAY / 24, DAY)]
    assert hours[0] == hours[1]
