"""What a container's root tries against its host, and what a hostile root filesystem or sandbox holds."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import sys
from pathlib import Path

import pytest

from mesocosm.container import ContainerClass, LinuxInfo, Tmpfs, Volume
from mesocosm.errors import ContainerError
from tests.launching import LINUX, TIMEOUT, Launch

pytestmark = pytest.mark.kernel

# Opens what it is given for writing, and says what it could open that is a regular file of a disk.
WRITE = """
for file in {pattern}; do
  if (exec 7<>"$file") 2>/dev/null || (exec 7>>"$file") 2>/dev/null; then echo "$file $(readlink "$file")"; fi
done
echo end
"""

# Run by the host's Python, with which the container's root takes the descriptors of its init.
TAKE = """
import ctypes, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
init = os.pidfd_open(int(sys.argv[1]))
def take(number):
    taken = libc.syscall(438, init, number, 0)
    if taken == -1:
        raise OSError(ctypes.get_errno(), "pidfd_getfd")
    return socket.socket(fileno=taken)
"""
ATTACKS = {
    "garbage": "take(3).send(b'x' * 10000)",
    "one byte": "take(3).send(b'x')",
    "shut down": "take(3).shutdown(socket.SHUT_RDWR)",
    "shut down the other end": "take(4).shutdown(socket.SHUT_RDWR)",
    "blocking": "[os.set_blocking(take(number).fileno(), False) for number in (3, 4)]; take(3).send(b'x')",
    "peek offset": "take(4).setsockopt(socket.SOL_SOCKET, 42, 5000); take(3).send(b'x' * 10)",
    "descriptors": "socket.send_fds(take(3), [b'x' * 512], [0, 1, 2])",
    "low water": "take(4).setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1 << 20); take(3).send(b'x' * 10)",
}


@pytest.mark.parametrize("pattern", ["/proc/[0-9]*/exe", "/proc/[0-9]*/map_files/*", "/proc/[0-9]*/fd/*"])
@pytest.mark.parametrize("container_class", list(ContainerClass))
async def test_no_host_file_can_be_written_through_a_process(
    launch: Launch, rootfs: Path, pattern: str, container_class: ContainerClass
) -> None:
    """CVE-2019-5736, and its other ways. What can be opened is the container's own."""
    victim = await launch.sleeping(rootfs=rootfs, tmpfs=(Tmpfs("/tmpfs"),))
    # An init that is about to close its streams would have none by the time that they are looked at.
    script = f"while [ -e /proc/1/fd/0 ]; do :; done; {WRITE.format(pattern=pattern)}"
    if container_class is ContainerClass.DEBUG:
        container = await launch(script, parent=victim, container_class=container_class)
    else:
        container = await launch(script, rootfs=rootfs)
    assert await container.wait() == 0
    *opened, end = container.stream().splitlines()
    assert end == "end"
    allowed = ("/bin/busybox", "/mnt/mesos/sandbox", "/dev/", "pipe:", str(container.sandbox), str(victim.sandbox))
    assert [line for line in opened if not line.split(" ", 1)[1].startswith((*allowed, str(rootfs)))] == []


async def test_the_init_shows_nothing_of_the_host(launch: Launch, rootfs: Path) -> None:
    container = await launch(
        "while [ -e /proc/1/fd/0 ]; do :; done; ls -l /proc/1/fd; ls -ld /proc/1/cwd /proc/1/root; "
        "ls /proc/1/root /proc/1/cwd/; "
        "tr '\\0' '\\n' < /proc/1/environ; cat /proc/1/mounts",
        rootfs=rootfs,
    )
    await container.wait()
    output = container.stream()
    links = [line.split(" -> ")[1] for line in output.splitlines() if " -> " in line]
    assert all(link.startswith(("socket:", "/", "anon_inode:")) for link in links)
    assert [link for link in links if link.startswith("/")] == ["/mnt/mesos/sandbox", "/"]
    assert str(Path(sys.executable).parents[1]) not in output
    mounts = output.splitlines()
    assert not any("/work" in line for line in mounts if " -> " not in line)


