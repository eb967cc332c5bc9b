"""Measures the sidecar beside the limit of its transport and beside in-process ciphers: ``python -m bench --help``."""
