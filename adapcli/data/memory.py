"""How much memory this machine has."""

import os


def memory_bytes() -> int:
    """Of the whole machine; 8 GB where it does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 8 << 30
