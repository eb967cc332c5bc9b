"""The tables of an SQL keystore, in SQLAlchemy's portable core."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, cast

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

from sidecar.keystore import copies

SCHEMA_VERSION: Final = 2


class UtcDateTime(TypeDecorator[datetime]):
    """Points in time, aware on this side whatever the database keeps of a time zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:  # noqa: ARG002
        """To UTC, since SQLite drops the zone; raises ``ValueError`` for a naive time."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a point in time needs a time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:  # noqa: ARG002
        """From the database, as aware UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)

    def result_processor(self, dialect: Any, coltype: Any) -> Callable[[Any], Any]:
        """As a time, or, where SQLite holds what is none, as it is: no check of a row lets that pass.

        An error here would be one of the whole answer, and not say which row it is of.
        """
        # There is one: ``process_result_value`` makes it so.
        parsed = cast("Callable[[Any], Any]", super().result_processor(dialect, coltype))

        def process(value: Any) -> Any:
            try:
                return parsed(value)
            except (TypeError, ValueError):
                return value

        return process


def name_column(name: str, *, primary_key: bool = False) -> Column[str]:
    """A keyring's name: compared and ordered by its UTF-8 bytes, which is what SQLite does without being told."""
    bytewise = String(255).with_variant(String(255, collation="C"), "postgresql")
    return Column(name, bytewise, nullable=False, primary_key=primary_key)


METADATA: Final = MetaData()

DATA_KEYS: Final = Table(
    "data_keys",
    METADATA,
    Column("key_id", String(14), primary_key=True),
    name_column("keyring"),
    Column("generation", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("kek_id", String(2048), nullable=False),
    Column("wrapped_key", LargeBinary, nullable=False),
    Column("commitment", LargeBinary, nullable=False),
    Column("values_encrypted", BigInteger, nullable=False),
    # Since version 2; the defaults let a sidecar of version 1 go on inserting while a fleet is upgraded.
    Column("further_copies", Text, nullable=False, server_default=copies.NONE),
    Column("state_changed_at", UtcDateTime),
    Column("values_decrypted", BigInteger, nullable=False, server_default="0"),
    Column("first_used_at", UtcDateTime),
    Column("last_used_at", UtcDateTime),
    UniqueConstraint("keyring", "generation", name="data_keys_keyring_generation"),
)

KEYRINGS: Final = Table(
    "keyrings",
    METADATA,
    name_column("name", primary_key=True),
    Column("created_at", UtcDateTime, nullable=False),
    Column("roll_over_days", Double),
    Column("default_mode", String(16)),
    Column("allow_deterministic", Boolean),
)

VERSION: Final = Table("schema_version", METADATA, Column("version", Integer, primary_key=True, autoincrement=False))
