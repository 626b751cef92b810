"""CPUs and memory this process may use: the least that anything grants."""

import os
import resource

import pytest

from adapcli import limits

V2 = "0::/docker/job\n"
V1 = "5:cpu,cpuacct:/slurm\n4:memory:/slurm\n0::/\n"


@pytest.fixture
def cgroup(tmp_path, monkeypatch):
    """Pretends a cgroup file system with these files, and 8 CPUs and 64 GiB without a limit."""
    monkeypatch.setattr(limits, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(limits, "MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PHYS_PAGES": 1 << 24, "SC_PAGE_SIZE": 4096}[name])

    def write(membership, files):
        (tmp_path / "membership").write_text(membership)
        for name, text in files.items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")

    return write


@pytest.mark.parametrize(
    ("membership", "files", "cpus", "gibibytes"),
    [
        ("", {}, 8, 64),
        (V2, {"docker/job/cpu.max": "150000 100000", "docker/job/memory.max": str(3 << 30)}, 2, 3),
        (V2, {"docker/job/cpu.max": "max 100000", "docker/job/memory.max": "max"}, 8, 64),
        (V2, {"docker/cpu.max": "300000 100000", "memory.max": str(5 << 30)}, 3, 5),  # a group above
        (V2, {"cpu.max": "20000 100000"}, 1, 64),  # the root a container sees
        (V2, {"docker/job/cpu.max": "1600000 100000", "memory.max": str(1 << 50)}, 8, 64),
        (V2, {"docker/job/cpu.max": "rubbish", "memory.max": ""}, 8, 64),
        (V1, {"cpu/slurm/cpu.cfs_quota_us": "200000", "cpu/slurm/cpu.cfs_period_us": "100000",
              "memory/slurm/memory.limit_in_bytes": str(2 << 30)}, 2, 2),
        (V1, {"cpu/slurm/cpu.cfs_quota_us": "-1", "cpu/slurm/cpu.cfs_period_us": "100000",
              "memory/memory.limit_in_bytes": "9223372036854771712"}, 8, 64),
    ],
)  # fmt: skip
def test_cgroup_limits_count_wherever_they_are_set(cgroup, membership, files, cpus, gibibytes):
    cgroup(membership, files)
    assert (limits.cpus(), limits.memory_bytes()) == (cpus, gibibytes << 30)


def test_the_affinity_mask_limits_the_cpus():
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert limits.cpus() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_a_limit_of_the_address_space_limits_the_memory(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda which: (123 << 20, -1))
    assert limits.memory_bytes() == 123 << 20


def test_nothing_else_asks_the_machine():
    """Each pool and buffer is sized by what is granted."""
    root = limits.Path(limits.__file__).parent
    asks = [
        path.name
        for path in root.rglob("*.py")
        if any(
            word in path.read_text("utf-8") for word in ("os.cpu_count()", "sched_getaffinity(", "SC_PHYS")
        )
    ]
    assert asks == ["limits.py"]
