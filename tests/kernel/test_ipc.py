"""`namespaces/ipc`: System V IPC, POSIX message queues and /dev/shm, shared with whom a container asks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesocosm.container import ContainerClass, IpcMode, LinuxInfo
from mesocosm.errors import ContainerError
from tests.launching import Launch, Started

pytestmark = pytest.mark.kernel
WITH, WITHOUT = "filesystem/linux,namespaces/pid,namespaces/ipc", "filesystem/linux,namespaces/pid"
PRIVATE, SHARED, UNSET = (LinuxInfo(ipc_mode=mode) for mode in (IpcMode.PRIVATE, IpcMode.SHARE_PARENT, None))
MB = 1 << 20
LOOK = "readlink /proc/self/ns/ipc; ls /dev/shm; echo --; ls /dev/mqueue"


@pytest.fixture(params=[False, True], ids=["host", "rootfs"])
def root(request: pytest.FixtureRequest, rootfs: Path) -> Path | None:
    return rootfs if request.param else None


def own(pid: int | str = "self") -> str:
    return str(Path(f"/proc/{pid}/ns/ipc").readlink())


async def with_memory(launch: Launch, root: Path | None, info: LinuxInfo, parent: Started | None = None) -> Started:
    """A container with a file of its own in /dev/shm, and a message queue."""
    script = "touch /dev/shm/$NAME /dev/mqueue/$NAME; echo up; read -r end; rm /dev/shm/$NAME"
    name = launch.flags.cgroups_root
    started = await launch.talking(
        script, isolation=WITH, rootfs=root, linux_info=info, parent=parent, environment={"NAME": name}
    )
    assert await started.line() == "up"
    return started


async def seen(launch: Launch, container: Started) -> tuple[str, bool, bool]:
    """The namespace that LOOK found, and whether it saw the file and the queue of `with_memory`."""
    await container.wait()
    namespace, _, rest = container.stream().partition("\n")
    memory, _, queues = rest.partition("--")
    name = launch.flags.cgroups_root
    return namespace, name in memory, name in queues


@pytest.mark.parametrize("info", [UNSET, PRIVATE])
async def test_a_top_level_container_has_its_own(launch: Launch, root: Path | None, info: LinuxInfo) -> None:
    if root is None and info is UNSET:
        pytest.skip("such a container has the host's /dev/shm")
    first = await with_memory(launch, root, info) if root or Path("/dev/mqueue").is_dir() else None
    second = await launch(LOOK, isolation=WITH, rootfs=root, linux_info=info)
    namespace, memory, queue = await seen(launch, second)
    assert (namespace == own(), memory, queue) == (False, False, False)
    assert not Path("/dev/shm", launch.flags.cgroups_root).exists()
    if first:
        assert namespace != own(await first.pid())


DEVICE = "readlink /proc/self/ns/ipc; stat -c %d /dev/shm"


async def test_without_a_wish_only_a_root_of_its_own_brings_a_memory_of_its_own(
    launch: Launch, root: Path | None
) -> None:
    parent = await launch.sleeping(isolation=WITH)
    for above in (None, parent):
        container = await launch(DEVICE, parent=above, rootfs=root)
        assert await container.wait() == 0
        namespace, device = container.stream().split()
        assert namespace == (own(await parent.pid()) if above else namespace) != own()
        assert (device == str(Path("/dev/shm").stat().st_dev)) is (root is None)


async def test_control_without_the_isolator(launch: Launch, root: Path | None) -> None:
    parent = await launch.sleeping(isolation=WITHOUT)
    for above in (None, parent):
        container = await launch(DEVICE, parent=above, rootfs=root)
        assert await container.wait() == 0
        namespace, device = container.stream().split()
        assert namespace == own()
        assert (device == str(Path("/dev/shm").stat().st_dev)) is (root is None)


@pytest.mark.parametrize("isolation", [WITH, WITHOUT])
async def test_system_v_queues(launch: Launch, isolation: str) -> None:
    create = "ipcmk -Q -p 0600 | sed 's/.*: //'"
    identifier = await launch.output(create, isolation=isolation)
    found = identifier in await launch.output("ipcs -q", isolation=isolation)
    if found:
        await launch.output(f"ipcrm -q {identifier}", isolation=isolation)
    assert found is (isolation == WITHOUT)


async def test_sharing_the_hosts(launch: Launch, root: Path | None) -> None:
    container = await launch("readlink /proc/self/ns/ipc; stat -c %d /dev/shm", rootfs=root, linux_info=SHARED)
    assert await container.wait() == 0
    assert container.stream().split() == [own(), str(Path("/dev/shm").stat().st_dev)]


async def test_sharing_the_hosts_can_be_disallowed(launch: Launch) -> None:
    launch.containerizer(WITH, disallow_sharing_agent_ipc_namespace=True)
    with pytest.raises(ContainerError, match="disallow_sharing_agent_ipc_namespace"):
        await launch("true", linux_info=SHARED)
    parent = await launch.sleeping(linux_info=PRIVATE)
    child = await launch("true", parent=parent, linux_info=SHARED)
    assert await child.wait() == 0


@pytest.mark.parametrize(
    ("info", "container_class", "namespace", "memory"),
    [
        (SHARED, ContainerClass.DEFAULT, True, True),
        (PRIVATE, ContainerClass.DEFAULT, False, False),
        (UNSET, ContainerClass.DEFAULT, True, False),
        (UNSET, ContainerClass.DEBUG, True, True),
    ],
)
async def test_nested_in_a_private_one(
    launch: Launch, rootfs: Path, info: LinuxInfo, container_class: ContainerClass, namespace: bool, memory: bool
) -> None:
    parent = await with_memory(launch, rootfs, PRIVATE)
    own_root = None if container_class is ContainerClass.DEBUG else rootfs
    child = await launch(LOOK, parent=parent, rootfs=own_root, linux_info=info, container_class=container_class)
    found = await seen(launch, child)
    assert (found[0] == own(await parent.pid()), found[1], found[2]) == (namespace, memory, namespace)


async def test_grandchildren_share_what_their_parents_share(launch: Launch, rootfs: Path) -> None:
    top = await with_memory(launch, rootfs, PRIVATE)
    middle = await launch.sleeping(parent=top, rootfs=rootfs, linux_info=SHARED)
    bottom = await launch(LOOK, parent=middle, rootfs=rootfs, linux_info=SHARED)
    assert await seen(launch, bottom) == (own(await top.pid()), True, True)


async def test_a_memory_that_cannot_be_shared(launch: Launch, rootfs: Path) -> None:
    parent = await launch.sleeping(rootfs=rootfs)
    with pytest.raises(ContainerError, match="PRIVATE"):
        await launch("true", parent=parent, rootfs=rootfs, linux_info=SHARED)


@pytest.mark.parametrize(
    ("asked", "default", "expected"), [(4 * MB, None, 4 * MB), (None, 8 * MB, 8 * MB), (4 * MB, 8 * MB, 4 * MB)]
)
async def test_size_of_the_memory(
    launch: Launch, root: Path | None, asked: int | None, default: int | None, expected: int
) -> None:
    launch.containerizer(WITH, default_container_shm_size=default)
    info = LinuxInfo(ipc_mode=IpcMode.PRIVATE, shm_size=asked)
    script = "dd if=/dev/zero of=/dev/shm/x bs=1M 2>/dev/null; stat -c %s /dev/shm/x; stat -c %a /dev/shm"
    assert (await launch.output(script, rootfs=root, linux_info=info)).split() == [str(expected), "1777"]


@pytest.mark.parametrize("info", [LinuxInfo(shm_size=MB), LinuxInfo(shm_size=MB, ipc_mode=IpcMode.SHARE_PARENT)])
async def test_a_size_needs_a_memory_of_its_own(launch: Launch, info: LinuxInfo) -> None:
    with pytest.raises(ContainerError, match="PRIVATE"):
        await launch("true", linux_info=info)


@pytest.mark.parametrize("size", [0, -1])
async def test_a_size_that_is_none(launch: Launch, size: int) -> None:
    """To the kernel, 0 means without a limit."""
    with pytest.raises(ContainerError):
        await launch("true", linux_info=LinuxInfo(ipc_mode=IpcMode.PRIVATE, shm_size=size))


async def test_a_nested_container_sees_the_queues_of_the_namespace_it_is_in(launch: Launch) -> None:
    if not Path("/dev/mqueue").is_dir():
        pytest.skip("this host has no /dev/mqueue")
    parent = await with_memory(launch, None, UNSET)
    child = await launch(LOOK, parent=parent, linux_info=SHARED)
    found = await seen(launch, child)
    namespace = own(await parent.pid())
    parent.say("end")  # It removes its file, which is in the /dev/shm of the host.
    await parent.wait()
    assert found == (namespace, True, True)


async def test_a_nested_container_sees_the_queues_of_the_host_with_a_parent_that_does(launch: Launch) -> None:
    if not Path("/dev/mqueue").is_dir():
        pytest.skip("this host has no /dev/mqueue")
    parent = await launch.sleeping(linux_info=SHARED)
    name = launch.flags.cgroups_root
    queue = Path("/dev/mqueue", name)
    queue.touch()
    try:
        child = await launch(LOOK, parent=parent, linux_info=SHARED)
        assert (await seen(launch, child))[::2] == (own(), True)
    finally:
        queue.unlink()
