"""`cgroups/devices`: what a container can open of the nodes that it makes, by the list of v1 and the program of v2."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest

from mesocosm.container import LinuxInfo
from mesocosm.isolators.cgroups.devices import DEFAULT, DevicesIsolator
from mesocosm.linux import bpf, cgroup
from mesocosm.linux.cgroup.devices import Rule, allowed
from mesocosm.linux.cgroup.tree import pauses
from tests.isolating import isolate
from tests.kernel.cgroup_support import CONTAINER, a_group, blocked, config, created, group_of
from tests.launching import LINUX, TIMEOUT, Launch, Started

pytestmark = pytest.mark.kernel
ISOLATION = f"{LINUX},cgroups/devices"
CONTROL = Path("/dev/loop-control")
LOOP_CONTROL = "c 10 237"
FIRST_LOOP = "b 7 0"
# Opens nodes that it makes, for reading and for writing, and says what came of it.
TRY = """
while read -r node; do
  rm -f node; mknod node $node
  for how in "<" ">>"; do
    if (eval "exec 3${how}node") 2> error; then echo -n "yes "
    elif grep -q "not permitted" error; then echo -n "refused "
    else echo -n "failed "; fi
  done
  echo
done
"""
REFUSED, OPENED = "refused refused", "yes yes"


@pytest.fixture(params=["v1", "v2"])
def hierarchy(launch: Launch, request: pytest.FixtureRequest) -> str:
    """Where the isolator finds cgroups of one version only."""
    mounted = cgroup.hierarchies()
    found = mounted.legacy("devices") if request.param == "v1" else mounted.unified
    if found is None:
        pytest.skip(f"no devices of cgroup {request.param} here")
    launch.flags = replace(
        launch.flags, cgroups_hierarchy=Path("/sys/fs/cgroup" if request.param == "v1" else found.path)
    )
    return found.path


async def tried(container: Started, node: str) -> str:
    """What opening it for reading and for writing comes to."""
    container.say(node)
    return (await container.line()).strip()


@pytest.mark.usefixtures("hierarchy")
async def test_devices_are_refused(launch: Launch) -> None:
    free = await launch.talking(TRY, isolation=ISOLATION)
    assert await tried(free, "c 1 3") == OPENED
    assert await tried(free, LOOP_CONTROL) == REFUSED
    assert await tried(free, FIRST_LOOP) == REFUSED


@pytest.mark.slow
async def test_without_the_isolator_they_are_not(launch: Launch) -> None:
    if not CONTROL.exists():
        pytest.skip(f"no {CONTROL} here")
    container = await launch.talking(TRY, isolation=LINUX)
    assert await tried(container, LOOP_CONTROL) == OPENED


@pytest.mark.usefixtures("hierarchy")
async def test_harmless_ones_can_be_used(launch: Launch, rootfs: Path) -> None:
    script = (
        "for name in null zero random urandom; do head -c 1 /dev/$name; done; echo x > /dev/null; echo x > /dev/full"
    )
    container = await launch(script, isolation=ISOLATION, rootfs=rootfs)
    await container.wait()
    assert len((container.sandbox / "stdout").read_bytes()) == 3
    assert "not permitted" not in container.stream("stderr")
    assert "No space left" in container.stream("stderr")


@pytest.mark.usefixtures("hierarchy")
async def test_a_device_that_is_listed(launch: Launch) -> None:
    if not CONTROL.exists():
        pytest.skip(f"no {CONTROL} here")
    entry = {"device": {"path": str(CONTROL)}, "access": {"read": True}}
    launch.containerizer(ISOLATION, allowed_devices={"allowed_devices": [entry]})
    container = await launch.talking(TRY, isolation=ISOLATION)
    assert await tried(container, LOOP_CONTROL) == "yes refused"
    assert await tried(container, FIRST_LOOP) == REFUSED


@pytest.mark.usefixtures("hierarchy")
async def test_nested_containers_and_recovery(launch: Launch) -> None:
    outer = await launch.talking(TRY, isolation=ISOLATION)
    await launch.successor()
    for share in (True, False):
        nested = await launch.talking(TRY, isolation=ISOLATION, parent=outer, linux_info=LinuxInfo(share_cgroups=share))
        assert await tried(nested, LOOP_CONTROL) == REFUSED
        assert await tried(nested, "c 1 3") == OPENED
        await nested.destroy()
    assert await tried(outer, LOOP_CONTROL) == REFUSED


async def test_nothing_is_left_of_a_program(launch: Launch) -> None:
    unified = cgroup.hierarchies().unified
    if unified is None:
        pytest.skip("no cgroup v2 here")
    launch.flags = replace(launch.flags, cgroups_hierarchy=Path(unified.path))
    container = await launch.sleeping(isolation=ISOLATION)
    group = group_of(launch.flags, "devices", container.container_id, unified=True)
    (identity,) = bpf.attached(group)
    os.close(bpf.open_program(identity))
    await container.destroy()
    assert not cgroup.exists(group)
    async with asyncio.timeout(TIMEOUT):
        for pause in pauses():  # The kernel lets go of it a moment later, and has no event for that.
            try:
                os.close(bpf.open_program(identity))
            except FileNotFoundError:
                break
            await asyncio.sleep(pause)


async def test_the_list(launch: Launch) -> None:
    isolator = created(DevicesIsolator, launch.flags)
    if isolator.unified:
        pytest.skip("cgroup v2 has no list")
    await isolator.prepare(CONTAINER, config())
    group = isolator.group(CONTAINER)
    assert group is not None
    assert allowed(group) == set(map(str, DEFAULT))
    await isolator.cleanup(CONTAINER)
    assert not cgroup.exists(group)


COUNT = """
import os, select, sys
opened = 0
print("up", flush=True)
while not select.select([0], [], [], 0)[0]:
    try:
        os.close(os.open(sys.argv[1], os.O_RDONLY))
        opened += 1
    except PermissionError:
        pass
