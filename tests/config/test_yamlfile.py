"""YAML that is not as it should be: line and column, and nothing of the file."""

from pathlib import Path

import pytest

from sidecar.config.problems import ConfigError
from sidecar.config.yamlfile import parse, read


def refusal_of(text: str) -> str:
    with pytest.raises(ConfigError) as refused:
        parse(text)
    (problem,) = refused.value.problems
    return problem


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: b: hunter2", "line 1, column 5: it is not valid YAML: mapping values are not allowed here"),
        (
            "a: [hunter2",
            "line 1, column 12: it is not valid YAML: expected ',' or ']', but got '<stream end>'",
        ),
        ("a: {b: hunter2 ]", "line 1, column 16: it is not valid YAML: expected ',' or '}', but got ']'"),
        ("a:\n  b: 1\n c: hunter2", "line 3, column 2: it is not valid YAML: expected <block end>, but found "),
        ("a: @hunter2", "line 1, column 4: it is not valid YAML: found character '@' that cannot start any token"),
        ("a: 1\n\thunter2: 2", "line 2, column 1: it is not valid YAML"),
        ('a: "hunter2', "line 1, column 12: it is not valid YAML: found unexpected end of stream"),
        ('a: "\\qhunter2"', "line 1, column 6: it is not valid YAML"),
        ("a: hunter2\x00", "it is not valid YAML: a character that YAML does not allow"),
        ("a: 1\n---\nhunter2: 2", "line 2, column 1: it is not valid YAML"),
        ("a: {x: 1, y: 2}\nb: {x: 1,\n  x: hunter2}", "line 3, column 3: the key 'x' is there twice"),
        ("x: 1\nx: hunter2", "line 2, column 1: the key 'x' is there twice"),
        ("a: &hunter2 1", "line 1, column 4: anchors and aliases are not taken"),
        ("a: *hunter2", "line 1, column 4: anchors and aliases are not taken"),
        ("a: !!python/name:hunter2 1", "line 1, column 4: tags are not taken"),
        ("a: !hunter2 1", "line 1, column 4: tags are not taken"),
        ("<<: {a: hunter2}", "line 1, column 1: it is not valid YAML"),
        ("1: hunter2", "line 1, column 1: a key must be text; put it in quotes"),
        ("[a]: hunter2", "line 1, column 1: a key must be text; put it in quotes"),
        ("off: hunter2", "line 1, column 1: a key must be text; put it in quotes"),
        ("a: " + "[" * 40 + "hunter2", "line 1, column 35: it is nested more than 32 deep"),
        ("a: " + "1" * 5000, "line 1, column 4: this number cannot be read"),
        ("- hunter2", "the file must hold a mapping of sections"),
        ("hunter2", "the file must hold a mapping of sections"),
    ],
)
def test_a_refusal_says_where_and_quotes_nothing(text: str, expected: str) -> None:
    problem = refusal_of(text)
    assert problem.startswith(expected)
    assert "hunter2" not in problem


def test_dates_are_text() -> None:
    assert parse("a: 2024-99-99\nb: 2024-01-01\n2024-01-02: c") == {
        "a": "2024-99-99",
        "b": "2024-01-01",
        "2024-01-02": "c",
    }


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "\ufeff"])
def test_an_empty_file_is_an_empty_mapping(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="utf-8")
    assert read(path) == {}


def test_a_problem_in_a_file_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("a: [")
    with pytest.raises(ConfigError, match=r"c\.yaml, line 1, column 5: it is not valid YAML"):
        read(path)


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml cannot be read: No such file or directory"):
        read(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read(tmp_path)


def test_a_file_that_is_no_text_or_too_long_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b"a: \xff\xfe")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        read(path)
    path.write_bytes(b"#" * (256 * 1024 + 1))
    with pytest.raises(ConfigError, match="is longer than 262144 bytes"):
        read(path)
