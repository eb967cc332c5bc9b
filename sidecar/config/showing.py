"""Shows a configuration: in full without its secrets, and what an operator should think about again."""

from datetime import timedelta
from typing import Any

import yaml

from sidecar.config.addresses import TcpAddress
from sidecar.config.model import Config
from sidecar.config.problems import dotted, redact_url
from sidecar.config.secrets import has_static_credentials, redacted_plugin

_HEAD = "# The effective configuration; secrets are left out.\n"


def dump(config: Config) -> str:
    """The whole effective configuration as YAML, secrets redacted; without secrets it loads to an equal value."""
    tree: dict[str, Any] = config.model_dump(mode="json", by_alias=True)
    tree["plugins"] = {name: redacted_plugin(plugin.settings) for name, plugin in config.plugins.items()}
    tree["keystore"]["url"] = redact_url(tree["keystore"]["url"])
    return _HEAD + yaml.safe_dump(tree, sort_keys=False)


def warnings_of(config: Config) -> list[str]:
    """What is allowed and unwise, a sentence each; no secrets."""
    return [*_plugin_warnings(config), *_exposure_warnings(config)]


def _plugin_warnings(config: Config) -> list[str]:
    warnings = []
    for name, plugin in config.plugins.items():
        if not (plugin.is_kms or plugin.former_kms):
            warnings.append(
                f"{dotted(('plugins', name))}: it is not used, for it has no 'isKms: true' (nor 'formerKms: true')"
            )
        elif has_static_credentials(plugin.settings):
            path = dotted(("plugins", name, "extraKmsConfig", "credentials"))
            warnings.append(f"{path}: static credentials are discouraged; use an IAM role")
    return warnings


def _exposure_warnings(config: Config) -> list[str]:
    warnings = []
    if config.schedule.data_key_roll_over_length < timedelta(hours=1) / timedelta(days=1):
        warnings.append("schedule.dataKeyRollOverLength: under an hour; and every data key is kept for good")
    if any(isinstance(address, TcpAddress) for address in config.server.listen):
        warnings.append(
            "server.listen: every user and every container that shares this machine's loopback can call over TCP; "
            "a Unix socket keeps out whoever cannot open its directory"
        )
    if config.server.manage_keys:
        warnings.append("server.manageKeys: whoever can call may disable and destroy data keys")
    if config.server.http is not None and not config.server.http.is_loopback:
        warnings.append(
            "server.http: other machines can read metrics and health, for it has no TLS and no access control"
        )
    return warnings
