"""A blocking channel and its stubs, one for each process."""

from __future__ import annotations

import threading
from typing import Any

import grpc

from sidekey._operations import Settings
from sidekey._terms import Request, method_name
from sidekey.v1 import encryption_pb2_grpc, info_pb2_grpc


class Stubs:
    """A channel and what speaks over it."""

    def __init__(self, settings: Settings) -> None:
        if settings.credentials is None:
            self.channel = grpc.insecure_channel(settings.target, options=settings.options)
        else:
            self.channel = grpc.secure_channel(settings.target, settings.credentials, options=settings.options)
        self._encryption = encryption_pb2_grpc.EncryptionServiceStub(self.channel)
        self.server_info = info_pb2_grpc.InfoServiceStub(self.channel).GetServerInfo

    def method(self, request: Request) -> Any:
        return getattr(self._encryption, method_name(request))


class Link:
    """One process's channel, made when it is first needed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._stubs: Stubs | None = None

    def stubs(self) -> Stubs:
        with self._lock:
            if self._stubs is None:
                self._stubs = Stubs(self._settings)
            return self._stubs

    def close(self) -> None:
        with self._lock:
            if self._stubs is not None:
                self._stubs.channel.close()
