"""The command line of the benchmark: arguments, progress and files. Everything else is imported."""

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench import cases, machine, record, report, servers, session, soak
from bench.results import Results
from bench.run import IN_FLIGHT, Effort, peer_rows
from bench.targets import judge
from bench.wire import WrongAnswerError
from sidecar.allocator import keep_freed_memory

_FULL_SECONDS = 0.15
_QUICK_SECONDS = 0.06
_WIDTH_OF_FILES = 160
_RESULTS = servers.ROOT / "bench" / "results"


def main() -> int:
    """Run what the arguments ask for; 1 where something could not be measured, or a soak did not pass."""
    args = _arguments()
    # A terminated run must stop the servers that it started: unwind, as Ctrl-C does.
    signal.signal(signal.SIGTERM, _terminated)
    keep_freed_memory()
    console = Console(stderr=True)
    try:
        if args.command == "soak":
            return asyncio.run(soak.run(console, args.minutes * 60, args.json, echo=args.echo))
        return _bench(console, args)
    except (servers.ServerFailedError, soak.SoakError, WrongAnswerError) as failed:
        console.print(str(failed), markup=False, style="red", soft_wrap=True)
        return 1


def _bench(console: Console, args: argparse.Namespace) -> int:
    started, begin = datetime.now(UTC), time.perf_counter()
    effort = Effort(args.repeats, _QUICK_SECONDS if args.quick else _FULL_SECONDS)
    chosen, too_long = cases.select(cases.quick_grid() if args.quick else cases.grid(), args.only)
    if not chosen:
        console.print(f"No case to measure is called {args.only!r}.", markup=False, style="red")
        return 1
    results = _measure(console, chosen, too_long, effort, peers_only=args.peers)
    targets = [] if args.peers else judge(results)
    facts: dict[str, object] = {
        "started_at": started.isoformat(timespec="seconds"),
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": args.quick,
        "repeats": effort.repeats,
        "seconds_a_repeat": effort.seconds,
        "machine": machine.describe(),
    }
    record.write(args.json, results, targets, facts)
    report.print_report(Console(width=None if sys.stdout.isatty() else _WIDTH_OF_FILES), results, targets)
    console.print(f"{time.perf_counter() - begin:.0f} s; all numbers are in {args.json}", markup=False)
    return 1 if any(found.failures for found in results.measurements) else 0


def _measure(
    console: Console, chosen: list[cases.Case], too_long: list[cases.Case], effort: Effort, *, peers_only: bool
) -> Results:
    steps = len(peer_rows(chosen)) + (0 if peers_only else len(chosen) * len(IN_FLIGHT))
    columns = BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False)
    with Progress(*columns, console=console, transient=True, refresh_per_second=2) as progress:
        task = progress.add_task("starting the servers", total=steps, completed=-1)

        def step(what: str) -> None:
            progress.update(task, description=what, advance=1)

        if peers_only:
            return asyncio.run(session.measure_peers(chosen, effort, step))
        return asyncio.run(session.measure(chosen, too_long, effort, step))


def _terminated(*_: object) -> NoReturn:
    raise SystemExit(128 + signal.SIGTERM)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measures the sidecar side by side with a gRPC echo server and with ciphers in process.",
    )
    parser.add_argument("--quick", action="store_true", help="the cases of the targets only: a minute, not ten")
    parser.add_argument("--repeats", type=_positive(int), default=5, metavar="N", help="repeats of each case (5)")
    parser.add_argument("--json", type=Path, default=_RESULTS / "latest.json", metavar="FILE", help="where numbers go")
    parser.add_argument("--only", metavar="PATTERN", help="some cases: encrypt/deterministic/column/32B/10000, or */1")
    parser.add_argument("--peers", action="store_true", help="the ciphers in process only; no server is started")
    commands = parser.add_subparsers(dest="command")
    soaking = commands.add_parser("soak", help="minutes of load with cancelled calls and short deadlines")
    soaking.add_argument("--minutes", type=_positive(float), default=10.0, metavar="M", help="how long (10)")
    soaking.add_argument("--echo", action="store_true", help="soak the echo server, to tell gRPC's share")
    soaking.add_argument("--json", type=Path, default=_RESULTS / "soak.json", metavar="FILE", help="where numbers go")
    return parser.parse_args()


def _positive(kind: Callable[[str], float]) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = kind(text)
        if value <= 0:
            raise argparse.ArgumentTypeError("must be more than 0")
        return value

    return parse


if __name__ == "__main__":
    sys.exit(main())
