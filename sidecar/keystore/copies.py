"""The further wrapped copies of a data key as one column of text: JSON, in one spelling only.

One spelling, so that comparing the stored text compares the copies.
"""

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Final

from sidecar.keystore.port import WrappedCopy

NONE: Final = "[]"
"""The text where there are no further copies."""
_MAX_CHARACTERS: Final = 2 * 1024 * 1024
"""More than 15 copies of 64 KiB in base64, with their wrapping keys' ids, ever take."""


def to_text(copies: Sequence[WrappedCopy]) -> str:
    """``[["kek id","base64 of the wrapped key"], …]`` in ASCII, without spaces."""
    pairs = [[copy.kek_id, base64.b64encode(copy.wrapped_key).decode("ascii")] for copy in copies]
    return json.dumps(pairs, separators=(",", ":"))


def from_text(text: object) -> tuple[WrappedCopy, ...]:
    """The copies in a text; raises ``ValueError`` where it is not what ``to_text`` makes of them."""
    if not isinstance(text, str) or len(text) > _MAX_CHARACTERS:
        raise ValueError("no text, or too much of it")
    try:
        copies = tuple(WrappedCopy(kek_id, base64.b64decode(wrapped_key)) for kek_id, wrapped_key in json.loads(text))
        same = to_text(copies) == text and all(isinstance(copy.kek_id, str) for copy in copies)
    except (TypeError, RecursionError, binascii.Error):
        raise ValueError("no copies of a data key") from None
    if not same:
        raise ValueError("copies of a data key in another spelling")
    return copies
