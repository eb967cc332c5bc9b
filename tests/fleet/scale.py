"""Keystores as large as a large fleet makes them, filled by SQL, and databases that tell what each statement does."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, event
from sqlalchemy.ext.asyncio import AsyncEngine

from sidecar.errors import StartupError
from sidecar.keystore.port import DataKeyRecord, WrappedCopy
from sidecar.keystore.sql import Database
from tests.keystore.postgres import PostgresServer
from tests.keystore.records import CREATED_AT, record

KEK_ID: Final = "local:0011223344556677"
_COLUMNS: Final = "key_id, keyring, generation, state, created_at, kek_id, wrapped_key, commitment, values_encrypted"


@dataclass(frozen=True)
class Size:
    """So many keyrings, each with so many generations; the newest of each are stored last, as in life."""

    keyrings: int
    generations: int

    @property
    def data_keys(self) -> int:
        """Rows of the table."""
        return self.keyrings * self.generations

    def keyring(self, number: int) -> str:
        """The name of a keyring, counted from 0 in the order of names."""
        return f"keyring-{number:05d}"

    def key_id(self, keyring: int, generation: int) -> str:
        """The id of the data key of a keyring's generation."""
        return f"{1 + keyring + (generation - 1) * self.keyrings:014x}"

    def record(self, keyring: int, generation: int) -> DataKeyRecord:
        """As it is stored."""
        return record(
            self.keyring(keyring),
            generation,
            key_id=self.key_id(keyring, generation),
            kek_id=KEK_ID,
            wrapped_key=bytes(60),
            commitment=bytes(32),
        )

    @property
    def copies(self) -> tuple[WrappedCopy, ...]:
        """Of every data key."""
        return (WrappedCopy(KEK_ID, bytes(60)),)


def fill_sqlite(path: Path, size: Size) -> None:
    """Fill a keystore that has its schema."""
    with closing(sqlite3.connect(path)) as database:
        database.execute(
            f"""
            WITH RECURSIVE numbers(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM numbers WHERE i + 1 < ?)
            INSERT INTO data_keys ({_COLUMNS})
            SELECT printf('%014x', 1 + i), printf('keyring-%05d', i % ?), 1 + i / ?, 'enabled', ?, ?,
                   zeroblob(60), zeroblob(32), 0
            FROM numbers
            """,  # noqa: S608 - constants of this file
            (size.data_keys, size.keyrings, size.keyrings, f"{CREATED_AT:%Y-%m-%d %H:%M:%S.%f}", KEK_ID),
        )
        database.commit()


def fill_postgres(server: PostgresServer, database: str, size: Size) -> None:
    """Fill a keystore that has its schema, and let the planner know."""
    server.sql(
        database,
        f"""
        INSERT INTO data_keys ({_COLUMNS})
        SELECT lpad(to_hex(1 + i), 14, '0'), 'keyring-' || lpad((i % {size.keyrings})::text, 5, '0'),
               1 + i / {size.keyrings}, 'enabled', '{CREATED_AT.isoformat()}', '{KEK_ID}',
               decode(repeat('00', 60), 'hex'), decode(repeat('00', 32), 'hex'), 0
        FROM generate_series(0, {size.data_keys - 1}) AS i
        """,  # noqa: S608 - numbers and constants of this file
    )
    server.sql(database, "VACUUM ANALYZE data_keys")


@dataclass(frozen=True)
class Work:
    """What the database did for one statement."""

    plan: tuple[str, ...]
    """What each step of the plan is, and on which table or index."""
    effort: int
    """SQLite: steps of its virtual machine. PostgreSQL: pages that were looked at."""


class Telling:
    """A database whose statements leave their plan and effort in ``done``; transactions' own statements do not."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.done: list[Work] = []

    @property
    def writes_at_once(self) -> int | None:
        """As ``Database``."""
        return self._database.writes_at_once

    def taken(self) -> list[Work]:
        """What was done since the last call."""
        done, self.done = self.done, []
        return done

    def prepare(self, *, create: bool) -> bool:
        """As ``Database``."""
        return self._database.prepare(create=create)

    def engine(self) -> AsyncEngine:
        """As ``Database``."""
        engine = self._database.engine()
        self._listen(engine)
        return engine

    def begin_upgrade(self, connection: Connection) -> None:
        """As ``Database``."""
        self._database.begin_upgrade(connection)

    def refusal(self, error: Exception) -> StartupError | None:
        """As ``Database``."""
        return self._database.refusal(error)

    def _listen(self, engine: AsyncEngine) -> None:
        raise NotImplementedError


class TellingSqlite(Telling):
    """By EXPLAIN QUERY PLAN, and by the steps of the virtual machine while the statement itself runs."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._steps = 0

    def _listen(self, engine: AsyncEngine) -> None:
        event.listen(engine.sync_engine, "connect", self._count_steps)
        event.listen(engine.sync_engine, "before_cursor_execute", self._explain)
        event.listen(engine.sync_engine, "after_cursor_execute", self._note)

    def _count_steps(self, connection: Any, _record: Any) -> None:
        connection.run_async(lambda driver: driver.set_progress_handler(self._step, 1))

    def _step(self) -> int:
        self._steps += 1
        return 0

    def _explain(self, connection: Connection, _cursor: Any, statement: str, parameters: Any, *rest: Any) -> None:
        self._plan = ()
        if _is_the_ports(statement):
            probe = _cursor_beside(connection)
            many = bool(rest[-1])
            probe.execute(f"EXPLAIN QUERY PLAN {statement}", parameters[0] if many else parameters)
            self._plan = tuple(row[3] for row in probe.fetchall())
            probe.close()
        self._steps = 0

    def _note(self, _connection: Connection, _cursor: Any, statement: str, *_rest: Any) -> None:
        # The adapted cursor has fetched every row by now.
        if _is_the_ports(statement):
            self.done.append(Work(self._plan, self._steps))


class TellingPostgres(Telling):
    """By EXPLAIN ANALYZE of the same statement with the same parameters, which is rolled back before it runs."""

    def _listen(self, engine: AsyncEngine) -> None:
        event.listen(engine.sync_engine, "before_cursor_execute", self._explain)

    def _explain(self, connection: Connection, _cursor: Any, statement: str, parameters: Any, *rest: Any) -> None:
        if not _is_the_ports(statement):
            return
        probe = _cursor_beside(connection)
        many = bool(rest[-1])
        probe.execute("SAVEPOINT telling", ())
        probe.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", parameters[0] if many else parameters)
        ((answer,),) = probe.fetchall()
        probe.execute("ROLLBACK TO SAVEPOINT telling", ())
        probe.close()
        top = (json.loads(answer) if isinstance(answer, str) else answer)[0]["Plan"]
        self.done.append(Work(tuple(_steps(top)), top["Shared Hit Blocks"] + top["Shared Read Blocks"]))


def _is_the_ports(statement: str) -> bool:
    is_query = statement.lstrip().startswith(("SELECT", "WITH", "INSERT", "UPDATE"))
    return is_query and ("data_keys" in statement or "keyrings" in statement)


def _cursor_beside(connection: Connection) -> Any:
    return connection.connection.cursor()


def _steps(node: dict[str, Any]) -> Iterator[str]:
    where = node.get("Index Name") or node.get("Relation Name")
    yield f"{node['Node Type']} on {where}" if where else str(node["Node Type"])
    for child in node.get("Plans", ()):
        yield from _steps(child)
