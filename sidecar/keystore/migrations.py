"""Versions of an SQL keystore's schema: which one a database has, and the way to this one.

Everything here runs within the caller's transaction. A migration spells out what it adds, as it was then: it must do
the same when the schema has moved on.
"""

from collections.abc import Callable, Mapping
from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Double,
    MetaData,
    String,
    Table,
    Text,
    insert,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.schema import CreateColumn

from sidecar.errors import StartupError
from sidecar.keystore.port import NO_SCHEMA
from sidecar.keystore.schema import METADATA, SCHEMA_VERSION, VERSION, UtcDateTime, name_column


def stored_version(connection: Connection) -> int:
    """The schema version of the database; 0 where it is empty. Raises ``StartupError`` where it is no keystore."""
    tables = inspect(connection).get_table_names()
    if not tables:
        return 0
    if VERSION.name not in tables:
        raise StartupError("the database holds tables of another program; give the keystore one of its own")
    versions = connection.execute(select(VERSION.c.version)).scalars().all()
    if len(versions) != 1 or not isinstance(versions[0], int) or versions[0] < 1:
        raise StartupError("the keystore's schema version does not parse; restore the keystore from a backup")
    return versions[0]


def check(version: int) -> None:
    """Raise ``StartupError`` where this sidecar cannot work with a schema of this version."""
    if version == 0:
        raise StartupError(NO_SCHEMA)
    if version < SCHEMA_VERSION:
        raise StartupError(
            f"the keystore has schema version {version}, and this sidecar needs version {SCHEMA_VERSION}: "
            "run 'sidekey keystore upgrade'"
        )
    if version > SCHEMA_VERSION:
        raise StartupError(
            f"the keystore has schema version {version}, and this sidecar knows versions up to {SCHEMA_VERSION}; "
            "upgrade the sidecar"
        )


def upgrade(connection: Connection) -> None:
    """Create the schema or bring it up to date; the transaction must exclude every other upgrade.

    Raises ``StartupError`` where the schema is newer, or the database is no keystore.
    """
    version = stored_version(connection)
    if version == 0:
        METADATA.create_all(connection)
        connection.execute(insert(VERSION), {"version": SCHEMA_VERSION})
        return
    for step in range(version, SCHEMA_VERSION):
        _MIGRATIONS[step](connection)
        connection.execute(update(VERSION).values(version=step + 1))
    check(max(version, SCHEMA_VERSION))


def _further_copies_uses_and_keyrings(connection: Connection) -> None:
    added = (
        Column("further_copies", Text, nullable=False, server_default="[]"),
        Column("state_changed_at", UtcDateTime),
        Column("values_decrypted", BigInteger, nullable=False, server_default="0"),
        Column("first_used_at", UtcDateTime),
        Column("last_used_at", UtcDateTime),
    )
    for column in added:
        definition = CreateColumn(column).compile(dialect=connection.dialect)
        connection.execute(text(f"ALTER TABLE data_keys ADD COLUMN {definition}"))
    keyrings = Table(
        "keyrings",
        MetaData(),
        name_column("name", primary_key=True),
        Column("created_at", UtcDateTime, nullable=False),
        Column("roll_over_days", Double),
        Column("default_mode", String(16)),
        Column("allow_deterministic", Boolean),
    )
    keyrings.create(connection)
    # Version 1 destroyed nothing: a row that says so was edited by hand and still has its key. In version 2 it would
    # read as damaged, so it becomes what it is; who wants it destroyed can have that now.
    connection.execute(text("UPDATE data_keys SET state = 'disabled' WHERE state = 'destroyed'"))


_MIGRATIONS: Final[Mapping[int, Callable[[Connection], None]]] = {1: _further_copies_uses_and_keyrings}
"""From each version to the next."""
