"""The format page: its snippet runs, and its numbers are the code's."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sidecar.crypto import format as ciphertext_format
from sidecar.crypto import key_schedule
from sidecar.crypto.format import RowFailure, Suite
from sidecar.keys.rollover import MOST_VALUES
from sidecar.kms.context import canonical_json, encryption_context
from tests.crypto import frozen, reference

PAGE = (Path(__file__).parents[2] / "protos" / "FORMAT.md").read_text(encoding="utf-8")
Decrypt = Callable[[bytes, bytes, bytes], bytes]


def rows_of_table(heading: str) -> list[list[str]]:
    """The body of the table whose first heading this is."""
    table = PAGE.split(f"| {heading} |", 1)[1].split("\n\n", 1)[0]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.splitlines()[2:]]


@pytest.fixture(scope="module")
def snippet() -> Decrypt:
    """The page's own ``decrypt``, with nothing but the names that the page says to import."""
    names: dict[str, object] = {"AESSIV": AESSIV, "HKDF": HKDF, "SHA512": SHA512}
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert code.count("\n") == 6
    exec(compile(code, "FORMAT.md", "exec"), names)  # noqa: S102  (our own page)
    decrypt = names["decrypt"]
    assert callable(decrypt)
    return decrypt


def test_the_pages_snippet_decrypts_every_valid_vector(snippet: Decrypt) -> None:
    for vector in frozen.valid():
        data_key = frozen.data_keys()[vector.key_id]
        assert snippet(data_key, vector.ciphertext, vector.associated_data) == vector.plaintext


def test_the_pages_snippet_takes_no_vector_that_is_not_authentic(snippet: Decrypt) -> None:
    keys = frozen.data_keys("invalid.json")
    vectors = [each for each in frozen.invalid() if each.error == RowFailure.AUTHENTICATION_FAILED.name]
    assert vectors
    for vector in vectors:
        with pytest.raises(InvalidTag):
            snippet(keys[vector.ciphertext[1:8].hex()], vector.ciphertext, vector.associated_data)


def test_the_pages_layouts_are_the_codes() -> None:
    table = {row[0]: row for row in rows_of_table("suite")}
    assert [*table] == ["`0xF8`", "`0xF9`", "`0xFA`"]
    for suite in Suite:
        _, name, body, overhead = table[f"`0x{suite:02X}`"]
        assert name == suite.title
        fixed_parts = [int(size) for size in re.findall(r"\((\d+)\)", body)]
        assert ciphertext_format.HEADER_BYTES + sum(fixed_parts) == int(overhead) == suite.overhead_bytes
        assert suite.lead_bytes == suite.overhead_bytes - ciphertext_format.SIV_BYTES
    assert Suite.of(0xFA) is None
    assert "malformed in this version" in table["`0xFA`"][1]


def test_the_pages_key_schedule_is_the_codes() -> None:
    data_key = bytes(range(32))
    (_, suite_info, suite_size, _), (_, label, size, _) = rows_of_table("output")
    assert suite_info == "`sidekey/v1 suite ` ‖ suite (1)"
    for suite in Suite:
        info = suite_info.split("`")[1].encode() + bytes([suite])
        assert key_schedule.suite_key(data_key, suite) == reference.hkdf_sha512(data_key, info, int(suite_size))
    expected = reference.hkdf_sha512(data_key, label.strip("`").encode(), int(size))
    assert key_schedule.commitment(data_key) == expected


def test_the_pages_limits_are_the_codes() -> None:
    assert f"0 to {ciphertext_format.MAX_VALUE_BYTES:,} (8 MiB)" in PAGE
    assert f"0 to {ciphertext_format.MAX_ASSOCIATED_DATA_BYTES:,} (64 KiB)" in PAGE
    assert f"The empty value has one, of {' or '.join(str(suite.overhead_bytes) for suite in Suite)}." in PAGE
    assert f"suite (1) ‖ key id ({ciphertext_format.KEY_ID_BYTES})" in PAGE
    assert f"header = the first {ciphertext_format.HEADER_BYTES} bytes" in PAGE
    (exponent,) = re.findall(r"replaced after 2\^(\d+) values", PAGE)
    assert 2 ** int(exponent) == MOST_VALUES


def test_the_pages_encryption_context_is_the_codes() -> None:
    (text,) = re.findall(r"`(\{\"sidekey:.*?\})`", PAGE)
    filled = text.replace("<14 hex digits>", '"0123456789abcd"').replace("<name>", '"default"')
    context = encryption_context("default", "0123456789abcd")
    assert json.loads(filled) == context
    assert filled.replace(" ", "").encode() == canonical_json(context)


def test_the_page_is_one_page() -> None:
    assert len(PAGE.splitlines()) <= 110
    assert max(map(len, PAGE.splitlines())) <= 140
