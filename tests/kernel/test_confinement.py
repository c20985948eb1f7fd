"""What a root tries that has the rights of a container of an image; the control is one with all of them."""

from __future__ import annotations

import errno
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mesocosm.container import LinuxInfo, SeccompInfo
from mesocosm.errors import UnsupportedError
from mesocosm.linux.seccomp import libseccomp
from mesocosm.oneshot.security import for_image
from tests.launching import LINUX, Launch

pytestmark = pytest.mark.kernel
SAFE = f"{LINUX},{','.join(for_image().isolators)}"
try:
    libseccomp.check()
except UnsupportedError as missing:
    pytest.skip(str(missing), allow_module_level=True)

# Scripts of the shell in a root file system, that succeed if the attack does.
ATTACKS = {
    "make the kernel's settings writable": "mount -o remount,rw /proc/sys",
    "uncover what is hidden": "umount /proc/timer_list",
    "make sysfs writable": "mount -o remount,rw /sys",
    "mount cgroups": "mkdir -p /tmp/c && mount -t cgroup2 none /tmp/c",
    "mount a new proc": "mkdir -p /tmp/p && mount -t proc none /tmp/p",
    "enter the root of the init": "ls /proc/1/root/",
    "read the environment of the init": "cat /proc/1/environ",
    "see the descriptors of the init": "readlink /proc/1/fd/3",
    "a user namespace with all capabilities": "unshare -U true",
    "a mount namespace": "unshare -m true",
    "a bind mount": "mount --bind /tmp /mnt",
    "become another namespace's process": "nsenter -t 1 -m true",
}
# The same as programs for Python, that print the errno of the last call.
CALLS = {
    "trace the init": "libc.ptrace(0x4206, 1, 0, 0)",
    "open files by their handles": "libc.open_by_handle_at(-100, ctypes.create_string_buffer(16), 0)",
    "add a key": "libc.syscall(248, b'user', b'x', b'x', 1, -3)",
    "take a descriptor of the init": "libc.syscall(438, os.pidfd_open(1), 3, 0)",
    "set up io_uring": "libc.syscall(425, 1, None)",
}
# Makes the init call unshare(CLONE_NEWUSER) from where it waits in another system call, and prints the result.
POSSESS = """
import ctypes, os, struct
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
SEIZE, INTERRUPT, STEP, GETREGS, SETREGS = 0x4206, 0x4207, 9, 12, 13
RAX, RDI, ORIGINAL, RIP = 10, 14, 15, 16
def do(request, data=None):
    if libc.ptrace(request, 1, None, data) == -1:
        raise OSError(ctypes.get_errno(), str(request))
registers = (ctypes.c_ulong * 27)()
do(SEIZE)
do(INTERRUPT)
os.waitpid(1, 0x40000000)  # __WALL
do(GETREGS, registers)
registers[RAX], registers[RDI], registers[ORIGINAL] = 272, 0x10000000, (1 << 64) - 1
registers[RIP] -= 2  # The instruction that it is in.
do(SETREGS, registers)
do(STEP)
os.waitpid(1, 0x40000000)
do(GETREGS, registers)
print(ctypes.c_long(registers[RAX]).value, flush=True)
os._exit(0)
"""


@pytest.fixture
def safe(launch: Launch) -> LinuxInfo:
    """What a container of an image is given, for a containerizer that has what it takes."""
    launch.containerizer(SAFE.replace(",linux/nnp", ""), seccomp_config_dir=Path("/"))
    return for_image().apply(LinuxInfo(), SAFE.split(","))


@pytest.fixture
def python() -> list[str]:
    found = shutil.which("python3", path="/usr/bin:/bin")
    if found is None:
        pytest.skip("there is no Python that containers without a root file system all see")
    return [found, "-I", "-S", "-c"]


@pytest.mark.parametrize("attack", ATTACKS)
async def test_attacks(launch: Launch, safe: LinuxInfo, writable_rootfs: Path, attack: str) -> None:
    if "timer_list" in ATTACKS[attack] and not Path("/proc/timer_list").exists():
        pytest.skip("this kernel has no /proc/timer_list")
    script = f"{ATTACKS[attack]} > /dev/null 2>&1 && echo yes || echo no"
    assert await launch.output(script, rootfs=writable_rootfs, linux_info=safe) == "no"
    assert await launch.output(script, rootfs=writable_rootfs, linux_info=LinuxInfo()) == "yes"


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are those of x86-64")
@pytest.mark.parametrize("attack", CALLS)
async def test_attacks_by_system_calls(launch: Launch, safe: LinuxInfo, python: list[str], attack: str) -> None:
    begin = "import ctypes, os; libc = ctypes.CDLL(None, use_errno=True)"
    program = f"{begin}\nresult = {CALLS[attack]}\nprint(result, ctypes.get_errno())"
    result, code = map(int, (await launch.output([*python, program], linux_info=safe)).split())
    assert (result, code in (errno.EPERM, errno.ENOSYS)) == (-1, True)
    _, code = map(int, (await launch.output([*python, program])).split())
    assert code not in (errno.EPERM, errno.ENOSYS), "the control: the call is made, whatever comes of it"


async def test_writing_to_files_of_the_kernel(launch: Launch, safe: LinuxInfo, rootfs: Path) -> None:
    paths = ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/sys/vm/drop_caches", "/sys/power/state")
    script = "".join(f"(: >> {path}) 2>/dev/null && echo {path}; " for path in paths)
    assert await launch.output(f"{script} true", rootfs=rootfs, linux_info=safe) == ""


async def test_there_is_no_terminal_to_type_into(launch: Launch, safe: LinuxInfo, python: list[str]) -> None:
    """TIOCSTI needs the controlling terminal, and the command has none that anybody else has."""
    for info in (safe, LinuxInfo()):
        opened = await launch.output("(: < /dev/tty) 2> /dev/null && echo yes || echo no", linux_info=info)
        assert opened == "no"


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the registers are those of x86-64")
@pytest.mark.parametrize("filtered", [True, False])
async def test_an_init_that_is_possessed(
    launch: Launch, run_directory: Path, python: list[str], *, filtered: bool
) -> None:
    """A container with CAP_SYS_PTRACE has its init do what a filter keeps it from itself."""
    rule = {"names": ["unshare"], "action": "SCMP_ACT_ERRNO"}
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "archMap": [], "syscalls": [rule]}
    (run_directory / "profile.json").write_text(json.dumps(profile))
    launch.containerizer(f"{LINUX},linux/seccomp,linux/capabilities", seccomp_config_dir=run_directory)
    info = LinuxInfo(bounding_capabilities=("SYS_PTRACE",))
    if filtered:
        info = replace(info, seccomp=SeccompInfo("profile.json"))
    container = await launch.talking([*python, POSSESS], linux_info=info)
    assert await container.line() == (str(-errno.EPERM) if filtered else "0")


async def test_a_possessed_init_has_no_other_capabilities(launch: Launch, python: list[str]) -> None:
    info = LinuxInfo(bounding_capabilities=("SYS_PTRACE",))
    isolation = f"{LINUX},linux/capabilities"
    for act, worked in (("os.mknod('/proc/1/cwd/d', 0o60600, 0x100)", False), ("os.listdir('/proc/1/cwd/')", True)):
        program = f"import os\ntry:\n    {act}\n    print(True)\nexcept PermissionError:\n    print(False)"
        assert await launch.output([*python, program], isolation=isolation, linux_info=info) == str(worked)
