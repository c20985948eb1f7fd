"""Amounts and their translation, who shares whose cgroup, and refusals; nothing here touches a cgroup."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesocosm.api import v1
from mesocosm.container import CommandInfo, ContainerClass, ContainerConfig, ContainerID, LinuxInfo, Resources
from mesocosm.errors import ContainerError, FlagError, UnknownContainerError, UnsupportedError
from mesocosm.flags import Flags
from mesocosm.isolators.cgroups.all import expand
from mesocosm.isolators.cgroups.base import CgroupIsolator, owns_cgroup
from mesocosm.isolators.cgroups.cpu import CpuIsolator
from mesocosm.isolators.cgroups.cpuset import CpusetIsolator
from mesocosm.isolators.cgroups.hugetlb import HugetlbIsolator
from mesocosm.isolators.cgroups.mem import MemIsolator
from mesocosm.isolators.cgroups.net_cls import Handles, NetClsIsolator
from mesocosm.isolators.cgroups.net_prio import NetPrioIsolator
from mesocosm.isolators.cgroups.perf_event import events_of, field_of
from mesocosm.isolators.cgroups.pids import PidsIsolator
from mesocosm.linux import cgroup
from mesocosm.linux.cgroup import Hierarchies, Hierarchy
from mesocosm.linux.cgroup.blkio import served_unified
from mesocosm.linux.cgroup.cpu import CpuTimes, quota, shares, weight
from mesocosm.linux.cgroup.memory import oom_score
from mesocosm.linux.perf import EVENTS

ISOLATORS = (
    *(CpuIsolator, MemIsolator, PidsIsolator, CpusetIsolator, HugetlbIsolator, NetClsIsolator, NetPrioIsolator),
)
PARENT = ContainerID("parent")
CHILD = ContainerID("child", PARENT)
amounts = st.floats(0, 1e6, exclude_min=True)


def config(**fields: object) -> ContainerConfig:
    return ContainerConfig(CommandInfo("true"), **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(("cpus", "expected"), [(0.0001, 2), (0.5, 512), (1, 1024), (4, 4096)])
def test_shares(cpus: float, expected: int) -> None:
    assert shares(cpus) == expected


@pytest.mark.parametrize(("cpus", "expected"), [(0.0001, 1), (0.5, 50), (1, 100), (4, 400), (1000, 10000)])
def test_weight(cpus: float, expected: int) -> None:
    assert weight(cpus) == expected


@pytest.mark.parametrize(("cpus", "expected"), [(0.0001, 1000), (0.5, 50_000), (2, 200_000), (math.inf, None)])
def test_quota(cpus: float, expected: int | None) -> None:
    assert quota(cpus) == expected


def test_revocable_cpus_weigh_little() -> None:
    assert (shares(3, low=True), shares(0.1, low=True)) == (30, 2)
    assert (weight(3, low=True), weight(0.1, low=True)) == (3, 1)


@given(amounts, amounts)
def test_more_cpus_never_weigh_less(first: float, second: float) -> None:
    less, more = sorted((first, second))
    assert shares(less) <= shares(more)
    assert weight(less) <= weight(more)
    assert (quota(less) or 0) <= (quota(more) or 0)


@given(amounts)
def test_weights_are_what_the_kernel_takes(cpus: float) -> None:
    assert shares(cpus) >= 2
    assert 1 <= weight(cpus) <= 10000


@pytest.mark.parametrize(
    ("total", "user", "system", "expected"),
    [
        (0, 0, 0, (0, 0)),
        (7, 0, 0, (7, 0)),
        (100, 4, 0, (100, 0)),
        (100, 0, 4, (0, 100)),
        (100, 20, 60, (25, 75)),
        (60, 20, 60, (15, 45)),
    ],
)
def test_cpu_time_is_split_as_it_was_sampled(total: int, user: int, system: int, expected: tuple[int, int]) -> None:
    assert CpuTimes().split(total, user, system) == CpuTimes(*expected)


@given(st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 3), st.integers(0, 3)), max_size=50))
def test_split_cpu_times_never_fall_and_none_is_lost(steps: list[tuple[int, int, int]]) -> None:
    times, total, user, system = CpuTimes(), 0, 0, 0
    for elapsed, user_ticks, system_ticks in steps:
        total, user, system = total + elapsed, user + user_ticks * 4 * 10**6, system + system_ticks * 4 * 10**6
        before, times = times, times.split(total, user, system)
        assert times.user >= before.user
        assert times.system >= before.system
        assert times.user + times.system == total


def test_a_greater_request_lowers_the_oom_score() -> None:
    assert 1000 >= oom_score(1 << 20) > oom_score(1 << 29) >= 0


NESTED = LinuxInfo(share_cgroups=False)


@pytest.mark.parametrize(
    ("container_id", "settings", "owns"),
    [
        (PARENT, config(), True),
        (PARENT, config(container_class=ContainerClass.DEBUG), True),
        (CHILD, config(), False),
        (CHILD, config(linux_info=NESTED), True),
        (CHILD, config(linux_info=NESTED, container_class=ContainerClass.DEBUG), False),
    ],
)
def test_who_has_a_cgroup(container_id: ContainerID, settings: ContainerConfig, owns: bool) -> None:
    assert owns_cgroup(container_id, settings) is owns


@pytest.mark.parametrize("isolator", ISOLATORS)
def test_refused_without_root(isolator: type[CgroupIsolator], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UnsupportedError, match="needs root"):
        isolator.create(Flags())


@pytest.mark.parametrize("isolator", ISOLATORS)
def test_refused_without_the_controller(
    isolator: type[CgroupIsolator], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(UnsupportedError, match=f"no {isolator.controllers[0]} controller") as caught:
        isolator.create(Flags(cgroups_hierarchy=tmp_path))
    assert "mount -t cgroup" in str(caught.value.hint)


@pytest.mark.parametrize("isolator", [NetClsIsolator, NetPrioIsolator])
def test_refused_where_only_cgroup_v2_is(isolator: type[CgroupIsolator], monkeypatch: pytest.MonkeyPatch) -> None:
    unified = Hierarchy(frozenset({"cpu", "memory"}), "/sys/fs/cgroup", 2)
    monkeypatch.setattr(cgroup, "hierarchies", lambda _root: Hierarchies((unified,)))
    with pytest.raises(UnsupportedError, match="cgroup v2 has none"):
        isolator.find(Flags())


def handles(primary: str, secondaries: str | None = None) -> Handles:
    found = Handles.of(Flags(cgroups_net_cls_primary_handle=primary, cgroups_net_cls_secondary_handles=secondaries))
    assert found is not None
    return found


def test_handles_are_the_lowest_free_ones() -> None:
    free = handles("0xAAAA", "0x10,18")
    assert [free.take(ContainerID(name)) for name in "abc"] == [0xAAAA0010, 0xAAAA0011, 0xAAAA0012]
    with pytest.raises(ContainerError, match="all 3 are in use"):
        free.take(PARENT)
    free.give_back(ContainerID("b"))
    free.give_back(PARENT)  # Which has none.
    assert free.take(PARENT) == 0xAAAA0011


def test_handles_that_containers_have_already() -> None:
    free = handles("0x1")
    free.keep(CHILD, 0x10001)
    free.keep(PARENT, 0x20002)  # Of other flags.
    assert free.take(PARENT) == 0x10002


def test_every_handle_can_be_had_but_zero() -> None:
    free = handles("0xffff")
    every = [free.take(PARENT) for _ in range(0xFFFF)]
    assert (every[0], every[-1]) == (0xFFFF0001, 0xFFFFFFFF)
    assert Handles.of(Flags()) is None


@pytest.mark.parametrize(
    ("primary", "secondaries", "message"),
    [
        ("0", None, "--cgroups_net_cls_primary_handle: '0' is no handle"),
        ("0x10000", None, "'0x10000' is no handle"),
        ("65536", None, "'65536' is no handle"),
        ("-1", None, "'-1' is no handle"),
        ("one", None, "'one' is no handle"),
        ("0x1", "0x1", "--cgroups_net_cls_secondary_handles: '0x1' is no range"),
        ("0x1", "0x1,0x2,0x3", "is no range"),
        ("0x1", "0x0,0x2", "'0x0' is no handle"),
        ("0x1", "0x3,0x2", "there is nothing in the range"),
        (None, "0x1,0x2", "needs --cgroups_net_cls_primary_handle"),
    ],
)
def test_handles_that_make_no_sense(primary: str, secondaries: str | None, message: str) -> None:
    with pytest.raises(FlagError, match=message):
        handles(primary, secondaries)


@pytest.mark.parametrize(
    ("events", "times", "message"),
    [
        ("nonesuch", {}, "no event 'nonesuch'"),
        (",", {}, "names no event"),
        ("cycles", {"perf_duration": 61.0}, "for no longer than the interval"),
        ("cycles", {"perf_duration": 0.0}, "count for some time"),
    ],
)
def test_events_that_make_no_sense(events: str, times: dict[str, float], message: str) -> None:
    with pytest.raises(FlagError, match=message):
        events_of(Flags(perf_events=events, **times))  # type: ignore[arg-type]


def test_every_event_has_its_field() -> None:
    fields = v1.PerfStatistics.DESCRIPTOR.fields_by_name
    events = {field_of(event) for event in EVENTS.values()}
    assert set(fields) - {"timestamp", "duration"} <= events
    assert [event.name for event in events_of(Flags(perf_events="cycles,cpu-cycles, page-faults"))] == [
        "cycles",
        "page-faults",
    ]


def test_what_cgroup_v2_tells_of_disks(tmp_path: Path) -> None:
    (tmp_path / "io.stat").write_text(
        "254:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=5 dios=1\n7:0 \n8:0 rbytes=1 wbytes=0 rios=1 wios=0\n"
    )
    disk, other, total = served_unified(str(tmp_path))
    assert (disk.device, other.device, total.device) == ((254, 0), (8, 0), None)
    assert disk.bytes == {"READ": 10, "WRITE": 20, "DISCARD": 5, "TOTAL": 35}
    assert disk.operations == {"READ": 1, "WRITE": 2, "DISCARD": 1, "TOTAL": 4}
    assert (total.bytes, total.operations) == ({"TOTAL": 36}, {"TOTAL": 5})


def test_all_of_nothing_is_nothing(tmp_path: Path) -> None:
    assert expand(Flags(cgroups_hierarchy=tmp_path)) == ()


@pytest.fixture
def pids() -> PidsIsolator:
    return PidsIsolator(Flags(), (Hierarchy(frozenset({"pids"}), "/nowhere", 1),))


async def test_a_container_that_shares_has_no_amounts_of_its_own(pids: PidsIsolator) -> None:
    for amounts in ({"resources": Resources(pids=9)}, {"limits": Resources(pids=9)}):
        with pytest.raises(ContainerError, match="share_cgroups"):
            await pids.prepare(CHILD, config(**amounts))
    await pids.prepare(CHILD, config(resources=Resources(cpus=1)))  # That is not what this isolator is about.
    with pytest.raises(ContainerError, match="already"):
        await pids.prepare(CHILD, config())
    with pytest.raises(ContainerError, match="share_cgroups"):
        await pids.update(CHILD, Resources(), Resources(pids=9))
    assert (await pids.usage(CHILD)).threads is None


async def test_unknown_containers(pids: PidsIsolator) -> None:
    with pytest.raises(UnknownContainerError):
        await pids.usage(PARENT)
    with pytest.raises(UnknownContainerError):
        await pids.update(PARENT, Resources(), Resources())
    assert pids.watch(PARENT) is None
    assert await pids.limitation(PARENT) is None
    await pids.cleanup(PARENT)
