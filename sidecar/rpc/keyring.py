"""KeyringService: from requests to the administration of keyrings and data keys, and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeVar

import grpc
import structlog
from google.protobuf.message import Message
from sidekey.v1 import keyring_pb2 as pb
from sidekey.v1 import keyring_pb2_grpc as pb_grpc

from sidecar.errors import InvalidRequestError, LimitExceededError, ManagementOffError
from sidecar.keys.administration import Administration
from sidecar.keys.inventory import DescribedKey, check_name
from sidecar.keystore.port import DamagedRow
from sidecar.rpc.admission import Admission
from sidecar.rpc.keyring_messages import key_message, keyring_message, primary_message, settings_of, state_of, time_of
from sidecar.rpc.page_tokens import Listing

_DEFAULT_PAGE: Final = 100
_LARGEST_PAGE: Final = 1000
_MOST_STATES: Final = 16
_LONGEST_TOKEN: Final = 2300
"""Bytes of an answer beside what is listed, at most; as below, for a keyring's name of 255 characters."""
_LONGEST_FAILURE: Final = 1100
"""Bytes of one data key's failure in an answer, at most."""

_Answer = TypeVar("_Answer", bound=Message)

log = structlog.get_logger(__name__)

if TYPE_CHECKING:  # grpc's classes are generic to type checkers alone
    _Context = grpc.aio.ServicerContext[Any, Any]


