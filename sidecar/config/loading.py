"""Makes the configuration from its sources: flags over environment over file over defaults.

The only place that reads a file or an environment for configuration, and both are handed in.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sidecar.config.addresses import check_path
from sidecar.config.model import Config
from sidecar.config.problems import ConfigError, RefusedError
from sidecar.config.refusals import refusals
from sidecar.config.secrets import take_out_misplaced
from sidecar.config.sources import FILE_VARIABLE, Origins, from_environment, from_flags, merged
from sidecar.config.yamlfile import read


def load(path: Path | None, environ: Mapping[str, str], flags: Mapping[str, Any]) -> Config:
    """The configuration.

    ``path`` is the file (None: ``$SIDEKEY_CONFIG``, else no file); ``flags`` are by dotted path, for example
    ``{"server.listen": ["127.0.0.1:0"]}``, as text or parsed, and None sets nothing.
    Raises ``ConfigError``, which lists every problem.
    """
    if path is None and environ.get(FILE_VARIABLE):
        path = Path(environ[FILE_VARIABLE])
    tree = _without_empty_sections(read(path)) if path is not None else {}
    problems = take_out_misplaced(tree)
    origins: Origins = {}
    for source in (from_environment(environ), from_flags(flags)):
        tree = merged(tree, source.tree)
        origins |= source.origins
        problems += source.problems
    try:
        config = Config.model_validate(_with_defaults(tree, environ))
    except ValidationError as error:
        raise ConfigError(problems + refusals(error, origins)) from None
    if problems:
        raise ConfigError(problems)
    return config


def _without_empty_sections(tree: dict[str, Any]) -> dict[str, Any]:
    """A section whose keys are all commented out is none."""
    known = {field.alias for field in Config.model_fields.values()}
    return {name: section for name, section in tree.items() if section is not None or name not in known}


def _with_defaults(tree: dict[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """``tree`` with the settings that follow from the environment and from each other."""
    data_dir = tree["dataDir"] if "dataDir" in tree else _default_data_dir(environ)
    if isinstance(data_dir, str):
        data_dir = _absolute(data_dir, environ)
    base = _usable(data_dir)
    derived = {
        "server": {"listen": [f"unix://{base}/sidekey.sock"]},
        "keystore": {"url": f"sqlite:///{base}/keystore.db"},
    }
    return merged(derived, tree) | {"dataDir": data_dir}


def _usable(data_dir: object) -> str:
    """The data directory for use in URLs; where it is refused for itself, one from which nothing refusable follows."""
    try:
        return check_path(data_dir).rstrip("/") if isinstance(data_dir, str) else ""
    except RefusedError:
        return ""


def _default_data_dir(environ: Mapping[str, str]) -> str:
    # The XDG specification has relative paths ignored.
    if (state := environ.get("XDG_STATE_HOME", "")).startswith("/"):
        return f"{state}/sidekey"
    if not environ.get("HOME"):
        raise ConfigError(["dataDir: it must be set where HOME is not"])
    return f"{environ['HOME']}/.local/state/sidekey"


def _absolute(path: str, environ: Mapping[str, str]) -> str:
    if path.startswith("~/") and environ.get("HOME"):
        path = environ["HOME"] + path.removeprefix("~")
    return str(Path(path).absolute()) if path else path
