"""The encryption context, to the byte: part of the format."""

from sidecar.kms.context import canonical_json, encryption_context


def test_the_context_holds_the_two_pairs_of_the_format() -> None:
    assert encryption_context("default", "0123456789abcd") == {
        "sidekey:keyring": "default",
        "sidekey:key-id": "0123456789abcd",
    }


def test_canonical_json_is_sorted_without_spaces_and_utf_8() -> None:
    context = encryption_context('zahl"ungen/ü', "0123456789abcd")
    assert canonical_json(context) == (
        b'{"sidekey:key-id":"0123456789abcd","sidekey:keyring":"zahl\\"ungen/' + "ü".encode() + b'"}'
    )


def test_no_two_contexts_have_the_same_bytes() -> None:
    one = canonical_json({"a": 'b","c":"d'})
    other = canonical_json({"a": "b", "c": "d"})
    assert one != other
