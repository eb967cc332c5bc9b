"""The encryption context: what binds a wrapped data key to its keyring and key id.

Part of the ciphertext format (normative in ``protos/FORMAT.md``): a changed byte here orphans every wrapped key.
"""

import json
from collections.abc import Mapping


def encryption_context(keyring: str, key_id: str) -> dict[str, str]:
    """The two pairs that a wrapped data key is bound to; ``key_id`` is 14 lower-case hex digits."""
    return {"sidekey:keyring": keyring, "sidekey:key-id": key_id}


def canonical_json(context: Mapping[str, str]) -> bytes:
    """The context as canonical JSON: sorted keys, no spaces, UTF-8. JSON's quoting keeps the pairs unambiguous."""
    return json.dumps(dict(context), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
