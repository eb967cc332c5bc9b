"""Moves a data key to another state; destroying one shows first what is lost, and asks."""

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from typing import Final

from sidecar.cli.opening import opened
from sidecar.cli.output import age, hint, printable, say, write_json
from sidecar.cli.showing import key_json
from sidecar.config import Config
from sidecar.keys.inventory import DescribedKey
from sidecar.keys.transitions import too_early
from sidecar.keystore.port import KeyState

_WRONG_USAGE: Final = 2
_RECENTLY: Final = timedelta(days=30)


def set_state(
    config: Config, key_id: str, state: KeyState, *, dry_run: bool, sure: bool, at_once: bool, as_json: bool
) -> int:
    """Returns the exit code. Raises as ``Administration.set_key_state``.

    Not one coroutine: while somebody is asked, nothing is open, and an interrupt ends it at once.
    """
    key = asyncio.run(_set(config, key_id, state, dry_run=True, at_once=at_once))
    changes = key.record.state is not state
    if changes and state is KeyState.DESTROYED:
        _show_loss(config, key)
        if not dry_run and not sure and (refused := _unsure(key_id)) is not None:
            return refused
    done = changes and not dry_run
    after = asyncio.run(_set(config, key_id, state, dry_run=False, at_once=at_once)) if done else key
    if as_json:
        now = datetime.now(UTC)
        write_json({"key": key_json(after, now), "changed": done, "dryRun": dry_run})
        return 0
    named = f"data key {key_id} of keyring {printable(key.record.keyring)} (generation {key.record.generation})"
    if not changes:
        say(f"{named} is {state.value} already")
    elif dry_run:
        say(f"{named} is {key.record.state.value} and would be {state.value}")
    else:
        say(f"{named} was {key.record.state.value} and is {state.value}")
        hint("every sidecar follows at the latest after its own cache.ttlSeconds")
    return 0


async def _set(config: Config, key_id: str, state: KeyState, *, dry_run: bool, at_once: bool) -> DescribedKey:
    async with opened(config, kms=False) as (_, administration):
        return await administration.set_key_state(key_id, state, dry_run=dry_run, at_once=at_once)


def _show_loss(config: Config, key: DescribedKey) -> None:
    record, now = key.record, datetime.now(UTC)
    used = record.last_used_at
    lines = [
        f"data key {record.key_id} of keyring {printable(record.keyring)}, generation {record.generation}",
        f"  encrypted  {record.values_encrypted:,} values",
        f"  decrypted  {record.values_decrypted:,} values",
        f"  made       {age(now - record.created_at)} ago",
        f"  last used  {'never' if used is None else age(now - used) + ' ago'}",
        f"as counted by all sidecars up to some {config.usage.flush_seconds:g} s ago.",
        "Destroying it is final: every value that is still encrypted under it is lost, in backups of the data too.",
    ]
    if used is not None and now - used < _RECENTLY:
        lines.append("WARNING: it was used within the last 30 days; values under it are still being read or written.")
    if (early := too_early(record, now=now, wait=config.disabled_before_destroyed)) is not None:
        lines.append(f"WARNING: {early}.")
    sys.stderr.write("\n".join(lines) + "\n")


def _unsure(key_id: str) -> int | None:
    """The exit code where nobody confirms the destruction; None where somebody does."""
    if not sys.stdin.isatty():
        hint("nobody can be asked, for standard input is no terminal: to destroy it give --yes; nothing was changed")
        return _WRONG_USAGE
    sys.stderr.write("To destroy it, type its key id: ")
    sys.stderr.flush()
    if sys.stdin.readline().strip() == key_id:
        return None
    hint("that is not its key id; nothing was changed")
    return 1
