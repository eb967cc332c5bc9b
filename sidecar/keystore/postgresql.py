"""PostgreSQL as the database of a keystore: its connections, their TLS and their limits. Holds no query of the port.

Works behind PgBouncer's transaction pooling: no session state is relied on. Limits are set anew in every transaction,
and prepared statements have no name, so none outlives its transaction or meets another's.
"""

import ssl
from typing import Any, Final

from sqlalchemy import URL, AsyncAdaptedQueuePool, Connection, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from sidecar.errors import StartupError
from sidecar.keystore.postgresql_url import PostgresqlUrl, SslMode, parse
from sidecar.keystore.sql import SqlKeystore

_UPGRADE_LOCK: Final = int.from_bytes(b"sidekey1")
"""The advisory lock that every upgrade of a keystore takes; any number, as long as it stays the same."""
_READ_ONLY: Final = "25006"
_REFUSALS: Final = {
    "28P01": "the database refuses this user or password",
    "28000": "the database does not let this user in from here",
    "3D000": "the database server has no database of this name",
    "3F000": "the database user has no schema to create tables in",
    "42501": "the database user lacks a privilege that this needs",
    _READ_ONLY: "the database is read-only; the URL must name the primary server",
}
"""What an operator must mend, by SQLSTATE."""
_LIMITS: Final = "SELECT set_config('statement_timeout', $1, true), set_config('lock_timeout', $1, true)"
# A commit that returns is on the disk, whatever the server's default; a stronger default (remote_apply) is left alone.
_DURABLE: Final = (
    ", CASE WHEN current_setting('synchronous_commit') IN ('off', 'local', 'remote_write')"
    " THEN set_config('synchronous_commit', 'on', true) END"
)


def from_url(url: str, *, max_connections: int = 4, timeout_seconds: float = 5.0) -> SqlKeystore:
    """The keystore in ``postgresql://user:password@host:port/database``, not yet open.

    The parts of a URL are percent-encoded. A Unix socket's directory is given as ``?host=/directory`` in place of the
    host. Where the URL has no password, asyncpg looks for one in ``PGPASSWORD``, then in the file that ``PGPASSFILE``
    names, then in ``~/.pgpass``, and reads them at every new connection; nothing else is taken from the environment.

    ``sslmode`` is ``verify-full`` (the default: the certificate must be trusted and name the host), ``verify-ca``,
    ``require`` (TLS with whoever answers) or ``disable`` (the default on a Unix socket and the loopback interface
    alone). ``sslrootcert`` is a PEM file of authorities to trust in place of the system's. There are no client
    certificates.

    Raises ``ValueError`` that says what would be right and repeats nothing of the URL.
    """
    server = Postgresql(parse(url), max_connections=max_connections, timeout_seconds=timeout_seconds)
    return SqlKeystore(server, timeout_seconds=timeout_seconds)


