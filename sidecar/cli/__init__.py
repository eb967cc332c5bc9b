"""The command ``sidekey``: the edge, where arguments come in and exit codes go out.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.
"""

import os
import sys
from collections.abc import Sequence

from sidecar.cli.parser import parser
from sidecar.errors import InvalidRequestError, SidekeyError

FAILED = 1
WRONG_USAGE = 2
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. What went wrong is one message on stderr, without a traceback."""
    try:
        arguments = parser().parse_args(argv)
        code = arguments.run(arguments)
        sys.stdout.flush()
    except SystemExit as stop:  # argparse has said why.
        return stop.code if isinstance(stop.code, int) else WRONG_USAGE
    except BrokenPipeError:
        # The reader went away, as in `sidekey keys | head`; the interpreter must not fail over it again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 (the outermost place: nobody above could say it without its text)
        return _refuse(error)
    return int(code)


def _refuse(error: Exception) -> int:
    from sidecar.config import ConfigError
    from sidecar.log import describe

    if isinstance(error, SidekeyError | ConfigError):
        is_usage = isinstance(error, ConfigError | InvalidRequestError)
        text, code = str(error), WRONG_USAGE if is_usage else FAILED
    else:
        # A defect. Its text may quote anything; where it happened is enough to find it.
        described = describe(error)
        text, code = f"internal error: {described['type']} at {' < '.join(reversed(described['frames'][-3:]))}", FAILED
    sys.stderr.write(f"sidekey: {text}\n")
    return code
