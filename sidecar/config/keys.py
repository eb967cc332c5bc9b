"""Every key of the configuration, found by walking the model: its dotted path, its environment variable, its field."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from sidecar.config.model import Config

_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
PREFIX = "SIDEKEY_"


@dataclass(frozen=True, slots=True)
class Key:
    """One setting."""

    path: tuple[str, ...]
    """As in the file, for example ``("cache", "ttlSeconds")``."""
    field: FieldInfo

    @property
    def dotted(self) -> str:
        """For example ``cache.ttlSeconds``."""
        return ".".join(self.path)

    @property
    def variable(self) -> str:
        """For example ``SIDEKEY_CACHE_TTL_SECONDS``."""
        return PREFIX + _WORD_START.sub("_", "_".join(self.path)).upper()

    def from_text(self, text: str) -> Any:
        """The value that an environment variable or a flag stands for; text that does not fit is left for the model."""
        return _from_text(self.field.annotation, text)


def section_of(field: FieldInfo) -> type[BaseModel] | None:
    """The model of a section; None for a setting."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def settings() -> dict[str, Key]:
    """Every setting but ``plugins``, whose keys are the providers', by dotted path."""
    return {key.dotted: key for key in _walk(Config, ()) if key.path != ("plugins",)}


def _walk(model: type[BaseModel], above: tuple[str, ...]) -> Iterator[Key]:
    for name, field in model.model_fields.items():
        path = (*above, field.alias or name)
        section = section_of(field)
        if section is None:
            yield Key(path, field)
        else:
            yield from _walk(section, path)


def _from_text(kind: Any, text: str) -> Any:
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if kind is int:
        return int(text) if re.fullmatch(r"[+-]?[0-9]{1,30}", text) else text
    if kind is float:
        return _float(text)
    if get_origin(kind) is tuple:
        return [part.strip() for part in text.split(",")]
    if get_origin(kind) is Mapping:
        return {part.strip(): {} for part in text.split(",")}
    return text


def _float(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
