"""Control files: what they say is parsed, and an error names the file and the value."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from mesocosm.linux import cgroup
from mesocosm.linux.cgroup.events import listen, parse_stall_times
from mesocosm.linux.cgroup.memory import MEMORY_AND_SWAP, Memory, UnifiedMemory

MEMORY_STAT = """\
cache 4096
rss 8192
mapped_file 0
total_cache 135168
total_rss 12283904
total_mapped_file 16384
total_swap 0
total_unevictable 4096
"""
UNIFIED_MEMORY_STAT = """\
anon 12283904
file 135168
kernel 1474560
sock 8192
file_mapped 16384
unevictable 4096
"""


def write(group: Path, **contents: str) -> str:
    for name, content in contents.items():
        (group / name.replace("__", ".")).write_text(content)
    return str(group)


def test_keyed() -> None:
    assert cgroup.parse_keyed("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n")["oom_kill"] == 3
    with pytest.raises(ValueError, match="many"):
        cgroup.parse_keyed("populated many\n")
    with pytest.raises(ValueError):
        cgroup.parse_keyed("populated 1\nfrozen\n")


def test_number_or_max(tmp_path: Path) -> None:
    group = write(tmp_path, memory__max="max\n", memory__current="4096\n")
    assert cgroup.read_int(group, "memory.max") is None
    assert cgroup.read_int(group, "memory.current") == 4096


def test_a_file_longer_than_one_read(tmp_path: Path) -> None:
    pids = list(range(1, 40000))
    group = write(tmp_path, cgroup__procs="".join(f"{pid}\n" for pid in pids))
    assert cgroup.processes(group) == pids


def test_processes_without_an_id_here_are_left_out(tmp_path: Path) -> None:
    assert cgroup.processes(write(tmp_path, cgroup__procs="0\n7\n0\n")) == [7]


def test_a_failed_write_names_file_and_value(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        cgroup.write(str(tmp_path), "pids.max", 12)
    assert caught.value.filename == f"{tmp_path}/pids.max"
    assert "'12'" in str(caught.value)


def test_a_failed_read_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        cgroup.read(str(tmp_path), "pids.max")
    assert caught.value.filename == f"{tmp_path}/pids.max"


def test_listening_where_there_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        listen(str(tmp_path), "memory.oom_control")


def test_removing_what_is_not_there(tmp_path: Path) -> None:
    cgroup.remove(f"{tmp_path}/absent")
    assert cgroup.subtree(f"{tmp_path}/absent") == []
    assert cgroup.processes(f"{tmp_path}/absent", recursive=True) == []


def test_creating_returns_the_topmost_that_was_missing(tmp_path: Path) -> None:
    assert cgroup.create(f"{tmp_path}/a/b/c") == f"{tmp_path}/a"
    assert cgroup.create(f"{tmp_path}/a/b/c") is None
    assert cgroup.create(f"{tmp_path}/a/d") == f"{tmp_path}/a/d"
    assert cgroup.subtree(str(tmp_path))[-1] == str(tmp_path)
    assert {Path(group).name for group in cgroup.subtree(f"{tmp_path}/a")} == {"a", "b", "c", "d"}


def test_memory_usage(tmp_path: Path) -> None:
    group = write(
        tmp_path,
        memory__stat=MEMORY_STAT,
        memory__usage_in_bytes="14012416\n",
        memory__limit_in_bytes="9223372036854771712\n",
    )
    usage = Memory().usage(group, swap=True)
    assert usage["total"] == 14012416
    assert usage["rss"] == usage["anon"] == 12283904
    assert usage["cache"] == usage["file"] == 135168
    assert usage["total_memsw"] is None  # There is no file for it.
    assert Memory().limit(group) is None


def test_unified_memory_usage(tmp_path: Path) -> None:
    group = write(
        tmp_path,
        memory__stat=UNIFIED_MEMORY_STAT,
        memory__current="14012416\n",
        memory__swap__current="4096\n",
        memory__max="max\n",
        memory__low="0\n",
    )
    usage = UnifiedMemory().usage(group, swap=True)
    assert usage["total_memsw"] == 14012416 + 4096
    assert usage["rss"] == 12283904
    assert usage["kmem_usage"] == 1474560
    assert UnifiedMemory().limit(group) is None
    assert UnifiedMemory().request(group) is None


def test_a_limit_of_memory_that_is_raised(tmp_path: Path) -> None:
    """As much swap can be used as before. The kernel refuses a limit of memory that is greater than that of both."""
    group = write(tmp_path, memory__limit_in_bytes="200", memory__memsw__limit_in_bytes="500")
    Memory().raise_limit(group, 150)
    assert Memory().limit(group) == 200, "it is only raised"
    Memory().raise_limit(group, 300)
    assert (Memory().limit(group), cgroup.read_int(group, MEMORY_AND_SWAP)) == (300, 600)
    unified = write(tmp_path, memory__max="200")
    UnifiedMemory().raise_limit(unified, None)
    assert UnifiedMemory().limit(unified) is None


@pytest.mark.parametrize("memory", [Memory(), UnifiedMemory()])
def test_memory_of_a_cgroup_that_is_gone(memory: Memory, tmp_path: Path) -> None:
    with pytest.raises(OSError) as caught:
        memory.limit(f"{tmp_path}/absent")
    assert caught.value.errno == errno.ENOENT


def test_stall_times() -> None:
    text = "some avg10=0.00 avg60=1.20 avg300=0.40 total=1234567\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=89\n"
    assert parse_stall_times(text) == {"some": 1234567, "full": 89}
