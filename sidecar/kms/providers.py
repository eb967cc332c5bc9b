"""Finds KMS providers by their plugin name among the entry points of the group ``sidekey.kms``."""

import difflib
from importlib.metadata import EntryPoint, entry_points
from typing import Final, cast

from sidecar.kms.port import KmsFactory

GROUP: Final = "sidekey.kms"


def find(plugin_name: str) -> KmsFactory:
    """The factory of the provider of this plugin name.

    Raises ``ValueError`` where no installed package provides it, where two do (which of them gets the data keys must
    not depend on the order of the path), or where the one that does cannot be imported.
    """
    found = entry_points(group=GROUP)
    # An editable install may list the same object twice.
    candidates = {point.value: point for point in found if point.name == plugin_name}
    if not candidates:
        raise ValueError(_unknown(plugin_name, sorted({point.name for point in found})))
    if len(candidates) > 1:
        raise ValueError(
            f"two packages provide the KMS plugin {plugin_name} ({', '.join(sorted(candidates))}); uninstall one"
        )
    return _load(next(iter(candidates.values())))


def _load(point: EntryPoint) -> KmsFactory:
    try:
        factory = point.load()
    except Exception as error:  # noqa: BLE001 - foreign code runs here; its text may hold anything
        raise ValueError(
            f"the KMS plugin {point.name} is installed but {point.value} cannot be imported ({type(error).__name__})"
        ) from None
    if not callable(factory):
        raise ValueError(f"the KMS plugin {point.name} is installed but {point.value} is not callable")  # noqa: TRY004
    return cast(KmsFactory, factory)


def _unknown(plugin_name: str, names: list[str]) -> str:
    # Whatever the case of its letters; far ones are no help, since another KMS is never what was meant.
    spelled = {name.casefold(): name for name in names}
    close = difflib.get_close_matches(plugin_name.casefold(), spelled, n=1, cutoff=0.8)
    hint = f"; did you mean {spelled[close[0]]}?" if close else ""
    return (
        f"no installed package provides the KMS plugin {plugin_name!r}; found are: {', '.join(names) or 'none'}{hint}"
    )
