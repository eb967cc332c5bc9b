"""KMS providers: one file per vendor behind the port in ``sidecar.kms.port``."""
