"""The commands for keyrings, data keys and the keystore: each takes its parsed arguments and returns the exit code.

Heavy imports stay inside the functions.
"""

import argparse
import asyncio
import sys
from typing import TYPE_CHECKING

from sidecar.cli.flags import configured

if TYPE_CHECKING:
    from sidecar.config import Config


def keyrings(arguments: argparse.Namespace) -> int:
    """List the keyrings."""
    from sidecar.cli.listing import list_keyrings
    from sidecar.cli.opening import opened

    config = _prepared(arguments)

    async def run() -> int:
        async with opened(config, kms=False) as (inventory, _):
            after = arguments.after or ""
            return await list_keyrings(inventory, after=after, limit=arguments.limit, as_json=arguments.json)

    return asyncio.run(run())


def create_keyring(arguments: argparse.Namespace) -> int:
    """Create a keyring and its first data key."""
    from sidecar.cli.creating import create_keyring as create
    from sidecar.keystore.port import KeyringSettings

    settings = KeyringSettings(
        roll_over_days=arguments.roll_over_days,
        default_mode=arguments.default_mode,
        allow_deterministic=arguments.allow_deterministic,
    )
    config = _prepared(arguments)
    return asyncio.run(
        create(
            config,
            arguments.keyring,
            settings,
            replace=arguments.replace,
            dry_run=arguments.dry_run,
            as_json=arguments.json,
        )
    )


def keys(arguments: argparse.Namespace) -> int:
    """List the data keys."""
    from sidecar.cli.listing import list_keys
    from sidecar.cli.opening import opened
    from sidecar.keystore.port import KeyState

    config = _prepared(arguments)

    async def run() -> int:
        async with opened(config, kms=False) as (inventory, _):
            return await list_keys(
                inventory,
                arguments.keyring,
                states=frozenset(map(KeyState, arguments.state)),
                unused_since=arguments.unused_since,
                after=arguments.after,
                limit=arguments.limit,
                as_json=arguments.json,
            )

    return asyncio.run(run())


def set_state(arguments: argparse.Namespace) -> int:
    """Move a data key to another state."""
    from sidecar.cli.states import set_state as change
    from sidecar.keystore.port import KeyState

    return change(
        _prepared(arguments),
        arguments.key_id,
        KeyState(arguments.state),
        dry_run=arguments.dry_run,
        sure=arguments.yes,
        at_once=arguments.force,
        as_json=arguments.json,
    )


def rotate(arguments: argparse.Namespace) -> int:
    """Make a new primary now."""
    from sidecar.cli.changes import rotate as change

    config = _prepared(arguments)
    return asyncio.run(
        change(
            config,
            arguments.keyring,
            abandon=arguments.abandon,
            dry_run=arguments.dry_run,
            as_json=arguments.json,
        )
    )


def rewrap(arguments: argparse.Namespace) -> int:
    """Wrap the data keys anew."""
    from sidecar.cli.rewrap import rewrap as run

    config = _prepared(arguments)
    try:
        return asyncio.run(run(config, arguments.keyring, dry_run=arguments.dry_run, as_json=arguments.json))
    except KeyboardInterrupt:
        sys.stderr.write("sidekey: interrupted; every data key is whole, and the same command again goes on\n")
        raise


def keystore_status(arguments: argparse.Namespace) -> int:
    """Say whether the keystore can be served from."""
    from sidecar.cli.keystores import status

    return asyncio.run(status(_prepared(arguments), as_json=arguments.json))


def keystore_upgrade(arguments: argparse.Namespace) -> int:
    """Create the keystore's schema or bring it up to date."""
    from sidecar.cli.keystores import upgrade

    return asyncio.run(upgrade(_prepared(arguments), dry_run=arguments.dry_run))


def _prepared(arguments: argparse.Namespace) -> "Config":
    """The configuration, in a process that is fit to hold data keys."""
    from sidecar import process
    from sidecar.log import configure

    config = configured(arguments)
    process.protect()
    # To stderr, and no more than went wrong, where nobody asks for more: what a command did it says itself.
    configure(config.log.level if "level" in config.log.model_fields_set else "error", config.log.format)
    return config
