"""Fakes that implement our own ports, with knobs to fail, delay and count; never a mock of the thing under test."""
