"""What a process that holds data keys does to itself before it holds any."""

import os
import resource


def protect() -> None:
    """No core dumps, which would hold keys, and no files for others."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(0o077)
