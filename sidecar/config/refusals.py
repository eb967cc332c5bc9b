"""Turns the model's refusals into sentences: the key, where it was set, what was found, what would be right."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from sidecar.config.keys import section_of
from sidecar.config.model import Config, Keyring, Plugin
from sidecar.config.problems import RefusedError, did_you_mean, dotted, kind_of, shown
from sidecar.config.sources import Origins

_Location = tuple[int | str, ...]

_TEXTS = {
    "greater_than": "it must be more than {gt}",
    "greater_than_equal": "it must be at least {ge}",
    "less_than": "it must be less than {lt}",
    "less_than_equal": "it must be at most {le}",
    "finite_number": "it must be a finite number",
    "int_type": "it must be a whole number",
    "float_type": "it must be a number",
    "bool_type": "it must be true or false, without quotes",
    "string_type": "it must be text",
    "tuple_type": "it must be a list",
    "model_type": "it must be a mapping",
    "mapping_type": "it must be a mapping",
    "dict_type": "it must be a mapping",
    "literal_error": "it must be one of {expected}",
}
_KEYRINGS = "it must be a mapping of names to settings, for example `default: {{}}`"


def refusals(error: ValidationError, origins: Origins) -> list[str]:
    """One sentence for each problem; never shows what may be a secret."""
    return [_refusal(each, origins) for each in error.errors(include_url=False)]


def _refusal(error: Mapping[str, Any], origins: Origins) -> str:
    if error["type"] == "extra_forbidden":
        where = error["loc"]
        return f"{dotted(where)}: unknown key{did_you_mean(str(where[-1]), _keys_beside(where))}"
    where = _as_written(error["loc"])
    refused = error.get("ctx", {}).get("error")
    name = _name((*where, *refused.below) if isinstance(refused, RefusedError) else where, origins)
    return f"{name}: {_found(where, error)}{_right(where, error)}"


def _right(where: _Location, error: Mapping[str, Any]) -> str:
    context = error.get("ctx", {})
    if isinstance(context.get("error"), RefusedError):
        return str(context["error"])
    # A kind of refusal that has no text here may quote the value in its own.
    text = _TEXTS.get(error["type"], "it is not as it should be")
    if where == ("keyrings",) and text == _TEXTS["dict_type"]:
        text = _KEYRINGS
    text = text.format_map(_tidy(context))
    if error["type"] == "literal_error" and isinstance(error["input"], str):
        choices = context["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        text += did_you_mean(error["input"], choices, listing=False)
    return text


def _tidy(context: Mapping[str, Any]) -> dict[str, Any]:
    """Bounds as one would write them: 0 and not 0.0."""
    return {
        name: int(each) if isinstance(each, float) and each.is_integer() else each for name, each in context.items()
    }


def _found(where: _Location, error: Mapping[str, Any]) -> str:
    if where[0] == "plugins" and len(where) > 2:
        return ""  # A provider's block: anything may be a credential.
    if isinstance(error["input"], Mapping):
        return ""
    is_setting = section_of_path(where) is None and where[0] != "plugins"
    return f"found {shown(error['input']) if is_setting else kind_of(error['input'])}; "


def _name(where: _Location, origins: Origins) -> str:
    path = tuple(part for part in where if isinstance(part, str))
    origin = origins.get(path)
    return dotted(where) + (f" ({origin})" if origin else "")


def _as_written(location: _Location) -> _Location:
    """The location with every field as in the file: pydantic names the fields of refused defaults as in Python."""
    model: type[BaseModel] | None = Config
    parts: list[int | str] = []
    for part in location:
        if part == "[key]":
            continue
        field = model.model_fields.get(str(part)) if model else None
        parts.append(field.alias or part if field else part)
        model = _below(model, parts[-1])
    return tuple(parts)


def section_of_path(where: Iterable[int | str]) -> type[BaseModel] | None:
    """The model of the section at this path; None where it is a setting or unknown."""
    model: type[BaseModel] | None = Config
    for part in where:
        model = _below(model, part)
    return model


def _below(model: type[BaseModel] | None, part: int | str) -> type[BaseModel] | None:
    fields = model.model_fields.values() if model else ()
    return next((section_of(field) for field in fields if field.alias == part), None)


def _keys_beside(where: _Location) -> list[str]:
    named: dict[int | str, type[BaseModel]] = {"plugins": Plugin, "keyrings": Keyring}
    model = section_of_path(where[:-1]) or named.get(where[0])
    return [str(field.alias) for field in model.model_fields.values()] if model else []