print(opened, flush=True)
"""


async def test_a_program_is_replaced_at_once(cgroups_root: str, tmp_path: Path) -> None:
    """There is no moment in which a device could be opened that neither program allows."""
    group = a_group("unified", cgroups_root)
    node = tmp_path / "node"
    os.mknod(node, 0o20600, os.makedev(1, 3))
    refusing, allowing = (bpf.load(bpf.device_instructions(rules)) for rules in ((), (Rule.parse("c 1:3 r"),)))
    cgroup.create(f"{group}/inner")
    try:
        bpf.attach(group, refusing)
        first = bpf.attached(group)
        with blocked(f"exec python3 -c '{COUNT}' {node}") as process:
            cgroup.assign(f"{group}/inner", process.pid)
            process.release()
            assert process.read() == "up"
            for _ in range(200):
                bpf.attach(group, refusing)
            process.write("end")
            assert process.read() == "0"
        bpf.attach(group, allowing)
        assert len(bpf.attached(group)) == len(first) == 1
        assert bpf.attached(group) != first
        with blocked(f"exec cat {node}") as process:
            cgroup.assign(f"{group}/inner", process.pid)
            assert process.release().wait() == 0
    finally:
        for program in (refusing, allowing):
            os.close(program)
        await cgroup.destroy(group)


async def test_prepare_replaces_what_is_there(launch: Launch) -> None:
    """Of a launch that was cut off, or one before a boot."""
    unified = cgroup.hierarchies().unified
    if unified is None:
        pytest.skip("no cgroup v2 here")
    isolator = DevicesIsolator(launch.flags, (unified,))
    for _ in range(2):
        await isolator.prepare(CONTAINER, config())
        group = isolator.group(CONTAINER)
        assert group is not None
        assert len(bpf.attached(group)) == 1
        isolator = DevicesIsolator(launch.flags, (unified,))
    await isolator.recover([], [CONTAINER])
    with blocked(f"exec 3< {CONTROL}") as process:
        await isolate(isolator, CONTAINER, process.pid)
    await isolator.cleanup(CONTAINER)
    assert not cgroup.exists(group)
