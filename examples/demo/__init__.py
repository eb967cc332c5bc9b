"""The demo: a real table, encrypted and decrypted through a real sidecar."""
