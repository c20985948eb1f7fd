"""`cgroups/pids` against shells that start what they can; also what all isolators of cgroups have in common."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from mesocosm.container import ContainerClass, ContainerID, LinuxInfo, Resources
from mesocosm.errors import ContainerError, UnsupportedError
from mesocosm.flags import Flags
from mesocosm.isolators.base import ContainerState
from mesocosm.isolators.cgroups.all import expand
from mesocosm.isolators.cgroups.pids import PidsIsolator
from mesocosm.linux import cgroup
from tests.isolating import isolate
from tests.kernel.cgroup_support import CONTAINER, blocked, config, created

pytestmark = pytest.mark.kernel
FORK = "n=0; while [ $n -lt 20 ]; do sleep 60 >/dev/null & n=$((n+1)); echo $n; done"
NESTED = ContainerID("n", CONTAINER)
DEEPER = ContainerID("d", NESTED)


@pytest.fixture
async def isolator(flags: Flags) -> AsyncIterator[PidsIsolator]:
    isolator = created(PidsIsolator, flags)
    yield isolator
    group = isolator.hierarchies[0].group(flags.cgroups_root)
    await cgroup.kill(group)
    await isolator.cleanup(CONTAINER)


async def started(isolator: PidsIsolator, container: ContainerID) -> tuple[int, int]:
    """How many processes a shell in the container could start, and its exit status."""
    with blocked(FORK) as process:
        await isolate(isolator, container, process.pid)
        process.release()
        count = 0
        while line := process.read() if count < 20 else "":
            count = int(line)
        return count, process.wait()


@pytest.mark.parametrize(
    ("resources", "limits", "expected"),
    [
        (Resources(), Resources(), (20, 0)),
        (Resources(pids=8), Resources(), (7, 2)),  # The shell and seven more.
        (Resources(pids=8), Resources(pids=10), (9, 2)),
        (Resources(pids=8), Resources(pids=math.inf), (20, 0)),  # type: ignore[arg-type]
    ],
)
async def test_limit(
    isolator: PidsIsolator, resources: Resources, limits: Resources, expected: tuple[int, int]
) -> None:
    await isolator.prepare(CONTAINER, config(resources=resources, limits=limits))
    assert await started(isolator, CONTAINER) == expected
    usage = await isolator.usage(CONTAINER)
    assert usage.processes == usage.threads == expected[0]
    assert await isolator.limitation(CONTAINER) is None


async def test_threads_count(isolator: PidsIsolator) -> None:
    await isolator.prepare(CONTAINER, config())
    threads = "import threading, sys; e = threading.Event()\nfor _ in range(3): threading.Thread(target=e.wait).start()"
    with blocked(f"exec python3 -c '{threads}\nprint(1, flush=True); sys.stdin.read(); e.set()'") as process:
        await isolate(isolator, CONTAINER, process.pid)
        process.release()
        assert process.read() == "1"
        usage = await isolator.usage(CONTAINER)
        assert (usage.processes, usage.threads) == (1, 4)


async def test_update(isolator: PidsIsolator) -> None:
    await isolator.prepare(CONTAINER, config(resources=Resources(pids=3)))
    assert (await started(isolator, CONTAINER))[0] == 2
    await isolator.update(CONTAINER, Resources(pids=8), Resources())
    assert (await started(isolator, CONTAINER))[0] == 5  # Two of before are there still.


async def test_nested_containers_that_share(isolator: PidsIsolator) -> None:
    await isolator.prepare(CONTAINER, config(resources=Resources(pids=8)))
    await isolator.prepare(NESTED, config())
    debug = config(linux_info=LinuxInfo(share_cgroups=False), container_class=ContainerClass.DEBUG)
    await isolator.prepare(DEEPER, debug)
    assert (await started(isolator, NESTED))[0] == 7
    with blocked("true") as process:
        await isolate(isolator, DEEPER, process.pid)  # Moving is not forking: the limit does not refuse it.
        assert cgroup.membership(isolator.hierarchies[0], process.pid).startswith(isolator.group(CONTAINER) or "none")
    assert (await isolator.usage(NESTED)).threads is None
    assert (await isolator.usage(CONTAINER)).threads == 7
    group = isolator.hierarchies[0].group(isolator.flags.cgroups_root, CONTAINER.cgroup)
    await cgroup.kill(group)
    await isolator.cleanup(DEEPER)
    await isolator.cleanup(NESTED)
    assert cgroup.exists(group)


async def test_nested_containers_with_cgroups_of_their_own(isolator: PidsIsolator) -> None:
    own = LinuxInfo(share_cgroups=False)
    await isolator.prepare(CONTAINER, config(resources=Resources(pids=8)))
    await isolator.prepare(NESTED, config(linux_info=own, resources=Resources(pids=4)))
    await isolator.prepare(DEEPER, config(linux_info=own, resources=Resources(pids=100)))
    assert (await started(isolator, NESTED))[0] == 3
    assert (await isolator.usage(NESTED)).threads == 3
    assert (await isolator.usage(CONTAINER)).threads == 3
    assert (await started(isolator, DEEPER))[
        0
    ] == 0  # One is the shell: its parent has four, and one of these was free.
    await cgroup.kill(isolator.hierarchies[0].group(isolator.flags.cgroups_root))
    for container in (DEEPER, NESTED):
        await isolator.cleanup(container)


async def test_recover(isolator: PidsIsolator, flags: Flags) -> None:
    before = config(resources=Resources(pids=8))
    absent = ContainerID("absent")
    await isolator.prepare(CONTAINER, before)
    recovered = PidsIsolator.create(flags)
    states = [ContainerState(container, before, None) for container in (CONTAINER, absent)]
    await recovered.recover([*states, ContainerState(NESTED, config(), None)], [])
    assert (await started(recovered, NESTED))[0] == 7
    assert (await recovered.usage(CONTAINER)).threads == 7
    assert (await recovered.usage(absent)).threads is None  # It was launched without this isolator.
    await recovered.update(absent, Resources(), Resources())


async def test_usage_of_what_is_gone(isolator: PidsIsolator) -> None:
    await isolator.prepare(CONTAINER, config())
    assert (await isolator.usage(CONTAINER)).threads == 0
    await cgroup.destroy(isolator.hierarchies[0].group(isolator.flags.cgroups_root, CONTAINER.cgroup))
    with pytest.raises(ContainerError, match="gone"):
        await isolator.usage(CONTAINER)


async def test_cleanup_after_what_failed(isolator: PidsIsolator) -> None:
    await isolator.cleanup(CONTAINER)  # Nothing was made.
    with pytest.raises(OSError, match="'-5'"):
        await isolator.prepare(CONTAINER, config(resources=Resources(pids=-5)))
    group = isolator.hierarchies[0].group(isolator.flags.cgroups_root, CONTAINER.cgroup)
    assert cgroup.exists(group)
    await isolator.cleanup(CONTAINER)
    assert not cgroup.exists(group)
    await isolator.prepare(CONTAINER, config())  # The id is free again.
    assert cgroup.exists(group)


async def test_cleanup_names_what_stays(isolator: PidsIsolator, flags: Flags) -> None:
    impatient = PidsIsolator.create(replace(flags, cgroups_destroy_timeout=0.05))
    await impatient.prepare(CONTAINER, config())
    with blocked("read -r end") as process:
        await isolate(impatient, CONTAINER, process.pid)
        with pytest.raises(ExceptionGroup) as caught:
            await impatient.cleanup(CONTAINER)
        assert f"processes left: {process.pid}" in str(caught.value.exceptions[0])
    await impatient.cleanup(CONTAINER)


async def test_a_group_in_use_is_refused(isolator: PidsIsolator, flags: Flags) -> None:
    await isolator.prepare(CONTAINER, config())
    await PidsIsolator.create(flags).prepare(CONTAINER, config())  # An empty one, left behind, is taken.
    with blocked("read -r end") as process:
        await isolate(isolator, CONTAINER, process.pid)
        with pytest.raises(ContainerError, match=f"holds processes already: {process.pid}"):
            await PidsIsolator.create(flags).prepare(CONTAINER, config())


async def test_a_process_that_the_launcher_placed_stays(isolator: PidsIsolator, flags: Flags) -> None:
    """On cgroup v2 there is one cgroup for all controllers: one below the container's is none of ours to leave."""
    if not isolator.unified:
        pytest.skip("the launcher has cgroups of its own on v1")
    await isolator.prepare(CONTAINER, config())
    await isolator.prepare(NESTED, config())
    hierarchy = isolator.hierarchies[0]
    placed = hierarchy.group(flags.cgroups_root, NESTED.cgroup, "leaf")
    cgroup.create(placed)
    with blocked("read -r end") as process, blocked("read -r end") as elsewhere:
        cgroup.assign(placed, process.pid)
        for container, member in ((CONTAINER, process), (NESTED, process), (NESTED, elsewhere)):
            await isolate(isolator, container, member.pid)
        assert cgroup.membership(hierarchy, process.pid) == placed
        assert cgroup.membership(hierarchy, elsewhere.pid) == hierarchy.group(flags.cgroups_root, "c", "leaf")


