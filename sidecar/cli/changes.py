"""Gives keyrings new primaries."""

from datetime import UTC, datetime

from sidecar.cli.opening import opened
from sidecar.cli.output import hint, say, write_json
from sidecar.cli.showing import key_json
from sidecar.config import Config
from sidecar.keys.inventory import DescribedKey
from sidecar.keystore.port import DataKeyRecord


async def rotate(config: Config, name: str, *, abandon: bool, dry_run: bool, as_json: bool) -> int:
    """Returns the exit code. Raises as ``Administration.rotate``.

    ``abandon``: also where no configured wrapping key may unwrap the present primary.
    """
    async with opened(config, kms=not dry_run, abandon=abandon) as (_, administration):
        replaced = await administration.rotate(name, dry_run=True)
        primary = None if dry_run else await administration.rotate(name)
    if as_json:
        now_primary = primary or replaced
        shown = {"replaced": _json(replaced, now_primary), "primary": _json(primary, now_primary)}
        write_json({"keyring": name, **shown, "dryRun": dry_run})
        return 0
    if dry_run:
        say(f"keyring {name}: a new primary would replace {_named(replaced)}")
        return 0
    # Whether an abandoned one decrypts anywhere is not known here.
    was = "was" if abandon else "was, and goes on decrypting"
    before = "" if replaced is None else f"; {_named(replaced)} {was}"
    say(f"keyring {name}: {_named(primary)} is the primary{before}")
    hint("every sidecar follows at the latest after its own cache.ttlSeconds")
    if abandon and replaced is not None:
        hint(
            f"where no wrapping key may unwrap data key {replaced.key_id}, what it encrypted stays unreadable unless a "
            "wrapping key comes back that it is wrapped under"
        )
    return 0


def _named(record: DataKeyRecord | None) -> str:
    return "no data key" if record is None else f"data key {record.key_id} (generation {record.generation})"


def _json(record: DataKeyRecord | None, primary: DataKeyRecord | None) -> object:
    if record is None:
        return None
    return key_json(DescribedKey(record, primary.key_id if primary else None), datetime.now(UTC))
