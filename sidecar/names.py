"""The rule for names of keyrings, in one place for configuration, calls and commands. Imports nothing."""

import re
from typing import Final

KEYRING_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
"""To be matched in full. It bounds the length too, so nothing longer reaches a keystore, a log or a metric."""

KEYRING_NAME_RULE: Final = "1 to 63 of a-z, 0-9, '.', '_' and '-', and begin with a letter or digit"
"""What a name must be, for errors: "the keyring's name must be …"."""
