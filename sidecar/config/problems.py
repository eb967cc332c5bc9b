"""What a refused configuration says of itself. Owns the words of its errors, and what of a value they may show."""

import difflib
import re
from collections.abc import Iterable

REDACTED = "<redacted>"

_SHOWN_CHARACTERS = 60
# Up to the last @, for a password that was not percent-encoded may hold anything.
_USERINFO = re.compile(r"(://[^/@:?#]*):.*@", re.DOTALL)
_SECRET_PARAMETER = re.compile(
    r"([?&][^=&]*(?:pass|pwd|secret|token|credential|access_?key|api_?key)[^=&]*=)[^&]*", re.IGNORECASE
)


class ConfigError(Exception):
    """The configuration is refused; the text lists every problem, and no secret."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(self._text())

    def _text(self) -> str:
        if len(self.problems) == 1:
            return f"configuration: {self.problems[0]}"
        return f"configuration: {len(self.problems)} problems" + "".join(f"\n  - {each}" for each in self.problems)


class RefusedError(ValueError):
    """A value is refused. Its text is this package's own, says what would be right, and quotes no value.

    ``below``: where in the value that is refused the problem is, as keys of the file.
    """

    def __init__(self, text: str, *, below: tuple[str, ...] = ()) -> None:
        super().__init__(text)
        self.below = below


def did_you_mean(word: str, known: Iterable[str], *, listing: bool = True) -> str:
    """ "; " and what to write instead of an unknown word: the nearest known one, else all of them (or nothing)."""
    choices = sorted(known)
    if near := difflib.get_close_matches(word, choices, n=1, cutoff=0.6):
        return f"; did you mean '{near[0]}'?"
    return f"; known here: {', '.join(choices)}" if listing and choices else ""


def names_listed(names: Iterable[str]) -> str:
    """Names as an error may show them: on one line, and shortened."""
    return shortened(", ".join(ascii(name)[1:-1] for name in names))


def dotted(path: Iterable[str | int]) -> str:
    """A path in the configuration as errors name it, for example ``server.listen[0]``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            plain = part if re.fullmatch(r"[\w*?-]{1,60}", part, re.ASCII) else shortened(ascii(part))
            text += f".{plain}" if text else plain
    return text


def shown(value: object) -> str:
    """A value as an error may show it: short, on one line, of a container only what it is."""
    if isinstance(value, bool | None):
        return {True: "true", False: "false", None: "nothing"}[value]
    if isinstance(value, str):
        # URLs are the one kind of plain value that carries a password.
        return shortened(ascii(redact_url(value)))
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, int):
        # Python refuses to print integers of thousands of digits.
        return repr(value) if abs(value) < 10**_SHOWN_CHARACTERS else "a huge number"
    return kind_of(value)


def kind_of(value: object) -> str:
    """What sort of thing a value is, in YAML's words, for places whose value may be a secret."""
    kinds = {
        dict: "a mapping",
        list: "a list",
        tuple: "a list",
        str: "text",
        bool: "true or false",
        type(None): "nothing",
    }
    return kinds.get(type(value), "a number")


def shortened(text: str) -> str:
    """At most 60 characters of ``text``."""
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


def redact_url(url: str) -> str:
    """``url`` without its password, and without the query parameters that sound like secrets."""
    return _SECRET_PARAMETER.sub(rf"\1{REDACTED}", _USERINFO.sub(rf"\1:{REDACTED}@", url))
