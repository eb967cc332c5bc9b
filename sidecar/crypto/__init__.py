"""The cryptographic core: pure and synchronous. No asyncio, no files, no logging, no clock.

Randomness comes in as an argument.
"""