class Postgresql:
    """A keystore's database in PostgreSQL, whose encoding must be UTF-8.

    The user needs SELECT, INSERT and UPDATE on the tables, and for an upgrade CREATE in the schema; which schema
    that is, the user's ``search_path`` says. What is erased stays in the server's files until VACUUM and the end of its
    logs.
    """

    writes_at_once: Final = None

    def __init__(self, url: PostgresqlUrl, *, max_connections: int = 4, timeout_seconds: float = 5.0) -> None:
        """``timeout_seconds`` bounds each statement, and each wait for a lock, a new connection and a free one."""
        self._url = url
        self._max_connections = max_connections
        self._timeout_seconds = timeout_seconds
        self._tls: ssl.SSLContext | bool = False

    def prepare(self, *, create: bool) -> bool:  # noqa: ARG002 - a database is made by who runs the server
        """Read the certificates to trust; raises ``StartupError`` where that cannot be done."""
        try:
            self._tls = _tls(self._url)
        except (OSError, ssl.SSLError):
            raise StartupError(
                f"the file {self._url.ssl_root_cert} in the keystore URL's sslrootcert cannot be read, "
                "or holds no certificate in PEM"
            ) from None
        return True

    def engine(self) -> AsyncEngine:
        """A new engine; the caller disposes of it. Every connection is tried before use, and replaced if it is gone."""
        url = self._url
        engine = create_async_engine(
            URL.create(
                "postgresql+asyncpg",
                username=url.user,
                password=url.password,
                host=None if url.is_socket else url.host,
                port=url.port,
                database=url.database,
            ),
            poolclass=AsyncAdaptedQueuePool,
            pool_size=self._max_connections,
            max_overflow=0,
            pool_timeout=self._timeout_seconds,
            pool_pre_ping=True,
            # Every statement sees what was committed before it; ``queries`` says why that is enough.
            isolation_level="READ COMMITTED",
            hide_parameters=True,
            connect_args=self._connect_arguments(),
        )
        event.listen(engine.sync_engine, "begin", self._begin)
        event.listen(engine.sync_engine, "handle_error", _leave_a_standby)
        return engine

    def begin_upgrade(self, connection: Connection) -> None:
        """As ``Database``; raises ``StartupError`` where the encoding is not UTF-8."""
        if connection.exec_driver_sql("SHOW server_encoding").scalar() != "UTF8":
            raise StartupError("the keystore's database must have the encoding UTF8")
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock($1::bigint)", (_UPGRADE_LOCK,))

    def refusal(self, error: Exception) -> StartupError | None:
        """As ``Database``: by the state that the server answered with, or how TLS failed."""
        text = _REFUSALS.get(str(_sql_state(error)))
        if isinstance(error, ssl.SSLCertVerificationError):
            text = (
                "the database server's certificate is not trusted or names another host; "
                "see sslrootcert in the keystore URL"
            )
        elif type(error) is ConnectionError:
            # asyncpg's own, and no class of the operating system's: the server declined TLS.
            text = "the database server does not offer TLS as the keystore URL's sslmode demands"
        return None if text is None else StartupError(text)

    def _connect_arguments(self) -> dict[str, Any]:
        socket = {"host": self._url.host} if self._url.is_socket else {}
        return {
            **socket,
            "ssl": self._tls,
            "target_session_attrs": "any",
            "server_settings": {"application_name": "sidekey"},
            "timeout": self._timeout_seconds,
            # The last resort, for a server that answers nothing at all: its own limits come first.
            "command_timeout": 2 * self._timeout_seconds,
            # Without its cache asyncpg gives statements no name.
            "statement_cache_size": 0,
            "prepared_statement_cache_size": 0,
        }

    def _begin(self, connection: Connection) -> None:
        write = connection.get_execution_options().get("write", False)
        milliseconds = str(max(1, round(self._timeout_seconds * 1000)))
        connection.exec_driver_sql(_LIMITS + (_DURABLE if write else ""), (milliseconds,))


def _tls(url: PostgresqlUrl) -> ssl.SSLContext | bool:
    if url.ssl_mode is SslMode.DISABLE:
        return False
    context = ssl.create_default_context(cafile=url.ssl_root_cert)
    context.check_hostname = url.ssl_mode is SslMode.VERIFY_FULL
    if url.ssl_mode is SslMode.REQUIRE and url.ssl_root_cert is None:
        context.verify_mode = ssl.CERT_NONE
    return context


def _sql_state(error: BaseException | None) -> object:
    """The SQLSTATE of asyncpg's error, or of the one of SQLAlchemy's that stands for it."""
    return getattr(getattr(error, "orig", error), "sqlstate", None)


def _leave_a_standby(context: ExceptionContext) -> None:
    # After a failover the old primary may come back as a standby that reads well and takes no write: connections to it
    # are no better than broken ones.
    if _sql_state(context.original_exception) == _READ_ONLY:
        context.is_disconnect = True
