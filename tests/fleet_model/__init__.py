"""A whole fleet against plain facts: real parts, every call that can fail or hang, and time, in any order."""
