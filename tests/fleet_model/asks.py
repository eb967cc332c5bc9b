"""What every sidecar asked of every KMS, and how seldom that must be: the bound on the calls that a fleet makes.

For each sidecar, KMS and data key in use:

- one unwrap at a time;
- after one that succeeded none until the data key's refresh is due, which counts from before its fetch began;
- after one that failed none for half a second.

So in T seconds a sidecar makes at most ``1 + T / (refresh - 16)`` unwraps of a data key that succeed, and at most
``1 + 2 T`` that fail; and of wraps for a keyring ``1 + 2 T`` that fail, whatever is asked of it and however often.

Apart stand what was asked for by call (a rotation, a rewrap), the completion of copies (it has a bound of its own), and
a data key whose state was just changed by this sidecar, which forgets it and looks it up anew.
"""

import contextvars
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from sidecar.errors import KmsDeniedError, KmsDisabledError

PURPOSE: contextvars.ContextVar[str] = contextvars.ContextVar("purpose", default="use")
"""Why a task runs: ``use`` of values, or another; tasks inherit it."""

AFTER_FAILURE_SECONDS = 0.5
_LONGEST_FETCH_SECONDS = 16.0
"""Three waits of five seconds before the KMS that answers is asked: for the keystore, a turn and another KMS."""
_FORGOTTEN_SECONDS = 30.0
"""So long a fetch that was begun before its data key was forgotten may go on."""

Operation = Literal["wrap", "unwrap"]


@dataclass(eq=False)
class Ask:
    """One call to a KMS."""

    sidecar: object
    operation: Operation
    key_id: str
    begun: float
    fetched: bool
    """Whether it is for the cache: no proof of a new copy, and nothing that was asked for by call."""
    ended: float = math.inf
    succeeded: bool = False


class Asks:
    """All calls to all KMSs; ``now`` gives the time."""

    def __init__(self, now: Callable[[], float], refresh_seconds: float, is_stored: Callable[[str], bool]) -> None:
        """``is_stored``: whether the keystore has a data key of this id; what it has not is being made."""
        self.now = now
        self.found: list[str] = []
        """What must not be, and was seen; a sidecar would take an exception for the KMS's own."""
        self.number = 0
        """How many calls were made and answered."""
        self.refused: dict[tuple[object, str], int] = {}
        """Data keys whose last unwrap for a sidecar's cache was refused, with the number of the answer."""
        self._refresh_seconds = refresh_seconds
        self._is_stored = is_stored
        self._last: dict[tuple[object, object, str], Ask] = {}
        self._unwrapped: dict[tuple[object, str], Ask] = {}
        self._refused_at: dict[tuple[object, str], float] = {}
        self._forgotten_at: dict[tuple[object, str], float] = {}

    def asked(self, sidecar: object, kms: object, operation: Operation, context: Mapping[str, str]) -> Ask:
        """A call begins."""
        self.number += 1
        keyring, key_id = context["sidekey:keyring"], context["sidekey:key-id"]
        used = PURPOSE.get() == "use"
        subject = f"wrap {keyring}" if operation == "wrap" else key_id
        ask = Ask(sidecar, operation, key_id, self.now(), used and operation == "unwrap" and self._is_stored(key_id))
        if used and (operation == "wrap" or ask.fetched):
            self._check_spacing(ask, self._last.get((sidecar, kms, subject)), subject)
            self._last[sidecar, kms, subject] = ask
        return ask

    def _check_spacing(self, ask: Ask, last: Ask | None, subject: str) -> None:
        place = ask.sidecar, subject
        if last is None or self.now() < self._forgotten_at.get(place, -math.inf) + _FORGOTTEN_SECONDS:
            return
        pause = 0.0 if last.succeeded else AFTER_FAILURE_SECONDS
        self.must(self.now() >= last.ended + pause, f"a storm of calls: {subject}")
        if last.fetched and last.succeeded and self._refused_at.get(place, -math.inf) < last.begun:
            due_at = last.begun - _LONGEST_FETCH_SECONDS + self._refresh_seconds
            self.must(self.now() >= due_at, f"unwrapped again before its time: {subject}")

    def must(self, condition: bool, text: str) -> None:
        """Note what must not be."""
        if not condition:
            self.found.append(text)

    def answered(self, ask: Ask, error: BaseException | None) -> None:
        """A call ends."""
        self.number += 1
        ask.ended = self.now()
        ask.succeeded = error is None
        place = ask.sidecar, ask.key_id
        if ask.operation == "unwrap" and ask.succeeded and (ask.fetched or not self._is_stored(ask.key_id)):
            self._unwrapped[place] = ask
            self.refused.pop(place, None)
        if ask.fetched and isinstance(error, (KmsDeniedError, KmsDisabledError)):
            self._refused_at[place] = self.now()
            self.refused[place] = self.number

    def forgotten(self, sidecar: object, keyring: str, key_id: str | None) -> None:
        """A sidecar changed a data key or a keyring, and looks it up anew."""
        for subject in (f"wrap {keyring}", key_id):
            if subject is not None:
                self._forgotten_at[sidecar, subject] = self.now()

    def last_unwrapped(self, sidecar: object, key_id: str) -> Ask:
        """The last call that gave a sidecar this data key for use."""
        return self._unwrapped[sidecar, key_id]

    def moments(self) -> set[float]:
        """When data keys that are in use were unwrapped."""
        return {ask.begun for ask in self._unwrapped.values()}
