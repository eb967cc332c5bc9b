"""How connections to PostgreSQL are protected and let in: TLS with a server's certificate, and passwords."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from sidecar.errors import StartupError
from sidecar.keystore.factory import create
from tests.keystore.certificates import Authority
from tests.keystore.postgres import PostgresServer
from tests.keystore.tls_proxy import TlsProxy

AUTHORITY, STRANGER = Authority("an authority"), Authority("an authority")
"""Of the same name, so that only their keys tell them apart."""
PASSWORD = quote(PostgresServer.PASSWORD)
NOT_TRUSTED = "certificate is not trusted or names another host"


@pytest.fixture(scope="module")
def strict_server() -> Iterator[PostgresServer]:
    """A server that wants a password."""
    server = PostgresServer(authentication="scram-sha-256")
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
async def tls(strict_server: PostgresServer, tmp_path: Path) -> AsyncIterator[TlsProxy]:
    """That server under TLS, by the name localhost."""
    identity = AUTHORITY.server("localhost")
    (tmp_path / "server.crt").write_bytes(identity.certificate)
    (tmp_path / "server.key").write_bytes(identity.key)
    proxy = TlsProxy(tmp_path / "server.crt", tmp_path / "server.key", strict_server.port)
    await proxy.start()
    yield proxy
    await proxy.stop()


@pytest.fixture
def trusted(tmp_path: Path) -> Path:
    """The authority's certificate in a file."""
    path = tmp_path / "trusted.pem"
    path.write_bytes(AUTHORITY.certificate)
    return path


@pytest.fixture
def strange(tmp_path: Path) -> Path:
    """The certificate of another authority in a file."""
    path = tmp_path / "strange.pem"
    path.write_bytes(STRANGER.certificate)
    return path


@pytest.mark.parametrize(
    ("host", "parameters", "encrypted"),
    [
        ("localhost", "?sslmode=verify-full&sslrootcert={trusted}", True),
        ("127.0.0.1", "?sslmode=verify-ca&sslrootcert={trusted}", True),
        ("127.0.0.1", "?sslmode=require", True),
        ("127.0.0.1", "?sslmode=require&sslrootcert={trusted}", True),
        ("localhost", "?sslmode=disable", False),
        ("localhost", "", False),
    ],
)
async def test_a_server_is_reached_as_the_ssl_mode_says(
    strict_server: PostgresServer, tls: TlsProxy, trusted: Path, host: str, parameters: str, encrypted: bool
) -> None:
    name = strict_server.new_database()
    parameters = parameters.format(trusted=trusted)
    keystore = create(f"postgresql://postgres:{PASSWORD}@{host}:{tls.port}/{name}{parameters}")
    await keystore.open(upgrade=True)
    assert await keystore.newest_generation("default") == 0
    await keystore.close()
    assert set(tls.connections) == {encrypted}


@pytest.mark.parametrize(
    ("host", "parameters"),
    [
        ("localhost", "?sslmode=verify-full&sslrootcert={strange}"),
        ("localhost", "?sslmode=verify-ca&sslrootcert={strange}"),
        ("localhost", "?sslmode=require&sslrootcert={strange}"),
        ("localhost", "?sslmode=verify-full"),  # the system's authorities do not know it either
        ("127.0.0.1", "?sslmode=verify-full&sslrootcert={trusted}"),  # of another name than the certificate
    ],
)
async def test_a_certificate_that_is_not_trusted_or_of_another_name_is_refused_before_anything_is_said(
    tls: TlsProxy, trusted: Path, strange: Path, host: str, parameters: str
) -> None:
    parameters = parameters.format(trusted=trusted, strange=strange)
    keystore = create(f"postgresql://postgres:{PASSWORD}@{host}:{tls.port}/postgres{parameters}")
    with pytest.raises(StartupError, match=NOT_TRUSTED) as caught:
        await keystore.open(upgrade=True)
    assert caught.value.__cause__ is None
    assert tls.connections == []


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
async def test_a_server_without_tls_is_refused_where_tls_is_demanded(
    postgres_server: PostgresServer, trusted: Path, mode: str
) -> None:
    url = postgres_server.tcp_url("postgres", f"?sslmode={mode}&sslrootcert={trusted}")
    with pytest.raises(StartupError, match="does not offer TLS"):
        await create(url).open(upgrade=True)


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
async def test_a_file_of_certificates_that_cannot_be_used_is_refused_by_name(
    postgres_server: PostgresServer, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "root.pem"
    if content is not None:
        path.write_bytes(content)
    url = postgres_server.tcp_url("postgres", f"?sslmode=verify-full&sslrootcert={path}")
    with pytest.raises(StartupError, match=r"root\.pem in the keystore URL's sslrootcert cannot be read"):
        await create(url).open(upgrade=True)


async def test_a_wrong_password_is_refused_and_not_shown(strict_server: PostgresServer) -> None:
    with pytest.raises(StartupError, match="refuses this user or password") as caught:
        await create(f"postgresql://postgres:hunter2@127.0.0.1:{strict_server.port}/postgres").open()
    assert "hunter2" not in str(caught.value)


async def test_a_password_that_the_url_does_not_have_is_taken_from_the_environment_or_its_file(
    strict_server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PGPASSWORD", raising=False)
    file = tmp_path / "passwords"
    file.write_text(f"*:*:*:postgres:{PostgresServer.PASSWORD}\n")
    file.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(file))
    url = strict_server.tcp_url(strict_server.new_database())
    keystore = create(url)
    await keystore.open(upgrade=True)
    await keystore.close()
    monkeypatch.setenv("PGPASSWORD", "not this one")
    with pytest.raises(StartupError, match="refuses this user or password"):
        await create(url).open()
    monkeypatch.setenv("PGPASSWORD", PostgresServer.PASSWORD)
    await keystore.open()
    await keystore.close()


async def test_nothing_else_is_taken_from_the_environment(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "PGHOST": "nowhere.invalid",
        "PGPORT": "1",
        "PGUSER": "somebody",
        "PGDATABASE": "elsewhere",
        "PGSSLMODE": "prefer",
        "PGTARGETSESSIONATTRS": "standby",
    }.items():
        monkeypatch.setenv(name, value)
    keystore = create(postgres_url)
    await keystore.open(upgrade=True)
    await keystore.close()
