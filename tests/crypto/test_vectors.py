"""The frozen vectors: our code gives and takes them to the byte on every path, and so do OpenSSL and the reference."""

import ast
import subprocess
import sys
from pathlib import Path as FilePath

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sidecar.crypto import few, key_schedule
from sidecar.crypto import format as ciphertext_format
from sidecar.crypto.cipher import DataKeyCipher
from sidecar.crypto.decryption import read_ciphertexts
from sidecar.crypto.format import RowFailure, Suite
from sidecar.crypto.nonces import RandomBytes
from sidecar.crypto.siv import Path
from sidecar.errors import CorruptKeyError
from sidecar.kms.context import canonical_json, encryption_context
from sidecar.kms.local import LocalKms
from tests.crypto import frozen, reference
from tests.crypto.columns import PATHS, fixed, ragged, rows_of
from tests.vectors import make

MANY = 120
"""Copies of one row in a column: enough for the planes."""
KEY_ID = "6b1f00d2c9a4e7"


def cipher(key_id: str, path: Path) -> DataKeyCipher:
    return DataKeyCipher(key_id, frozen.data_keys()[key_id], path=path)


def repeated(nonce: bytes) -> RandomBytes:
    """One nonce for every row, in place of the CSPRNG."""
    return lambda size: nonce * (size // 16)


def test_the_vectors_cover_what_the_format_distinguishes() -> None:
    valid = frozen.valid()
    assert {vector.suite for vector in valid} == {*Suite}
    for suite in Suite:
        of_suite = [vector for vector in valid if vector.suite == suite]
        assert {len(vector.plaintext) for vector in of_suite} == {0, 1, 15, 16, 17, 31, 32, 33, 100, 1000}
        assert {len(vector.associated_data) for vector in of_suite} == {
            0,
            16,
            ciphertext_format.MAX_ASSOCIATED_DATA_BYTES,
        }
    assert {vector.error for vector in frozen.invalid()} == {"MALFORMED", "UNKNOWN_KEY", "AUTHENTICATION_FAILED"}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("copies", [1, MANY])
def test_every_plaintext_encrypts_to_its_frozen_ciphertext(copies: int, path: Path) -> None:
    for vector in frozen.valid():
        data_key = cipher(vector.key_id, path)
        # The answer must not depend on how the CSPRNG's bytes become nonces: 64 are taken as they come.
        column = ragged([vector.plaintext] * min(copies, 64 if vector.nonce else copies))
        sealed = data_key.encrypt(column, Suite(vector.suite), vector.associated_data, repeated(vector.nonce))
        assert rows_of(sealed) == [vector.ciphertext] * column.count


def test_every_plaintext_encrypts_to_its_frozen_ciphertext_without_a_column_too() -> None:
    for vector in frozen.valid():
        data_key = cipher(vector.key_id, Path.AUTO)
        sealed = data_key.encrypt_values(
            [vector.plaintext], Suite(vector.suite), vector.associated_data, repeated(vector.nonce)
        )
        assert sealed == [vector.ciphertext]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("copies", [1, MANY])
def test_every_frozen_ciphertext_decrypts(copies: int, path: Path) -> None:
    for vector in frozen.valid():
        for column in (
            ragged([vector.ciphertext] * copies),
            fixed([vector.ciphertext] * copies, len(vector.ciphertext)),
        ):
            sealed = read_ciphertexts(column)
            assert sealed.key_ids == (vector.key_id,)
            opened = sealed.decrypt({vector.key_id: cipher(vector.key_id, path)}, vector.associated_data)
            assert not opened.failures.any()
            assert rows_of(opened.column) == [vector.plaintext] * copies


def test_every_frozen_ciphertext_is_what_openssl_makes_and_takes() -> None:
    keys: dict[str, bytes | RowFailure] = {**frozen.data_keys()}
    for vector in frozen.valid():
        data_key = frozen.data_keys()[vector.key_id]
        made = reference.encrypt(
            data_key, vector.key_id, vector.suite, vector.associated_data, vector.plaintext, vector.nonce
        )
        assert made == vector.ciphertext
        assert reference.decrypt(keys, vector.ciphertext, vector.associated_data) == vector.plaintext


def test_every_frozen_ciphertext_is_what_cmac_and_ctr_make() -> None:
    for vector in frozen.valid():
        header = vector.ciphertext[:8]
        components = [header + vector.associated_data, *([vector.nonce] if vector.nonce else [])]
        key = reference.suite_key(frozen.data_keys()[vector.key_id], vector.suite)
        sealed = reference.siv_encrypt(key, components, vector.plaintext)
        assert header + vector.nonce + sealed == vector.ciphertext


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("vector", frozen.invalid(), ids=lambda vector: vector.rule)
def test_every_invalid_ciphertext_is_refused_with_its_error(vector: frozen.Invalid, path: Path) -> None:
    neighbour = reference.encrypt(
        frozen.data_keys()[KEY_ID], KEY_ID, Suite.RANDOMIZED, vector.associated_data, b"neighbour", bytes(16)
    )
    for rows in ([vector.ciphertext], [vector.ciphertext] * MANY, [neighbour, vector.ciphertext] * MANY):
        sealed = read_ciphertexts(ragged(rows))
        ciphers = {key_id: cipher(key_id, path) for key_id in frozen.data_keys("invalid.json")}
        keys = {key_id: ciphers.get(key_id, RowFailure.UNKNOWN_KEY) for key_id in sealed.key_ids}
        opened = sealed.decrypt(keys, vector.associated_data)
        assert opened.failures.tolist() == [RowFailure[vector.error] * (row != neighbour) for row in rows]
        assert rows_of(opened.column) == [b"neighbour" if row == neighbour else None for row in rows]
        assert opened.column.data.tobytes() == b"neighbour" * rows.count(neighbour)


@pytest.mark.parametrize("vector", frozen.invalid(), ids=lambda vector: vector.rule)
def test_every_invalid_ciphertext_is_refused_without_a_column_and_by_the_reference_too(vector: frozen.Invalid) -> None:
    header = few.read_header(vector.ciphertext)
    keys: dict[str, DataKeyCipher | RowFailure] = {
        key_id: cipher(key_id, Path.AUTO) for key_id in frozen.data_keys("invalid.json")
    }
    if header is not None:
        keys.setdefault(header.key_id, RowFailure.UNKNOWN_KEY)
    failure = RowFailure[vector.error]
    assert few.decrypt([vector.ciphertext], [header], keys, vector.associated_data) == [failure]
    data_keys: dict[str, bytes | RowFailure] = {**frozen.data_keys("invalid.json")}
    assert reference.decrypt(data_keys, vector.ciphertext, vector.associated_data) == failure


def test_suite_keys_and_commitments_are_the_frozen_ones() -> None:
    for entry in frozen.load("ciphertexts.json")["keys"]:
        data_key = bytes.fromhex(entry["data_key"])
        assert {f"{suite:02x}": key_schedule.suite_key(data_key, suite).hex() for suite in Suite} == entry["suite_keys"]
        assert key_schedule.commitment(data_key).hex() == entry["commitment"]


# --- wrapped keys


async def local_kms(directory: FilePath) -> LocalKms:
    path = directory / "kek"
    path.write_bytes(bytes.fromhex(frozen.load("wrapped_keys.json")["wrapping_key"]))
    path.chmod(0o600)
    kms = LocalKms(path)
    await kms.open()
    return kms


async def test_the_local_wrapping_key_unwraps_every_frozen_wrapped_key(tmp_path: FilePath) -> None:
    kms = await local_kms(tmp_path)
    assert kms.kek_id == frozen.load("wrapped_keys.json")["kek_id"]
    for entry in frozen.load("wrapped_keys.json")["valid"]:
        context = encryption_context(entry["keyring"], entry["key_id"])
        assert canonical_json(context).hex() == entry["associated_data"]
        assert (await kms.unwrap(bytes.fromhex(entry["wrapped_key"]), context)).hex() == entry["data_key"]


async def test_the_local_wrapping_key_wraps_as_the_format_says(tmp_path: FilePath) -> None:
    kms = await local_kms(tmp_path)
    vectors = frozen.load("wrapped_keys.json")
    for entry in vectors["valid"]:
        data_key = bytes.fromhex(entry["data_key"])
        wrapped = await kms.wrap(data_key, encryption_context(entry["keyring"], entry["key_id"]))
        aead = AESGCM(bytes.fromhex(vectors["wrapping_key"]))
        associated_data = bytes.fromhex(entry["associated_data"])
        assert aead.decrypt(wrapped[:12], wrapped[12:], associated_data) == data_key
        nonce = bytes.fromhex(entry["nonce"])
        assert nonce + aead.encrypt(nonce, data_key, associated_data) == bytes.fromhex(entry["wrapped_key"])


@pytest.mark.parametrize("entry", frozen.load("wrapped_keys.json")["invalid"], ids=lambda entry: entry["rule"])
async def test_the_local_wrapping_key_refuses_every_invalid_wrapped_key(
    entry: dict[str, str], tmp_path: FilePath
) -> None:
    kms = await local_kms(tmp_path)
    assert entry["error"] == CorruptKeyError.reason
    with pytest.raises(CorruptKeyError):
        await kms.unwrap(bytes.fromhex(entry["wrapped_key"]), encryption_context(entry["keyring"], entry["key_id"]))


# --- how the files were made


def test_make_gives_the_committed_files_to_the_byte(tmp_path: FilePath) -> None:
    script = frozen.DIRECTORY / "make.py"
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True, timeout=60, cwd=tmp_path)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_bytes() for path in frozen.DIRECTORY.glob("*.json")}
    assert len(made) == 3


def test_make_uses_nothing_of_this_project() -> None:
    tree = ast.parse(FilePath(make.__file__).read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    foreign = {name.split(".")[0] for name in imported} - sys.stdlib_module_names
    assert foreign == {"cryptography"}
