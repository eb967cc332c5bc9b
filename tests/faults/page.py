"""The page of the matrix: its tables, of what is declared and of times as they were measured."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.faults import settings
from tests.faults.expected import OK, TTL, Expected, Fault, Situation, expected, faults_in

PAGE: Final = Path(__file__).parents[2] / "docs" / "reliability.md"
Times = Mapping[tuple[Situation, Fault], str]
"""The last two cells of a row: the slowest call, and how long until all was well again."""

_WORK: Final = {Situation.ROLLING_OVER: "the rollover", Situation.REWRAPPING: "`sidekey rewrap`"}
_MEASURED: Final = ("slowest call", "well again after")


def written(page: str, times: Times) -> str:
    """The page with these tables in place of its own."""
    page = _replaced(page, "settings", _settings())
    for situation in Situation:
        page = _replaced(page, situation, _table(situation, times))
    return page


def read(page: str) -> Times:
    """The times that stand in a page; a row that is not there has none."""
    found = {}
    for situation in Situation:
        for line in _between(page, situation).splitlines()[2:]:
            name, *_, slowest, back = (cell.strip() for cell in line.strip("|").split("|"))
            found[situation, Fault(name)] = f"{slowest} | {back}"
    return found


def _settings() -> str:
    rows = ["| setting | in the matrix |", "|---|---|"]
    rows += [f"| `{name}` | {value:g} |" for name, value in settings.COMMON.items()]
    rows += [f"| `{name}`, for *refreshing* and *rolling over* | {value:g} |" for name, value in settings.SHORT.items()]
    seconds = settings.ROLL_OVER_SECONDS
    rows.append(f"| `dataKeyRollOverLength`, for *rolling over* | {seconds:g} seconds, in days |")
    return "\n".join(rows)


def _table(situation: Situation, times: Times) -> str:
    work = _WORK.get(situation)
    head = ["fault", "Encrypt", "Decrypt", "`/readyz`", *([work] if work else []), "log", "brought back by", *_MEASURED]
    rows = []
    for fault in faults_in(situation):
        cell = expected(situation, fault)
        found = [str(fault), _outcomes(cell.encrypt, cell), _outcomes(cell.decrypt, cell)]
        found += ["ready" if cell.ready else "not ready", *([cell.work] if work else [])]
        found += [
            ", ".join(f"`{event}`" for event in cell.events) or "-",
            cell.back,
            times.get((situation, fault), " | "),
        ]
        rows.append(found)
    return "\n".join([_row(head), "|---" * len(head) + "|", *map(_row, rows)])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _outcomes(outcomes: tuple[str, ...], cell: Expected) -> str:
    words = [outcome if outcome == OK else "{} `{}`".format(*outcome.split(" ")) for outcome in outcomes]
    if cell.until is None:
        return ", then ".join(words)
    return f"OK until {'its refresh' if cell.until == TTL else 'the stale limit'}, then {words[-1]}"


def _between(page: str, name: str) -> str:
    found = re.search(f"<!-- {name} -->\n(.*?)\n?<!-- end -->", page, re.DOTALL)
    assert found is not None, f"the page has no place for {name}"
    return found[1]


def _replaced(page: str, name: str, text: str) -> str:
    before, _, rest = page.partition(f"<!-- {name} -->\n")
    _, _, after = rest.partition("<!-- end -->")
    return f"{before}<!-- {name} -->\n{text}\n<!-- end -->{after}"
