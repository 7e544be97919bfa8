"""The C library, for calls that Python has no function for. Standard library only."""

import ctypes

libc = ctypes.CDLL(None, use_errno=True)
"""Loaded once: a forked worker finds it, with the functions that its template has called."""
