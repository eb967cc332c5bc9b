"""Results as tables for people, in Markdown, so that they can be pasted into a page. Measures and judges nothing."""

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from bench.inprocess import PEERS, TINK_SIV
from bench.results import Measurement, Results
from bench.run import CLIENT, ECHO, SIDECAR
from bench.targets import MEGABYTE, Target

_NOTHING = "-"
_VERDICTS = {True: "[green]reached[/]", False: "[red]missed[/]", None: "[yellow]not measured[/]"}


def print_report(console: Console, results: Results, targets: Sequence[Target]) -> None:
    """Everything, the targets first."""
    _print_targets(console, targets)
    _print_single_values(console, results)
    _print_throughput(console, results)
    _print_peers(console, results)
    _print_rest(console, results)


def _print_targets(console: Console, targets: Iterable[Target]) -> None:
    table = _table("Target", ">Wanted", ">Measured", "Unit", "Verdict")
    for target in targets:
        wanted = f"{'at most' if target.at_most else 'at least'} {target.bound:g}"
        table.add_row(target.what, wanted, _number(target.measured, ".2f"), target.unit, _VERDICTS[target.reached])
    _print_section(console, "Targets", table)


def _print_single_values(console: Console, results: Results) -> None:
    table = _table("Call", "Mode", "Shape", "Size", ">Sidecar p50", ">p99", ">Echo p50", ">p99", ">p50 to echo")
    for found in results.measurements:
        if found.case.rows == 1 and found.in_flight == 1:
            case = found.case
            times = [_milliseconds(found, name, which) for name in (SIDECAR, ECHO) for which in (0, 1)]
            ratio = _number(found.p50_ratio(SIDECAR, ECHO), ".2f")
            table.add_row(case.direction, case.mode, case.shape, case.size.name, *times, ratio)
    _print_section(console, "Latency of a single value, in milliseconds", table)


def _print_throughput(console: Console, results: Results) -> None:
    for size in dict.fromkeys(found.case.size for found in results.measurements):
        table = _table(
            *("Call", "Mode", "Shape", ">Rows", ">In flight", ">Sidecar rows/s", ">MB/s", ">Echo rows/s"),
            *(">To echo", f">To {TINK_SIV}"),
        )
        for found in results.measurements:
            if found.case.size == size:
                table.add_row(*_throughput_row(results, found))
        _print_section(console, f"Throughput, values of {size.name}", table)


def _throughput_row(results: Results, found: Measurement) -> list[str]:
    case = found.case
    rate = found.rows_per_second(SIDECAR)
    payload = found.bytes_per_second(SIDECAR)
    tink = results.peer_rate(TINK_SIV, case.size.name, case.direction)
    return [
        *(case.direction, case.mode, case.shape, f"{case.rows:,}", str(found.in_flight)),
        found.failures.get(SIDECAR) or _number(rate, ",.0f"),
        _number(payload and payload / MEGABYTE, ",.1f"),
        found.failures.get(ECHO) or _number(found.rows_per_second(ECHO), ",.0f"),
        _number(found.rate_ratio(SIDECAR, ECHO), ".2f"),
        _number(rate / tink if rate and tink else None, ".2f"),
    ]


def _print_peers(console: Console, results: Results) -> None:
    table = _table("Call", "Size", *(f">{peer}" for peer in PEERS))
    for direction, size in dict.fromkeys((rate.direction, rate.size) for rate in results.peers):
        rates = (_number(results.peer_rate(peer, size, direction), ",.0f") for peer in PEERS)
        table.add_row(direction, size, *rates)
    _print_section(console, "In process, one call a value: values/s", table)


def _print_rest(console: Console, results: Results) -> None:
    for found in results.measurements:
        if (rate := found.rows_per_second(CLIENT)) is not None:
            ratio = _number(found.rate_ratio(CLIENT, SIDECAR), ".2f")
            console.print(
                f"Client library, {found.case.name}, 1 in flight: {rate:,.0f} rows/s, {ratio} of the bare stub."
            )
    for name, memory in results.memory.items():
        idle, after = memory.idle / MEGABYTE, memory.after / MEGABYTE
        console.print(f"Resident memory of the {name}: {idle:.0f} MB idle, {after:.0f} MB after the run.")
    if results.too_long:
        console.print("Over the message limit of 16 MiB, so not measured: " + _names(results))


def _names(results: Results) -> str:
    kinds = dict.fromkeys((case.rows, case.size.name) for case in results.too_long)
    return ", ".join(f"{rows:,} rows of {size}" for rows, size in kinds) + "."


def _table(*headings: str) -> Table:
    """An empty table; a heading that begins with ``>`` stands over numbers."""
    table = Table(box=box.MARKDOWN)
    for heading in headings:
        table.add_column(heading.lstrip(">"), justify="right" if heading.startswith(">") else "left", no_wrap=True)
    return table


def _print_section(console: Console, title: str, table: Table) -> None:
    if table.row_count:
        console.print(f"[bold]## {title}[/]")
        console.print(table)


def _number(value: float | None, how: str) -> str:
    return _NOTHING if value is None else format(value, how)


def _milliseconds(found: Measurement, contender: str, which: int) -> str:
    latency = found.latency(contender)
    return _NOTHING if latency is None else f"{latency[which] * 1000:.3f}"