class KeyringService(pb_grpc.KeyringServiceServicer):
    """Shows keyrings and data keys to every caller, and lets them be changed where the configuration says so."""

    def __init__(
        self,
        administration: Administration,
        admission: Admission,
        *,
        may_manage: bool,
        max_message_bytes: int,
    ) -> None:
        self._administration = administration
        self._admission = admission
        self._may_manage = may_manage
        self._max_message_bytes = max_message_bytes

    async def CreateKeyring(  # noqa: N802
        self, request: pb.CreateKeyringRequest, context: _Context
    ) -> pb.CreateKeyringResponse:
        """Create a keyring and its first data key."""
        self._must_manage()
        settings = settings_of(request.settings)
        with self._admission.admit(0, 0):
            keyring = await self._administration.create_keyring(
                request.name, settings, replace=request.replace_settings
            )
        return pb.CreateKeyringResponse(keyring=keyring_message(keyring))

    async def GetKeyring(  # noqa: N802
        self, request: pb.GetKeyringRequest, context: _Context
    ) -> pb.GetKeyringResponse:
        """One keyring."""
        with self._admission.admit(0, 0):
            return pb.GetKeyringResponse(
                keyring=keyring_message(await self._administration.inventory.keyring(request.name))
            )

    async def ListKeyrings(  # noqa: N802
        self, request: pb.ListKeyringsRequest, context: _Context
    ) -> pb.ListKeyringsResponse:
        """A page of keyrings."""
        size = _page_size(request.page_size)
        listing = Listing("ListKeyrings")
        after = listing.name(request.page_token)
        with self._admission.admit(0, 0):
            page = await self._administration.inventory.keyrings(after=after, limit=size)
        answer = pb.ListKeyringsResponse(keyrings=[keyring_message(each) for each in page.keyrings])
        if page.next is not None:
            answer.next_page_token = listing.token(page.next)
        return self._fitting(answer)

    async def RotateKeyring(  # noqa: N802
        self, request: pb.RotateKeyringRequest, context: _Context
    ) -> pb.RotateKeyringResponse:
        """Make a new primary now."""
        self._must_manage()
        with self._admission.admit(0, 0):
            record = await self._administration.rotate(request.name, dry_run=request.dry_run)
        return pb.RotateKeyringResponse(primary=None if record is None else primary_message(record))

    async def ListKeys(  # noqa: N802
        self, request: pb.ListKeysRequest, context: _Context
    ) -> pb.ListKeysResponse:
        """A page of data keys."""
        keyring, size = _keyring(request.keyring), _page_size(request.page_size)
        if len(request.states) > _MOST_STATES:
            raise InvalidRequestError(f"states has {len(request.states)} entries; it may have at most {_MOST_STATES}")
        states = frozenset(state_of(number) for number in request.states)
        unused_since = time_of(request.unused_since) if request.HasField("unused_since") else None
        listing = Listing("ListKeys", keyring, sorted(states), unused_since and unused_since.isoformat())
        after = listing.position(request.page_token)
        with self._admission.admit(0, 0):
            page = await self._administration.inventory.keys(
                keyring, after=after, limit=size, unused_since=unused_since, states=states
            )
        answer = pb.ListKeysResponse(keys=[key_message(each) for each in _whole(page.keys)])
        if page.next is not None:
            answer.next_page_token = listing.token(*page.next)
        return self._fitting(answer)

    async def SetKeyState(  # noqa: N802
        self, request: pb.SetKeyStateRequest, context: _Context
    ) -> pb.SetKeyStateResponse:
        """Move a data key to another state."""
        self._must_manage()
        state = state_of(request.state)
        with self._admission.admit(0, 0):
            key = await self._administration.set_key_state(request.key_id, state, dry_run=request.dry_run)
        return pb.SetKeyStateResponse(key=key_message(key))

    async def RewrapKeys(  # noqa: N802
        self, request: pb.RewrapKeysRequest, context: _Context
    ) -> pb.RewrapKeysResponse:
        """Wrap a page of data keys anew."""
        self._must_manage()
        keyring = _keyring(request.keyring)
        size = min(_page_size(request.page_size), self._most_rewrapped())
        listing = Listing("RewrapKeys", keyring)
        after = listing.position(request.page_token)
        with self._admission.admit(0, 0):
            page = await self._administration.rewrap(keyring, after=after, limit=size, dry_run=request.dry_run)
        answer = pb.RewrapKeysResponse(
            rewrapped=page.rewrapped,
            unchanged=page.unchanged,
            failures=[
                pb.RewrapFailure(key_id=failure.key_id, keyring=failure.keyring, reason=failure.reason)
                for failure in page.failures
            ],
        )
        if page.next is not None:
            answer.next_page_token = listing.token(*page.next)
        return answer

    def _must_manage(self) -> None:
        if not self._may_manage:
            raise ManagementOffError(
                "this sidecar lets no caller manage keys: its configuration would have to say 'manageKeys: true' under "
                "server"
            )

    def _most_rewrapped(self) -> int:
        """So many data keys that the answer fits even if each fails: once they are done it is too late to refuse."""
        return max(1, (self._max_message_bytes - _LONGEST_TOKEN) // _LONGEST_FAILURE)

    def _fitting(self, answer: _Answer) -> _Answer:
        if (size := answer.ByteSize()) > self._max_message_bytes:
            raise LimitExceededError(
                f"the answer has {size} bytes and may have at most {self._max_message_bytes}: ask for a smaller page"
            )
        return answer


def _whole(keys: Iterable[DescribedKey | DamagedRow]) -> Iterator[DescribedKey]:
    """Those that can be shown: callers can do nothing about a damaged row, and operators are told of it."""
    for key in keys:
        if isinstance(key, DamagedRow):
            log.error(
                "data_key_corrupt",
                key_id=key.key_id,
                keyring=key.keyring,
                generation=key.generation,
                hint=f"{key.damage}; restore it",
            )
        else:
            yield key


def _keyring(name: str) -> str | None:
    """The keyring that a listing is restricted to; None for none."""
    if name:
        check_name(name)
    return name or None


def _page_size(size: int) -> int:
    if size > _LARGEST_PAGE:
        raise InvalidRequestError(f"page_size is {size}; it must be at most {_LARGEST_PAGE}, or 0 for {_DEFAULT_PAGE}")
    return size or _DEFAULT_PAGE
