"""Finding providers: from a real installed package's metadata, not from a patched function."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.kms import aws
from sidecar.kms.providers import find


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the path that packages can be installed into."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def install(site: Path, package: str, plugin: str, source: str, target: str = "create") -> None:
    """What pip leaves behind of a provider's package."""
    (site / f"{package}.py").write_text(source)
    metadata = site / f"{package}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[sidekey.kms]\n{plugin} = {package}:{target}\n")


@pytest.fixture(autouse=True)
def _forget_modules() -> Iterator[None]:
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("sidekey_kms_"):
            del sys.modules[name]


def test_the_providers_of_this_package_are_found() -> None:
    assert find("awsKms") is aws.create


def test_a_provider_of_another_package_is_found(site: Path) -> None:
    install(site, "sidekey_kms_vault", "vaultKms", "def create(settings):\n    return ('vault', settings)\n")
    factory = find("vaultKms")
    assert factory({"plugin": "vaultKms"}) == ("vault", {"plugin": "vaultKms"})  # type: ignore[comparison-overlap]


@pytest.mark.parametrize("name", ["awsKMS", "awskms", "awsKm"])
def test_an_unknown_plugin_names_what_was_found_and_the_closest(name: str) -> None:
    with pytest.raises(ValueError, match=rf"'{name}'; found are: .*awsKms.*; did you mean awsKms\?"):
        find(name)


@pytest.mark.parametrize("name", ["zzzzzz", "gcpKms", "awsSecrets"])
def test_a_plugin_like_no_other_gets_no_guess(name: str) -> None:
    with pytest.raises(ValueError, match="found are") as caught:
        find(name)
    assert "did you mean" not in str(caught.value)


def test_two_packages_with_one_plugin_name_are_refused(site: Path) -> None:
    install(site, "sidekey_kms_evil", "awsKms", "def create(settings):\n    return None\n")
    with pytest.raises(ValueError, match="two packages") as caught:
        find("awsKms")
    assert "sidekey_kms_evil:create" in str(caught.value)


def test_a_provider_that_cannot_be_imported_is_named_without_its_text(site: Path) -> None:
    install(site, "sidekey_kms_broken", "brokenKms", "raise RuntimeError('secret')\n")
    with pytest.raises(ValueError, match=r"sidekey_kms_broken:create cannot be imported \(RuntimeError\)") as caught:
        find("brokenKms")
    assert caught.value.__suppress_context__
    assert "secret" not in str(caught.value)


def test_a_provider_that_is_no_factory_is_refused(site: Path) -> None:
    install(site, "sidekey_kms_odd", "oddKms", "create = 5\n")
    with pytest.raises(ValueError, match="not callable"):
        find("oddKms")
