"""Suites of many sidecars together, and of keystores as large as a fleet makes them."""
