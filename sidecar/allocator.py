"""Keeps the C allocator from giving memory back to the system between calls, where it is glibc's.

A message of some hundred kilobytes is otherwise mapped, faulted in page by page and unmapped again with every call; on
the transport alone that is a third of the time.
"""

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Parameters of ``mallopt(3)``."""
_LARGEST_KEPT = 32 * 1024 * 1024
_MOST_KEPT = 64 * 1024 * 1024


def keep_freed_memory() -> bool:
    """Serve messages from memory that was used before; False where the allocator has no such switch."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = {_MMAP_THRESHOLD: _LARGEST_KEPT, _TRIM_THRESHOLD: _MOST_KEPT, _ARENA_MAX: 1}
    taken = [mallopt(parameter, value) for parameter, value in settings.items()]
    return all(taken)
