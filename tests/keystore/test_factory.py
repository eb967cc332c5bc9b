"""Keystore URLs, whatever the database."""

import re
from pathlib import Path

import pytest

from sidecar.keystore.factory import create, upgrades_itself


async def test_a_path_of_any_characters_but_the_reserved_ones_is_opened_as_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "key store %41 ü&=;.db"
    keystore = create(f"sqlite:///{path}")
    await keystore.open(upgrade=True)
    await keystore.close()
    assert path.is_file()


async def test_a_path_without_a_leading_slash_is_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    keystore = create("sqlite:///keystore.db")
    await keystore.open(upgrade=True)
    await keystore.close()
    assert (tmp_path / "keystore.db").is_file()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://sidekey:hunter2@db", "unknown scheme 'mysql'; supported: sqlite:///path, postgresql://"),
        ("postgres://sidekey:hunter2@db/sidekey", "unknown scheme 'postgres'; did you mean 'postgresql'?"),
        ("postgresql+asyncpg://sidekey:hunter2@db/sidekey", "did you mean 'postgresql'?"),
        ("sqlite://tmp/x.db", "sqlite:///relative/path or sqlite:////absolute/path"),
        ("u:hunter2://x", "it must be a URL; supported: "),
        ("postgresql://sidekey:hunter2@db", "one user and one database"),
        ("/var/lib/keystore.db", "it must be a URL; supported: "),
        ("sqlite:///", "must name a plain file"),
        ("sqlite:///:memory:", "must name a plain file"),
        ("sqlite:///file:keystore.db", "must name a plain file"),
        ("sqlite:///keystore.db?mode=ro", "must name a plain file"),
    ],
)
def test_a_url_that_is_not_supported_says_what_is_and_shows_no_password(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        create(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "itself"),
    [("sqlite:////var/lib/keystore.db", True), ("postgresql://u@db/keys", False), ("dynamodb://t?region=x", False)],
)
def test_only_a_keystore_of_one_sidecar_is_upgraded_unasked(url: str, itself: bool) -> None:
    assert upgrades_itself(url) is itself
