"""What the allocator of this process does with freed memory; nothing where it is not glibc's.

Blocks above 32 MB it maps afresh: the kernel clears their pages, one fault each, and takes them
back when the tensor is freed. Training frees and fetches some gigabytes a step, which cost 15 % of
its time at 64 cells. Smaller blocks it keeps, between others that are in use: a server then holds
for good what it once needed for many requests at a time. No result changes.
"""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # malloc.h
PAD_BYTES = 2**26


def keep_memory() -> bool:
    """Let it keep large blocks instead of giving them back and fetching them anew.

    Returns:
        Whether it understood.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1), (M_TOP_PAD, PAD_BYTES))
    return all(mallopt(name, value) == 1 for name, value in settings)


def give_memory_back() -> bool:
    """Let it give the system every page that holds nothing; some milliseconds.

    Returns:
        Whether there was any.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return False
    return bool(trim(0))
