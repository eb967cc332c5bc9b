"""``python -m sidecar``: the same as the command ``sidekey``."""

import sys

from sidecar.cli import main

sys.exit(main())
