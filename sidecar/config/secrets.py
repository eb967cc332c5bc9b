"""Secrets in the configuration: where they belong, and what of it may be shown."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from sidecar.config.problems import REDACTED, dotted

_SWITCHES = ("isKms", "formerKms")
_AWS_CREDENTIALS = frozenset({"accesskeyid", "secretaccesskey", "sessiontoken"})
_HOME = ("extraKmsConfig", "credentials")
# Whatever else a provider's block holds may be a secret: Sidekey cannot know.
_PUBLIC = frozenset({"plugin", *_SWITCHES, "keyId", "region"})


def take_out_misplaced(tree: dict[str, Any]) -> list[str]:
    """Problems of the configuration's form that involve secrets, found before the model sees it.

    Credentials in the wrong place are also taken out of ``tree``, so that nothing else speaks of them.
    """
    problems: list[str] = []
    for name, section in list(tree.items()):
        if name != "plugins":
            problems += _credentials_outside(tree, (), only=name)
        elif isinstance(section, dict):
            for plugin, block in section.items():
                if isinstance(block, dict):
                    problems += _of_plugin(plugin, block)
    return problems


def redacted_plugin(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A plugin's block with every value redacted that is not known to be public."""
    return {key: value if key in _PUBLIC else _redacted(value) for key, value in settings.items()}


def has_static_credentials(settings: Mapping[str, Any]) -> bool:
    """Whether a plugin's block holds credentials where they belong."""
    extra = settings.get(_HOME[0])
    return isinstance(extra, Mapping) and bool(extra.get(_HOME[1]))


def _of_plugin(name: str, block: dict[str, Any]) -> list[str]:
    path = ("plugins", name)
    problems = [
        # Taken as unknown, it would silently leave the KMS unused.
        f"{dotted((*path, key))}: unknown key; did you mean '{switch}'?"
        for key in block
        for switch in _SWITCHES
        if key != switch and _letters(key) == switch.lower()
    ]
    if not any(block.get(switch) is True for switch in _SWITCHES):
        return problems  # Not ours: its keys are unchecked.
    if block.get("plugin") == "awsKms":
        problems += _credentials_outside(block, path)
    return problems + [
        f"{dotted(path + where)}: it holds print-config's placeholder {REDACTED!r}; put the real value"
        for where, value in _leaves(block)
        if value == REDACTED
    ]


def _credentials_outside(tree: dict[str, Any], path: tuple[str, ...], only: str | None = None) -> Iterator[str]:
    """Take AWS credentials out of ``tree``, but for their home in a plugin's block, and say where they belong."""
    for key in [only] if only is not None else list(tree):
        here = (*path, key)
        if here[2:] == _HOME:
            continue
        if _letters(key).removeprefix("aws") in _AWS_CREDENTIALS:
            del tree[key]
            yield _misplaced(here)
        elif isinstance(tree[key], dict):
            yield from _credentials_outside(tree[key], here)


def _misplaced(path: tuple[str, ...]) -> str:
    plugin = path[1] if path[0] == "plugins" else "awsKms"
    home = dotted(("plugins", plugin, *_HOME))
    return f"{dotted(path)}: credentials do not belong here; better use an IAM role, else put them under {home}"


def _letters(key: str) -> str:
    return re.sub(r"[^a-z]", "", key.lower())


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, Mapping):
        for key, below in value.items():
            yield from _leaves(below, (*path, key))
    else:
        yield path, value


def _redacted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _redacted(below) for key, below in value.items()}
    return REDACTED
