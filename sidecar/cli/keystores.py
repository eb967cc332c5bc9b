"""Shows which schema the keystore has, and upgrades it."""

from sidecar.cli.output import hint, say, write_json
from sidecar.config import Config
from sidecar.config.problems import redact_url
from sidecar.errors import StartupError
from sidecar.keystore.factory import upgrades_itself
from sidecar.keystore.port import VersionedKeystore
from sidecar.parts import keystore_of, make_data_dir


async def status(config: Config, *, as_json: bool) -> int:
    """Returns the exit code: 0 where a sidecar can serve from the keystore."""
    keystore = keystore_of(config)
    found = await keystore.schema_version()
    problem = await _problem(keystore)
    # SQLite's file is a sidecar's own: ``serve`` makes and upgrades it unasked.
    itself = upgrades_itself(config.keystore.url) and found <= keystore.newest_schema
    shown = {
        "url": redact_url(config.keystore.url),
        "schemaVersion": found,
        "newestSchemaVersion": keystore.newest_schema,
        "ready": problem is None,
        "upgradesItself": itself,
        "problem": problem,
    }
    if as_json:
        write_json(shown)
    else:
        say(f"keystore {shown['url']}: {_schema(found)}; {'ready' if problem is None else 'not ready'}")
        if problem is not None:
            hint(problem + ("; or leave it to 'sidekey serve'" if itself else ""))
    return 0 if problem is None else 1


async def upgrade(config: Config, *, dry_run: bool) -> int:
    """Returns the exit code. Raises as ``Keystore.open``."""
    keystore = keystore_of(config)
    found = await keystore.schema_version()
    if found == keystore.newest_schema:
        say(f"the keystore has {_schema(found)} already")
        return 0
    if dry_run and found < keystore.newest_schema:
        say(f"the keystore has {_schema(found)} and would have schema version {keystore.newest_schema}")
        return 0
    if upgrades_itself(config.keystore.url):
        make_data_dir(config)
    try:
        # Of a schema that is too new this says so, as it would to a sidecar.
        await keystore.open(upgrade=True)
    finally:
        await keystore.close()
    say(f"the keystore had {_schema(found)} and has schema version {await keystore.schema_version()}")
    return 0


async def _problem(keystore: VersionedKeystore) -> str | None:
    """Why a sidecar could not serve from it as it is; None where it could."""
    try:
        await keystore.open()
    except StartupError as error:
        return str(error)
    finally:
        await keystore.close()
    return None


def _schema(version: int) -> str:
    return f"schema version {version}" if version else "no schema"
