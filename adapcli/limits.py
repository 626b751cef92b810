"""What this process may use of the machine: CPUs and memory.

A container, a batch system or `taskset` often grants less than the machine has. Everything that sizes a pool
or a buffer asks here, never `os.cpu_count` or the physical memory.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
UNLIMITED = 1 << 60
"""cgroup v1 writes "no limit" as a number near 2**63, rounded to pages."""


def cpus() -> int:
    """CPUs this process may use, 1 or more: those of its affinity mask, fewer under a cgroup's CPU quota."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *(math.ceil(quota) for quota in _cpu_quotas())]))


def memory_bytes() -> int:
    """Memory this process may use: the least of physical memory, cgroup limits and RLIMIT_AS.

    8 GiB where the system reports none of them.
    """
    return min([*_physical_memory(), *_cgroup_memory(), *_address_space()], default=8 << 30)


def _physical_memory() -> Iterator[int]:
    try:
        yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return


def _address_space() -> Iterator[int]:
    try:
        import resource
    except ImportError:  # Windows
        return
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY:
        yield limit


def _cpu_quotas() -> Iterator[float]:
    """CPUs per period, of every group this process is in that has a quota."""
    for folder in _groups(""):
        quota, _, period = _read(folder / "cpu.max").partition(" ")
        if quota.isdecimal() and period.isdecimal():
            yield int(quota) / int(period)
    for folder in _groups("cpu"):
        quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
        if quota.isdecimal() and period.isdecimal():  # -1: none
            yield int(quota) / int(period)


def _cgroup_memory() -> Iterator[int]:
    for controller, name in (("", "memory.max"), ("memory", "memory.limit_in_bytes")):
        for folder in _groups(controller):
            limit = _read(folder / name)
            if limit.isdecimal() and int(limit) < UNLIMITED:
                yield int(limit)


def _groups(controller: str) -> Iterator[Path]:
    """Folders of this process's cgroup and those above it; controller: of version 1, or "" for version 2.

    A limit of any of them counts. Inside a container the group's path may name a place of the host that is
    not mounted there; the root of the mount is then the container's own group.
    """
    for line in _read(MEMBERSHIP).splitlines():
        _, controllers, path = line.split(":", 2)
        if controller not in controllers.split(","):
            continue
        roots = (CGROUPS / controller,) if controller else (CGROUPS, CGROUPS / "unified")
        for root in roots:
            group = Path(path.lstrip("/"))
            yield from (root / part for part in (group, *group.parents))


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except (OSError, ValueError):
        return ""
