"""Keystores: one file per database behind the port in ``sidecar.keystore.port``."""