async def test_the_init_runs_from_a_sealed_copy(launch: Launch) -> None:
    container = await launch.sleeping()
    exe = f"/proc/{await container.pid()}/exe"
    assert "memfd:" in str(Path(exe).readlink())
    with pytest.raises(OSError, match=r"busy|permitted|denied"):
        Path(exe).write_bytes(b"x")


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("isolation", ["filesystem/linux", LINUX])
async def test_attacks_on_the_channel(launch: Launch, isolation: str, attack: str) -> None:
    """The container is the container's root's to end; the agent goes on, and does not turn in circles."""
    script = f"{TAKE}\n{ATTACKS[attack]}\nprint('done', flush=True)\nsys.stdin.readline()"
    container = await launch.talking(
        f'exec {sys.executable} -I -S -c "$SCRIPT" $PPID', isolation=isolation, environment={"SCRIPT": script}
    )
    if await container.line() != "done" and "pidfd_getfd" in container.stream("stderr"):
        pytest.skip("the init's descriptors cannot be taken")
    before = resource.getrusage(resource.RUSAGE_SELF)
    with pytest.raises(TimeoutError):
        # Nothing of this may be busy; a limited time is the only way to see that nothing happens.
        await asyncio.wait_for(asyncio.Event().wait(), 0.3)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.2
    await container.destroy()
    assert await launch.output("echo well", isolation=isolation) == "well"


async def test_another_user_of_the_container_cannot_trace_the_init(launch: Launch) -> None:
    script = "import ctypes; print(ctypes.CDLL(None, use_errno=True).ptrace(0x4206, 1, 0, 0), ctypes.get_errno())"
    command = ["/bin/sh", "-c", 'exec "$PYTHON" -I -S -c "$SCRIPT"']
    python = shutil.which("python3", path="/usr/bin:/bin")
    if python is None:
        pytest.skip("there is no Python that other users can execute")
    environment = {"PYTHON": python, "SCRIPT": script}
    assert await launch.output(command, user="nobody", environment=environment) == "-1 1"
    assert await launch.output(command, environment=environment) == "0 0", "as root it can"


async def test_a_user_cannot_look_into_the_init(launch: Launch, rootfs: Path) -> None:
    look = "ls /proc/1/fd /proc/1/cwd/ /proc/1/root/ 2>&1 | grep -c 'ermission denied'; cat /proc/1/environ 2>&1"
    container = await launch(look, rootfs=rootfs, user="app")
    await container.wait()
    assert container.stream().splitlines()[0] == "3"


async def test_a_debug_container_cannot_be_traced_while_it_enters(launch: Launch, rootfs: Path) -> None:
    """CVE-2016-9962. The parent's user looks at whatever new process appears, as fast as it can."""
    spy = (
        "echo up; while :; do for p in /proc/[0-9]*; do [ $p = /proc/$$ ] || { ls -l $p/fd $p/cwd $p/root "
        "2>/dev/null | grep -e '-> /' | grep -Ev -e '-> /(dev/.*|mnt/mesos.*|proc.*)?$'; }; done; done"
    )
    parent = await launch.talking(spy, rootfs=rootfs, user="app")
    await parent.line()
    for _ in range(5):
        child = await launch(["true"], parent=parent, container_class=ContainerClass.DEBUG)
        await child.wait()
    await parent.destroy()
    assert await parent.line() == ""


# Hostile root filesystems.


def replace_by_link(path: Path, target: Path | str) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
    path.symlink_to(target)


@pytest.mark.parametrize("name", ["proc", "sys", "dev", "mnt", "mnt/mesos", "mnt/mesos/sandbox", "dev/pts", "dev/shm"])
@pytest.mark.parametrize("kind", ["absolute", "relative", "dangling"])
async def test_links_in_a_root_filesystem_lead_nowhere(
    launch: Launch, writable_rootfs: Path, run_directory: Path, name: str, kind: str
) -> None:
    outside = run_directory / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    (writable_rootfs / name).parent.mkdir(parents=True, exist_ok=True)
    up = "../" * 20
    target = {"absolute": str(outside), "relative": f"{up}{outside}", "dangling": f"{outside}/missing"}[kind]
    replace_by_link(writable_rootfs / name, target)
    try:
        container = await launch("find / -name precious 2>/dev/null", rootfs=writable_rootfs)
    except ContainerError:
        pass
    else:
        await container.wait()
        assert container.stream() == ""
    assert [path.name for path in outside.iterdir()] == ["precious"]


