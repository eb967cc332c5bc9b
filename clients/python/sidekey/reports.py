"""What became of the rows of a reencrypt."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from sidekey.errors import RowError

R = TypeVar("R", covariant=True)


@dataclass(frozen=True, slots=True)
class ReencryptReport(Generic[R]):
    """The ciphertexts, a list or an array as the question was, and how they came about."""

    result: R = field(repr=False)
    unchanged: int
    """Rows that were as they should be: they were verified, and are the same bytes."""
    row_errors: tuple[RowError, ...]
    """The rows that are None or NULL because they could not be decrypted, in rising order."""
