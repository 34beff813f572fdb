"""The limits of a container: threads and memory are counted within them."""

from pathlib import Path

import pytest

from tql import cpus, memory_size
from tql.cgroups import cpu_quotas, memory_limits


def _tree(root: Path, files: dict[str, str]) -> tuple[Path, Path]:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root / "mount", root / "own"


def test_the_groups_of_version_2_are_asked_from_the_inside_out(tmp_path: Path) -> None:
    where = _tree(tmp_path, {
        "own": "0::/jobs/one",
        "mount/jobs/one/memory.max": "max",
        "mount/jobs/memory.max": "1000000",
        "mount/memory.max": "2000000",
        "mount/jobs/one/cpu.max": "150000 100000",
        "mount/jobs/cpu.max": "max 100000",
    })  # fmt: skip
    assert memory_limits(*where) == [1_000_000, 2_000_000]
    assert cpu_quotas(*where) == [1.5]


def test_the_groups_of_version_1(tmp_path: Path) -> None:
    where = _tree(tmp_path, {
        "own": "4:memory:/docker/a\n3:cpu,cpuacct:/docker/a",
        "mount/memory/docker/a/memory.limit_in_bytes": "500000",
        "mount/memory/memory.limit_in_bytes": str(2**63 - 4096),
        "mount/cpu/cpu.cfs_quota_us": "-1",
        "mount/cpu/cpu.cfs_period_us": "100000",
        "mount/cpu/docker/a/cpu.cfs_quota_us": "250000",
        "mount/cpu/docker/a/cpu.cfs_period_us": "100000",
    })  # fmt: skip
    assert memory_limits(*where) == [500_000, 2**63 - 4096]
    assert cpu_quotas(*where) == [2.5]


def test_without_groups_there_is_no_limit(tmp_path: Path) -> None:
    where = _tree(tmp_path, {})
    assert memory_limits(*where) == [] and cpu_quotas(*where) == []


def test_threads_and_memory_keep_to_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpus, "cpu_quotas", lambda: [0.5, 7.0])
    monkeypatch.setattr(memory_size, "memory_limits", lambda: [3_000_000, 2**63])
    cpus._whole_quotas.cache_clear()
    memory_size._memory.cache_clear()
    try:
        assert cpus.usable_cpus() == 1
        assert memory_size.budget() == 1_500_000
    finally:
        cpus._whole_quotas.cache_clear()
        memory_size._memory.cache_clear()


def test_a_part_of_a_processor_counts_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpus, "cpu_quotas", lambda: [1.5])
    cpus._whole_quotas.cache_clear()
    try:
        assert cpus._whole_quotas() == (2,)
    finally:
        cpus._whole_quotas.cache_clear()
