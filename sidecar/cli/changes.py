"""Creates keyrings, and gives them new primaries."""

from datetime import UTC, datetime

from sidecar.cli.opening import opened
from sidecar.cli.output import hint, say, write_json
from sidecar.cli.showing import key_json, keyring_json
from sidecar.config import Config
from sidecar.keys.inventory import DescribedKey
from sidecar.keystore.port import DataKeyRecord, KeyringSettings


async def create_keyring(config: Config, name: str, settings: KeyringSettings, *, replace: bool, as_json: bool) -> int:
    """Returns the exit code. Raises as ``Administration.create_keyring``."""
    async with opened(config, kms=True) as (_, administration):
        keyring = await administration.create_keyring(name, settings, replace=replace)
    shown = keyring_json(keyring, datetime.now(UTC))
    if as_json:
        write_json(shown)
        return 0
    days = shown["settings"]["rollOverDays"]
    say(
        f"keyring {name}: {_named(keyring.primary)} is the primary; it "
        f"{'never rolls over' if days == 'never' else f'rolls over after {days:g} days'}, its default mode is "
        f"{shown['settings']['defaultMode']}, the deterministic mode is "
        f"{'allowed' if shown['settings']['allowDeterministic'] else 'refused'}"
    )
    return 0


async def rotate(config: Config, name: str, *, dry_run: bool, as_json: bool) -> int:
    """Returns the exit code. Raises as ``Administration.rotate``."""
    async with opened(config, kms=not dry_run) as (_, administration):
        replaced = await administration.rotate(name, dry_run=True)
        primary = None if dry_run else await administration.rotate(name)
    if as_json:
        write_json({"keyring": name, "replaced": _json(replaced), "primary": _json(primary), "dryRun": dry_run})
        return 0
    if dry_run:
        say(f"keyring {name}: a new primary would replace {_named(replaced)}")
        return 0
    before = "" if replaced is None else f"; {_named(replaced)} was, and goes on decrypting"
    say(f"keyring {name}: {_named(primary)} is the primary{before}")
    hint("every sidecar follows at the latest after its own cache.ttlSeconds")
    return 0


def _named(record: DataKeyRecord | None) -> str:
    return "no data key" if record is None else f"data key {record.key_id} (generation {record.generation})"


def _json(record: DataKeyRecord | None) -> object:
    return None if record is None else key_json(DescribedKey(record, record.key_id), datetime.now(UTC))
