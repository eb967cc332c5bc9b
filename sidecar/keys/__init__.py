"""Data keys and their life: cached, refreshed ahead, rolled over. Knows ports to a KMS and a keystore, and no gRPC."""