@pytest.mark.parametrize("name", ["passwd", "group"])
@pytest.mark.parametrize("kind", ["fifo", "fifo with a writer", "directory", "link", "zeroes", "binary", "numbers"])
async def test_hostile_files_of_users(
    launch: Launch, writable_rootfs: Path, run_directory: Path, name: str, kind: str
) -> None:
    file = writable_rootfs / "etc" / name
    file.unlink()
    writer = -1
    if kind.startswith("fifo"):
        os.mkfifo(file)
        if "writer" in kind:
            writer = os.open(file, os.O_RDWR)
    elif kind == "directory":
        file.mkdir()
    elif kind == "link":
        (run_directory / "outside").write_text("app:x:0:0::/:/bin/sh\n")
        file.symlink_to(run_directory / "outside")
    elif kind == "zeroes":
        os.mknod(file, 0o020666, os.makedev(1, 5))
    elif kind == "binary":
        file.write_bytes(bytes(range(256)) * 100)
    else:
        file.write_text(f"app:x:{'9' * 5000}:1:app:/:/bin/sh\napp:x:4294967295:4294967295:app:/:/bin/sh\n")
    try:
        container = await launch("id -u", rootfs=writable_rootfs, user="app")
    except ContainerError as error:
        told = ("user", f"/etc/{name} of the root file system")
        assert any(text in str(error) for text in told)  # noqa: PT017 - of a group only the user is used.
    else:
        assert name == "group", "there is no such user without the file"
        assert await container.wait() == 0
        assert container.stream() == "1000\n"
    finally:
        if writer != -1:
            os.close(writer)


@pytest.mark.parametrize("number", [4294967295, 4294967296, 99999999999])
async def test_a_user_beyond_the_numbers_is_not_root(launch: Launch, writable_rootfs: Path, number: int) -> None:
    """To setresuid(2), 4294967295 means: leave it as it is."""
    (writable_rootfs / "etc/passwd").write_text(f"app:x:{number}:{number}:app:/:/bin/sh\n")
    with pytest.raises(ContainerError, match="user"):
        await launch("id -u", rootfs=writable_rootfs, user="app")


# Hostile sandboxes.


@pytest.mark.parametrize("name", ["containers", "containers/kid"])
@pytest.mark.parametrize("user", [None, "app"])
async def test_a_parent_cannot_choose_the_sandbox_of_a_nested_container(
    launch: Launch, rootfs: Path, run_directory: Path, name: str, user: str | None
) -> None:
    """The nested sandbox is in the parent's, which may put there what it likes."""
    outside = run_directory / "outside"
    (outside / "kid").mkdir(parents=True)
    (outside / "kid" / "precious").touch()
    target = outside / "kid" if name.endswith("kid") else outside
    command = f"mkdir -p $(dirname {name}); ln -s {target} {name}; echo up; read -r end"
    parent = await launch.talking(command, rootfs=rootfs, user=user)
    await parent.line()
    try:
        child = await launch("ls; touch $MESOS_SANDBOX/written", parent=parent, name="kid", rootfs=rootfs)
    except (ContainerError, OSError):
        pass
    else:
        await child.wait()
        assert "precious" not in child.stream()
        await launch.containerizer().remove(child.container_id)
    assert sorted(path.name for path in outside.rglob("*")) == ["kid", "precious"]
    await parent.destroy()
    await launch.containerizer().remove(parent.container_id)
    assert sorted(path.name for path in outside.rglob("*")) == ["kid", "precious"]


@pytest.mark.parametrize("rooted", [False, True])
async def test_a_link_in_the_sandbox_is_no_way_out_for_a_mount(
    launch: Launch, rootfs: Path, run_directory: Path, rooted: bool
) -> None:
    sandbox, outside, source = (run_directory / name for name in ("sandbox", "outside", "source"))
    for directory in (sandbox, outside, source):
        directory.mkdir()
    (sandbox / "link").symlink_to(outside)
    try:
        container = await launch(
            "true", rootfs=rootfs if rooted else None, directory=sandbox, volumes=(Volume("link/made", str(source)),)
        )
    except ContainerError:
        pass
    else:
        await container.wait()
    assert list(outside.iterdir()) == []


async def test_the_host_pid_namespace_is_not_the_hosts_root(launch: Launch, rootfs: Path) -> None:
    """Sharing the pid namespace shows the host's processes, but not the init's files."""
    container = await launch(
        "while [ -e /proc/$PPID/fd/0 ]; do :; done; ls /proc/$PPID/fd | wc -l",
        rootfs=rootfs,
        linux_info=LinuxInfo(share_pid_namespace=True),
    )
    assert await asyncio.wait_for(container.wait(), TIMEOUT) == 0
    assert container.stream().strip() == "2"
