"""What a process may still take of the host's memory, as written under /proc and /sys."""

from pathlib import Path

import pytest

from engine.contract.host_memory import available

GIB = 1 << 30


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    folder = tmp_path / "proc"
    (folder / "self").mkdir(parents=True)
    return folder


@pytest.fixture
def groups(tmp_path: Path) -> Path:
    (tmp_path / "cgroup").mkdir()
    return tmp_path / "cgroup"


def machine(proc: Path, gib: int) -> None:
    (proc / "meminfo").write_text(f"MemTotal: {2 * gib << 20} kB\nMemFree: 1 kB\nMemAvailable:   {gib << 20} kB\n")


def second(folder: Path, limit: str, used: int, cached: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 1\nactive_file 7\ninactive_file {cached}\n")


def test_the_machine_alone(proc: Path, groups: Path):
    machine(proc, 20)
    assert available(proc, groups) == 20 * GIB
    (proc / "self" / "cgroup").write_text("0::/user.slice\n")
    second(groups / "user.slice", "max", 3 * GIB)
    assert available(proc, groups) == 20 * GIB


def test_a_groups_limit_counts_where_the_machine_grows_when_asked(proc: Path, groups: Path):
    machine(proc, 2)
    (proc / "self" / "cgroup").write_text("0::/box\n")
    second(groups / "box", str(32 * GIB), 5 * GIB, cached=1 * GIB)
    assert available(proc, groups) == 28 * GIB


def test_a_group_of_less_than_the_machine_has_counts(proc: Path, groups: Path):
    machine(proc, 60)
    (proc / "self" / "cgroup").write_text("0::/box\n")
    second(groups / "box", str(8 * GIB), 1 * GIB)
    assert available(proc, groups) == 7 * GIB
    machine(proc, 5)  # others took the rest: the group's limit promises nothing
    assert available(proc, groups) == 5 * GIB


def test_an_endless_number_is_none(proc: Path, groups: Path):
    digits = "9" * 5000
    (proc / "meminfo").write_text(f"MemTotal: {digits} kB\nMemAvailable: {digits} kB\n")
    second(groups, digits, 1)
    assert available(proc, groups) is None
    second(groups, str(8 * GIB), 1 * GIB)
    (groups / "memory.stat").write_text(f"inactive_file {digits}\n")
    assert available(proc, groups) == 7 * GIB


def test_of_nested_groups_the_tightest_counts(proc: Path, groups: Path):
    (proc / "self" / "cgroup").write_text("0::/a/b\n")
    second(groups / "a", str(10 * GIB), 4 * GIB)
    second(groups / "a" / "b", str(9 * GIB), 1 * GIB)
    assert available(proc, groups) == 6 * GIB


def test_in_a_container_the_root_is_its_own(proc: Path, groups: Path):
    (proc / "self" / "cgroup").write_text("0::/docker/0123\n")  # a path that only the host has
    second(groups, str(8 * GIB), 1 * GIB)
    assert available(proc, groups) == 7 * GIB


def test_the_first_version_is_read_too(proc: Path, groups: Path):
    (proc / "self" / "cgroup").write_text("9:name=systemd:/\n4:memory,hugetlb:/job\n1:cpu:/\n0::/\n")
    folder = groups / "memory" / "job"
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text(f"{6 * GIB}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{2 * GIB}\n")
    (groups / "memory" / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    (groups / "memory" / "memory.usage_in_bytes").write_text("1\n")
    assert available(proc, groups) == 4 * GIB


def test_a_group_that_is_over_its_limit_has_nothing_left(proc: Path, groups: Path):
    second(groups, str(GIB), 2 * GIB)
    assert available(proc, groups) == 0


def test_where_nothing_tells_nothing_is_known(proc: Path, groups: Path):
    assert available(proc, groups) is None
    (proc / "meminfo").write_text("MemTotal: 1 kB\n")
    assert available(proc, groups) is None


def test_this_machine_can_be_asked():
    assert (available() or 1) > 0
