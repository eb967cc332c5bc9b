"""Sidekey's server: an asynchronous gRPC sidecar that encrypts and decrypts columns with cached data keys."""

__version__ = "0.1.0"
