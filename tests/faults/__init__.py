"""The fault matrix: what callers, probes and operators see of each fault, declared, and measured on real processes."""