def test_all_has_what_the_host_has(flags: Flags) -> None:
    mounted = cgroup.hierarchies()
    expected = {
        f"cgroups/{name}"
        for name, controller in (("cpu", "cpu"), ("mem", "memory"), ("pids", "pids"))
        if mounted.of(controller)
    }
    names = expand(flags)
    assert expected <= set(names)
    assert not {"cgroups/all", "cgroups/base"} & set(names)


def test_all_does_without_a_controller(flags: Flags) -> None:
    hierarchy = cgroup.hierarchies().of("pids")
    if hierarchy is None or hierarchy.version == 2:
        pytest.skip("needs a pids hierarchy of cgroup v1")
    assert expand(replace(flags, cgroups_hierarchy=Path(hierarchy.path))) == ("cgroups/pids",)


async def test_refused_where_the_root_holds_processes(isolator: PidsIsolator, flags: Flags) -> None:
    """A delegated cgroup of v2 with processes in it can give its children nothing."""
    hierarchy = isolator.hierarchies[0]
    root = hierarchy.group(flags.cgroups_root)
    cgroup.create(root)
    with blocked("read -r end") as process:
        cgroup.assign(root, process.pid)
        inside = replace(flags, cgroups_root=f"{flags.cgroups_root}/inner")
        if isolator.unified:
            with pytest.raises(UnsupportedError, match=f"holds processes itself \\({process.pid}\\)"):
                PidsIsolator.create(inside)
        else:
            PidsIsolator.create(inside)
    await cgroup.destroy(root, 5)
