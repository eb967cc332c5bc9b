"""Shows which schema the keystore has, and upgrades it."""

from sidecar.cli.naming import LEFT_TO_SERVE, naming_keystore
from sidecar.cli.output import hint, say, write_json
from sidecar.config import Config
from sidecar.config.problems import redact_url
from sidecar.errors import KeystoreUnavailableError, StartupError
from sidecar.keystore.factory import upgrades_itself
from sidecar.keystore.port import VersionedKeystore
from sidecar.parts import keystore_of, make_data_dir


async def status(config: Config, *, as_json: bool) -> int:
    """Returns the exit code: 0 where a sidecar can serve from the keystore."""
    keystore = keystore_of(config)
    found, problem = await _state(keystore)
    # SQLite's file is a sidecar's own: ``serve`` makes and upgrades it unasked.
    itself = upgrades_itself(config.keystore.url) and found is not None and found <= keystore.newest_schema
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
        schema = "" if found is None else f"{_schema(found)}; "
        say(f"keystore {shown['url']}: {schema}{'ready' if problem is None else 'not ready'}")
        if problem is not None:
            hint(problem + (LEFT_TO_SERVE if itself else ""))
    return 0 if problem is None else 1


async def upgrade(config: Config, *, dry_run: bool) -> int:
    """Returns the exit code. Raises as ``Keystore.open``."""
    keystore = keystore_of(config)
    with naming_keystore(config):
        return await _upgraded(config, keystore, dry_run=dry_run)


async def _upgraded(config: Config, keystore: VersionedKeystore, *, dry_run: bool) -> int:
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


async def _state(keystore: VersionedKeystore) -> tuple[int | None, str | None]:
    """Its schema's version, None where that cannot be known; and why a sidecar could not serve from it as it is."""
    found: int | None = None
    try:
        found = await keystore.schema_version()
        await keystore.open()
    except (KeystoreUnavailableError, StartupError) as error:
        return found, str(error)
    finally:
        await keystore.close()
    return found, None


def _schema(version: int) -> str:
    return f"schema version {version}" if version else "no schema"
