"""`make demo`: encrypts columns of a real table, decrypts them, proves them equal, and queries the ciphertexts."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from sidekey import Client

from examples.demo.stack import Sidecar, running
from examples.demo.table import flights, planes

_CHUNK_ROWS = 50_000


@dataclass
class Column:
    """A column of the table, how it is encrypted, and what came of it."""

    name: str
    mode: Literal["deterministic", "randomized"]
    plain: pa.ChunkedArray[Any]
    encrypted: pa.ChunkedArray[Any] | None = None
    encrypt_seconds: float = 0.0
    decrypt_seconds: float = 0.0

    @property
    def associated_data(self) -> bytes:
        """Binds every value to the meaning of its column, so that one cannot be moved to another."""
        return self.name.encode()


def main() -> None:
    """Run the demo; ends with an AssertionError if anything is not equal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kms", choices=("local", "aws"), default="local", help="who wraps the data keys")
    kms = parser.parse_args().kms
    console = Console()
    table = flights()
    columns = [
        Column("tailnum", "deterministic", table["tailnum"]),
        Column("dest", "deterministic", table["dest"]),
        Column("dep_time", "randomized", table["dep_time"]),
        Column("air_time", "randomized", table["air_time"]),
        Column("time_hour", "randomized", table["time_hour"]),
    ]
    with running(kms) as sidecar, Client(sidecar.target) as client:
        console.print(f"Sidecar at {sidecar.target}, data keys wrapped by {client.server_info().kms}.")
        _work(client, columns, console)
        joined = _join(client, columns[0])
        _report(console, columns, sidecar)
    groups = _group_by(columns[1])
    console.print(f"GROUP BY on the ciphertexts of dest: {groups} groups, every count as in the plaintext.")
    console.print(f"JOIN with planes on the ciphertexts of tailnum: {joined:,} rows, as in the plaintext.")
    console.print("Every value and every NULL came back equal. The sidecar is stopped and its files are removed.")


def _work(client: Client, columns: list[Column], console: Console) -> None:
    rows = sum(len(column.plain) for column in columns)
    parts = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*parts, console=console) as progress:
        task = progress.add_task("encrypt", total=2 * rows)
        for column in columns:
            progress.update(task, description=f"encrypt {column.name:<9}")
            _encrypt(client, column, lambda done: progress.advance(task, done))
        for column in columns:
            progress.update(task, description=f"decrypt {column.name:<9}")
            _decrypt(client, column, lambda done: progress.advance(task, done))


def _encrypt(client: Client, column: Column, advance: Callable[[int], None]) -> None:
    chunks = []
    for part in _parts(column.plain):
        started = time.perf_counter()
        chunks.append(client.encrypt_array(part, mode=column.mode, associated_data=column.associated_data))
        column.encrypt_seconds += time.perf_counter() - started
        advance(len(part))
    column.encrypted = pa.chunked_array(chunks)


def _decrypt(client: Client, column: Column, advance: Callable[[int], None]) -> None:
    assert column.encrypted is not None
    chunks = []
    for part in column.encrypted.chunks:
        started = time.perf_counter()
        chunks.append(client.decrypt_array(part, type=column.plain.type, associated_data=column.associated_data))
        column.decrypt_seconds += time.perf_counter() - started
        advance(len(part))
    decrypted = pa.chunked_array(chunks)
    assert decrypted.equals(column.plain), f"{column.name} did not come back equal"
    assert decrypted.null_count == column.plain.null_count == column.encrypted.null_count


def _parts(array: pa.ChunkedArray[Any]) -> list[pa.Array[Any]]:
    whole = array.combine_chunks()
    return [whole.slice(start, _CHUNK_ROWS) for start in range(0, len(whole), _CHUNK_ROWS)]


def _group_by(column: Column) -> int:
    plain, encrypted = (
        pa.table({"value": values}).group_by("value").aggregate([([], "count_all")]).sort_by("count_all")["count_all"]
        for values in (column.plain, column.encrypted)
    )
    assert plain.equals(encrypted), "GROUP BY on ciphertexts gives other counts"
    return len(plain)


def _join(client: Client, column: Column) -> int:
    """Join flights with planes on tail numbers, once in plaintext and once in ciphertext."""
    tailnum = planes()["tailnum"]
    encrypted = client.encrypt_array(tailnum, mode=column.mode, associated_data=column.associated_data)
    plain_rows, encrypted_rows = (
        pa.table({"tailnum": left}).join(pa.table({"tailnum": right}), "tailnum", join_type="inner").num_rows
        for left, right in ((column.plain, tailnum), (column.encrypted, encrypted))
    )
    assert encrypted_rows == plain_rows > 0, "the join on ciphertexts gives another count"
    return encrypted_rows


def _report(console: Console, columns: list[Column], sidecar: Sidecar) -> None:
    report = Table(title=f"New York City flights, 2013: {len(columns[0].plain):,} rows", box=box.SIMPLE, pad_edge=False)
    for heading in ("column", "type", "mode"):
        report.add_column(heading)
    for heading in ("NULLs", "encrypted", "decrypted", "MB in", "MB out"):
        report.add_column(heading, justify="right")
    for c in columns:
        assert c.encrypted is not None
        rates = (f"{len(c.plain) / seconds / 1e6:.1f} M/s" for seconds in (c.encrypt_seconds, c.decrypt_seconds))
        sizes = (f"{array.nbytes / 1e6:.1f}" for array in (c.plain, c.encrypted))
        report.add_row(c.name, str(c.plain.type), c.mode, f"{c.plain.null_count:,}", *rates, *sizes)
    console.print(report)
    wraps, unwraps = (sidecar.metric("sidekey_kms_calls_total", operation=name) for name in ("wrap", "unwrap"))
    hits, misses = (sidecar.metric("sidekey_cache_lookups_total", result=name) for name in ("hit", "miss"))
    values = sidecar.metric("sidekey_values_total")
    console.print(
        f"{values:,} values cost the KMS {wraps} wraps and {unwraps} unwraps: one of each is the start-up check,"
    )
    console.print(f"one of each makes and proves the data key. Data key cache: {hits:,} hits, {misses:,} misses.")


if __name__ == "__main__":
    main()
    # Everything is stopped and said. The interpreter's own end is left out: native threads of libraries (gRPC, pyarrow)
    # that outlive it by a moment have been seen, once in some sixty runs, to abort the process after its work was done.
    sys.stdout.flush()
    os._exit(0)
