"""PostgreSQL URLs."""

import re
from pathlib import Path

import pytest

from sidecar.keystore.postgresql_url import PostgresqlUrl, SslMode, parse


@pytest.mark.parametrize(
    ("url", "parsed"),
    [
        (
            "postgresql://sidekey:hunter2@db.example:6543/keys",
            PostgresqlUrl("db.example", 6543, "keys", "sidekey", SslMode.VERIFY_FULL, None, "hunter2"),
        ),
        (
            "postgresql://s%40k:p%3A%2F%3F%23%25%C3%BC@db/k%20s?sslmode=verify-ca&sslrootcert=/etc/ca%20s.pem",
            PostgresqlUrl("db", 5432, "k s", "s@k", SslMode.VERIFY_CA, Path("/etc/ca s.pem"), "p:/?#%ü"),
        ),
        ("postgresql://u@[::1]/d", PostgresqlUrl("::1", 5432, "d", "u", SslMode.DISABLE)),
        ("postgresql://u@127.8.9.10/d", PostgresqlUrl("127.8.9.10", 5432, "d", "u", SslMode.DISABLE)),
        ("postgresql://u@localhost/d", PostgresqlUrl("localhost", 5432, "d", "u", SslMode.DISABLE)),
        ("postgresql://u@localhost.evil/d", PostgresqlUrl("localhost.evil", 5432, "d", "u", SslMode.VERIFY_FULL)),
        ("postgresql://u@[2001:db8::1]/d", PostgresqlUrl("2001:db8::1", 5432, "d", "u", SslMode.VERIFY_FULL)),
        ("postgresql://u@10.0.0.1/d", PostgresqlUrl("10.0.0.1", 5432, "d", "u", SslMode.VERIFY_FULL)),
        ("postgresql://u@10.0.0.1/d?sslmode=disable", PostgresqlUrl("10.0.0.1", 5432, "d", "u", SslMode.DISABLE)),
        ("postgresql://u@localhost/d?sslmode=require", PostgresqlUrl("localhost", 5432, "d", "u", SslMode.REQUIRE)),
        ("postgresql://u@/d?host=/run/postgresql", PostgresqlUrl("/run/postgresql", 5432, "d", "u", SslMode.DISABLE)),
        ("postgresql://u@:5433/d?host=/run/pg", PostgresqlUrl("/run/pg", 5433, "d", "u", SslMode.DISABLE)),
        ("postgresql://u@/d?host=db", PostgresqlUrl("db", 5432, "d", "u", SslMode.VERIFY_FULL)),
    ],
)
def test_a_url_is_taken_apart(url: str, parsed: PostgresqlUrl) -> None:
    assert parse(url) == parsed
    assert "hunter2" not in repr(parse(url))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://", "one user and one database"),
        ("postgresql://db/keys", "one user and one database"),
        ("postgresql://u:hunter2@db", "one user and one database"),
        ("postgresql://u:hunter2@db/", "one user and one database"),
        ("postgresql://u:hunter2@db/a/b", "one user and one database"),
        ("postgresql://u:hunter2@/d", "one host"),
        ("postgresql://u:hunter2@one,two/d", "one host"),
        ("postgresql://u:hunter2@db:5432,db:5433/d", "it must be postgresql://"),
        ("postgresql://u:hunter2@db:65536/d", "it must be postgresql://"),
        ("postgresql://u:hunter2@[::1/d", "it must be postgresql://"),
        ("postgresql://u:hunter2%00@db/d", "it must be postgresql://"),
        ("postgresql://u:hunter2%ff@db/d", "it must be postgresql://"),
        ("postgresql://u:hunter2@db/d?sslmode", "it must be postgresql://"),
        ("postgresql://u:hunter2@db/d?host=/run", "the host once"),
        ("postgresql://u:hunter2@db/d?sslmode=prefer", "goes on in plaintext when TLS fails"),
        ("postgresql://u:hunter2@db/d?sslmode=allow", "goes on in plaintext when TLS fails"),
        ("postgresql://u:hunter2@db/d?sslmode=VERIFY-FULL", "must be one of disable, require, verify-ca, verify-full"),
        ("postgresql://u:hunter2@db/d?sslmode=", "must be one of disable"),
        ("postgresql://u:hunter2@db/d?sslmode=disable&sslrootcert=/ca", "sslrootcert has no use"),
        ("postgresql://u:hunter2@/d?host=/run&sslmode=verify-full", "no TLS on a Unix socket"),
        ("postgresql://u:hunter2@db/d?sslmode=disable&sslmode=require", "each once"),
        ("postgresql://u:hunter2@db/d?sslcrl=/crl.pem", "unknown parameter 'sslcrl'; "),
        ("postgresql://u:hunter2@db/d?application=x", "'application'; known are host, sslmode, sslrootcert"),
        ("postgresql://u:hunter2@db/d?sslmod=require", "unknown parameter 'sslmod'; did you mean 'sslmode'?"),
        ("postgresql://u:hunter2@db/d?password=hunter2", "unknown parameter 'password'; known are"),
        ("postgresql://u:5?hunter2=hunter2@db/d", "%3F, %23"),
        ("postgresql://u:5@h?hunter2=x@db/d", "%3F, %23"),
        ("postgresql://u:hun?ter2=hunter2@db/d", "%3F, %23"),
        ("postgresql://u:hun#ter2hunter2@db/d", "%3F, %23"),
        ("postgresql://u:hun/ter2hunter2@db/d", "%3F, %23"),
        ("postgresql://u:7/hunter2@db/d", "%3F, %23"),
    ],
)
def test_a_url_that_cannot_be_used_says_what_is_right_and_shows_no_password(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        parse(url)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
