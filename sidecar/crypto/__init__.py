"""The cryptographic core: pure and synchronous. No asyncio, no files, no logging, no clock; randomness is an argument."""
