"""Reads YAML as strictly as a security setting deserves. Owns its errors: line and column, never the file's content.

Beyond PyYAML's safe loader: no key twice in a mapping (the second would win silently), keys are text, no anchors,
aliases or tags (aliases make small files huge), no dates (they are text), and bounded size and depth.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from sidecar.config.problems import ConfigError, shortened

_MAX_BYTES = 256 * 1024
_MAX_DEPTH = 32
_TIMESTAMP = "tag:yaml.org,2002:timestamp"

# PyYAML's texts may quote the file; these are constant, or name nothing but punctuation and kinds of tokens, and help.
_HARMLESS_TEXTS = frozenset(
    {
        "mapping values are not allowed here",
        "could not find expected ':'",
        "found character '\\t' that cannot start any token",
        "found unexpected end of stream",
        "expected a single document in the stream",
    }
)
_PUNCTUATION = r"'(?:<[a-z ]{1,30}>|[-?:,{}\[\]])'"
_HARMLESS = re.compile(
    rf"expected (?:<block end>|{_PUNCTUATION} or {_PUNCTUATION}|the node content), but (?:found|got) {_PUNCTUATION}"
    r"|found character '[@`%]' that cannot start any token"
)


def read(path: Path) -> dict[str, Any]:
    """The mapping that the file holds; an empty file is an empty mapping. Raises ``ConfigError``."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError([f"{path} cannot be read: {error.strerror}"]) from None
    if len(content) > _MAX_BYTES:
        raise ConfigError([f"{path} is longer than {_MAX_BYTES} bytes"])
    try:
        return parse(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ConfigError([f"{path} is not UTF-8"]) from None
    except ConfigError as error:
        raise ConfigError(f"{path}, {problem}" for problem in error.problems) from None


def parse(text: str) -> dict[str, Any]:
    """The mapping that ``text`` holds. Raises ``ConfigError``."""
    try:
        tree = yaml.load(text, Loader=_StrictLoader)  # noqa: S506 (a SafeLoader, made stricter)
    except _StrictError as error:
        raise ConfigError([_at(error.problem_mark, str(error.problem))]) from None
    except yaml.MarkedYAMLError as error:
        detail = f": {error.problem}" if _is_harmless(str(error.problem)) else ""
        raise ConfigError([_at(error.problem_mark, f"it is not valid YAML{detail}")]) from None
    except yaml.YAMLError:
        raise ConfigError(["it is not valid YAML: a character that YAML does not allow"]) from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(["the file must hold a mapping of sections"])
    return tree


class _StrictError(yaml.MarkedYAMLError):
    """A text of our own, and where."""

    def __init__(self, problem: str, mark: yaml.Mark | None) -> None:
        super().__init__(problem=problem, problem_mark=mark)


class _StrictLoader(yaml.SafeLoader):
    yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML's own name for it)
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _StrictError(
                "anchors and aliases are not taken; put text that begins with & or * in quotes", event.start_mark
            )
        if getattr(event, "tag", None) is not None:
            raise _StrictError("tags are not taken; put text that begins with ! in quotes", event.start_mark)
        if self._depth == _MAX_DEPTH:
            raise _StrictError(f"it is nested more than {_MAX_DEPTH} deep", event.start_mark)
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except ValueError:  # For example an integer of thousands of digits.
            raise _StrictError("this number cannot be read", node.start_mark) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node)
            if not isinstance(key, str):
                raise _StrictError("a key must be text; put it in quotes", key_node.start_mark)
            if key in mapping:
                raise _StrictError(f"the key {shortened(ascii(key))} is there twice", key_node.start_mark)
            mapping[key] = self.construct_object(value_node, deep=deep)
        return mapping


def _is_harmless(text: str) -> bool:
    return text in _HARMLESS_TEXTS or _HARMLESS.fullmatch(text) is not None


def _at(mark: yaml.Mark | None, text: str) -> str:
    return text if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: {text}"
