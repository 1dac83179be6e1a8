"""Memory of large tensors, kept instead of given back and fetched anew at every step.

glibc maps every block above 32 MB afresh: the kernel clears its pages, one fault each, and takes
them back when the tensor is freed. Training frees and fetches some gigabytes a step, which cost
15 % of its time at 64 cells. Kept memory changes no result.
"""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # malloc.h
PAD_BYTES = 2**26


def keep_memory() -> bool:
    """Tell the allocator of this process; False where it is not glibc's."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1), (M_TOP_PAD, PAD_BYTES))
    return all(mallopt(name, value) == 1 for name, value in settings)
