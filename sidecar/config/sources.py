"""The sources beside the file: environment variables and flags, each as a tree of overrides that knows its origins."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sidecar.config.keys import PREFIX, Key, settings
from sidecar.config.problems import did_you_mean, shortened

FILE_VARIABLE = "SIDEKEY_CONFIG"
_NOT_OURS = frozenset({FILE_VARIABLE, "SIDEKEY_TARGET"})

# Kubernetes sets these in every pod of a namespace that has a Service called "sidekey".
_SERVICE_LINK = re.compile(
    r"SIDEKEY_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)

Origins = dict[tuple[str, ...], str]


@dataclass(slots=True)
class Overrides:
    """What one source sets, as in the file, and the name under which it set each path."""

    tree: dict[str, Any] = field(default_factory=dict)
    origins: Origins = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def put(self, key: Key, value: Any, origin: str) -> None:
        """Set ``key``."""
        node = self.tree
        for part in key.path[:-1]:
            node = node.setdefault(part, {})
        node[key.path[-1]] = value
        self.origins[key.path] = origin


def from_environment(environ: Mapping[str, str]) -> Overrides:
    """What ``SIDEKEY_*`` sets; an empty variable sets nothing, an unknown one is a problem."""
    overrides = Overrides()
    known = {key.variable: key for key in settings().values()}
    for name, text in sorted(environ.items()):
        if not name.startswith(PREFIX) or name in _NOT_OURS or _SERVICE_LINK.fullmatch(name):
            continue
        if name not in known:
            suggestion = did_you_mean(name, known, listing=False)
            overrides.problems.append(f"{shortened(ascii(name)[1:-1])}: unknown environment variable{suggestion}")
        elif text:
            overrides.put(known[name], known[name].from_text(text), name)
    return overrides


def from_flags(flags: Mapping[str, Any]) -> Overrides:
    """What flags set, by dotted path; None sets nothing. Raises ``KeyError`` for a path that does not exist."""
    overrides = Overrides()
    known = settings()
    for dotted, value in flags.items():
        if value is not None:
            parsed = known[dotted].from_text(value) if isinstance(value, str) else value
            overrides.put(known[dotted], parsed, "command line")
    return overrides


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``over`` laid on top, section by section; inside a setting nothing is mixed."""
    tree = dict(base)
    for name, value in over.items():
        if name != "keyrings" and isinstance(value, Mapping):
            below = tree.get(name)
            # What is no section stays for the model to refuse.
            tree[name] = merged(below, value) if isinstance(below, Mapping) else (value if below is None else below)
        else:
            tree[name] = value
    return tree
