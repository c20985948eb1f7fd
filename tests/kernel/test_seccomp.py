"""`linux/seccomp`: what a filter refuses works without it, and there is no way around it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mesocosm.container import LinuxInfo, RLimit, SeccompInfo
from mesocosm.errors import ContainerError, FlagError, UnsupportedError
from mesocosm.flags import Flags
from mesocosm.isolators.linux import seccomp
from mesocosm.isolators.linux.seccomp import LinuxSeccompIsolator
from mesocosm.isolators.selection import select
from mesocosm.linux import capabilities
from mesocosm.linux.seccomp import libseccomp, profile
from tests.launching import LINUX, Launch

pytestmark = pytest.mark.kernel
WITH, WITHOUT = f"{LINUX},linux/seccomp", LINUX
BOTH = f"{WITH},linux/capabilities"
UNCONFINED = LinuxInfo(seccomp=SeccompInfo(unconfined=True))
STATUS = "sed -n 's/^Seccomp:.*\\([0-9]\\)$/\\1/p' /proc/%s/status"
try:
    libseccomp.check()
except UnsupportedError as missing:
    pytest.skip(str(missing), allow_module_level=True)

# By the old gate for 32-bit programs, which any 64-bit one may use: arguments are the number and the first argument.
OLD_GATE = """
import ctypes, mmap, sys
code = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | 0x40, prot=7)  # MAP_32BIT
code.write(bytes.fromhex("5389f889f3cd80489848985bc3"))
address = ctypes.addressof(ctypes.c_char.from_buffer(code))
print(ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_int, ctypes.c_int)(address)(int(sys.argv[1]), int(sys.argv[2])))
"""
CALL = """
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
print(libc.syscall(*map(int, sys.argv[1:])), ctypes.get_errno())
"""
PYTHON = [sys.executable, "-I", "-S", "-c"]


def using(name: str) -> LinuxInfo:
    return LinuxInfo(seccomp=SeccompInfo(name))


Write = Callable[..., None]


@pytest.fixture
def write(run_directory: Path) -> Write:
    """Writes a profile that allows all but `rules`."""

    def write(name: str, *rules: dict[str, Any], default: str = "SCMP_ACT_ALLOW", **more: Any) -> None:
        directory = run_directory / "profiles"
        directory.mkdir(exist_ok=True)
        document = {"defaultAction": default, "archMap": [], "syscalls": list(rules), **more}
        (directory / name).write_text(json.dumps(document))

    return write


@pytest.fixture
def configured(launch: Launch, run_directory: Path, write: Write) -> Callable[..., Launch]:
    """Launches with a directory of profiles, one of which refuses uname(2), and another default if there is one."""

    def configured(isolation: str = WITH, **flags: Any) -> Launch:
        write("no-uname.json", {"names": ["uname"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95})
        write("all.json")
        launch.containerizer(isolation, seccomp_config_dir=run_directory / "profiles", **flags)
        return launch

    return configured


Configured = Callable[..., Launch]
UNAME = "uname > /dev/null 2>&1 && echo works || echo refused"


@pytest.mark.parametrize("user", [None, "nobody"])
async def test_a_default_profile(configured: Configured, user: str | None) -> None:
    """For every container that asks for nothing else; another profile, or none, is the control."""
    launch = configured(seccomp_profile_name="no-uname.json")
    assert await launch.output(UNAME, user=user) == "refused"
    assert await launch.output(UNAME, user=user, linux_info=using("all.json")) == "works"
    assert await launch.output(UNAME, user=user, linux_info=UNCONFINED) == "works"
    assert await launch.output(STATUS % "self", user=user) == "2"
    assert await launch.output(STATUS % "self", user=user, linux_info=UNCONFINED) == "0"


async def test_a_profile_of_a_container(configured: Configured) -> None:
    launch = configured()
    assert await launch.output(UNAME) == "works"
    assert await launch.output(UNAME, linux_info=using("no-uname.json")) == "refused"
    assert await launch.output(UNAME, linux_info=using("no-uname.json"), user="nobody") == "refused"


async def test_the_errno_and_the_arguments(configured: Configured, write: Write) -> None:
    one = {"index": 0, "value": 2, "op": "SCMP_CMP_GE"}
    write("args.json", {"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95, "args": [one]})
    launch = configured()
    number = str(libseccomp.system_call("getpriority"))
    for first, expected in (("0", 0), ("2", 95)):
        output = await launch.output([*PYTHON, CALL, number, first, "0"], linux_info=using("args.json"))
        assert int(output.split()[1]) == expected


@pytest.mark.parametrize(("action", "number"), [("KILL_PROCESS", signal.SIGSYS), ("KILL", signal.SIGSYS)])
async def test_an_action_that_kills(configured: Configured, write: Write, action: str, number: int) -> None:
    write("kill.json", {"names": ["uname"], "action": f"SCMP_ACT_{action}"})
    launch = configured()
    container = await launch(["uname"], linux_info=using("kill.json"))
    status = (await container.termination()).status
    assert status is not None
    assert os.WTERMSIG(status) == number


async def test_a_profile_that_does_not_allow_the_command(configured: Configured, write: Write) -> None:
    write("nothing.json", default="SCMP_ACT_KILL_PROCESS")
    write("no-exec.json", {"names": ["execve"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1})
    launch = configured()
    container = await launch("true", linux_info=using("nothing.json"))
    assert await container.wait() == 128 + signal.SIGSYS
    with pytest.raises(ContainerError, match="cannot be executed: Operation not permitted"):
        await launch("true", linux_info=using("no-exec.json"))


async def test_the_filter_is_no_reason_for_fewer_privileges(configured: Configured, set_user_id_grep: str) -> None:
    """A filter without no_new_privs takes CAP_SYS_ADMIN to load, of which the command keeps nothing."""
    launch = configured(BOTH)
    info = replace(using("all.json"), bounding_capabilities=("CHOWN",))
    for user, expected in ((None, capabilities.set_of(["CHOWN"])), ("nobody", 0)):
        found = await launch.output(["grep", "CapPrm", "/proc/self/status"], linux_info=info, user=user)
        assert int(found.split()[1], 16) == expected
    output = await launch.output([set_user_id_grep, "^Uid", "/proc/self/status"], linux_info=info, user="nobody")
    assert output.split()[2] == "0"


@pytest.mark.parametrize(
    ("condition", "bounding", "expected"),
    [
        ({"includes": {"caps": ["CAP_SYS_ADMIN"]}}, ["SYS_ADMIN"], "refused"),
        ({"includes": {"caps": ["CAP_SYS_ADMIN"]}}, ["CHOWN"], "works"),
        ({"excludes": {"caps": ["CAP_SYS_ADMIN"]}}, ["SYS_ADMIN"], "works"),
        ({"excludes": {"caps": ["CAP_SYS_ADMIN"]}}, ["CHOWN"], "refused"),
    ],
)
async def test_rules_by_capability(
    configured: Configured, write: Write, condition: dict[str, Any], bounding: list[str], expected: str
) -> None:
    write("caps.json", {"names": ["uname"], "action": "SCMP_ACT_ERRNO", **condition})
    launch = configured(BOTH, seccomp_profile_name="caps.json")
    info = LinuxInfo(effective_capabilities=tuple(bounding), bounding_capabilities=tuple(bounding))
    assert await launch.output(UNAME, linux_info=info) == expected


async def test_nested_containers(configured: Configured) -> None:
    """As in Mesos, they have what they ask for, or the default; not what their parent has."""
    launch = configured(seccomp_profile_name="no-uname.json")
    parent = await launch.sleeping(linux_info=UNCONFINED)
    assert await launch.output(UNAME, parent=parent) == "refused"
    assert await launch.output(UNAME, parent=parent, linux_info=using("all.json")) == "works"
    assert await launch.output(UNAME, parent=parent, linux_info=UNCONFINED) == "works"


async def test_a_profile_is_compiled_once(configured: Configured, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    compile_profile = profile.Profile.compile

    def count(self: profile.Profile, bounding: int) -> bytes:
        compiled.append(bounding)
        return compile_profile(self, bounding)

    monkeypatch.setattr(profile.Profile, "compile", count)
    launch = configured(BOTH, seccomp_profile_name="no-uname.json")
    few = LinuxInfo(bounding_capabilities=())
    await asyncio.gather(*(launch.output("true", linux_info=info) for info in [LinuxInfo(), few] * 3))
    assert sorted(compiled) == sorted({0, capabilities.bounding()})


async def test_no_more_than_some_are_kept(configured: Configured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp, "_KEPT", 2)
    launch = configured(BOTH, seccomp_profile_name="no-uname.json")
    for names in ((), ("CHOWN",), ("KILL",), ()):
        info = LinuxInfo(bounding_capabilities=names)
        assert await launch.output(UNAME, linux_info=info) == "refused"
    (isolator,) = (each for each in launch.containerizer()._isolation if isinstance(each, LinuxSeccompIsolator))
    assert [bounding for _, bounding in isolator._programs] == [capabilities.set_of(["KILL"]), 0]


# What is refused.


async def test_without_the_isolator(launch: Launch) -> None:
    with pytest.raises(ContainerError, match="asks for a seccomp profile; enable the isolator linux/seccomp"):
        await launch("true", isolation=WITHOUT, linux_info=using("default.json"))
    assert await launch.output(STATUS % "self", isolation=WITHOUT, linux_info=UNCONFINED) == "0"


@pytest.mark.parametrize(
    ("seccomp", "text"),
    [
        (SeccompInfo("all.json", unconfined=True), "asks for the seccomp profile 'all.json', and to be unconfined"),
        (SeccompInfo(), "asks for a seccomp profile, but names none"),
        (SeccompInfo("missing.json"), "missing.json' cannot be read: No such file or directory"),
        (SeccompInfo("../profiles/all.json"), "'../profiles/all.json' is no name of a seccomp profile"),
        (SeccompInfo("/etc/passwd"), "'/etc/passwd' is no name of a seccomp profile"),
        (SeccompInfo(""), "'' is no name of a seccomp profile"),
        (SeccompInfo("."), "'.' is no name of a seccomp profile"),
        (SeccompInfo("broken.json"), "its seccomp profile cannot be used: this is no seccomp profile"),
    ],
)
async def test_bad_wishes(configured: Configured, run_directory: Path, seccomp: SeccompInfo, text: str) -> None:
    launch = configured()
    (run_directory / "profiles/broken.json").write_text("{")
    with pytest.raises(ContainerError) as caught:
        await launch("true", linux_info=LinuxInfo(seccomp=seccomp))
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [None, "{", '{"defaultAction": "SCMP_ACT_NONSENSE", "archMap": [], "syscalls": []}']
)
def test_a_bad_default_profile(flags: Flags, run_directory: Path, content: str | None) -> None:
    if content is not None:
        (run_directory / "bad.json").write_text(content)
    given = replace(flags, isolation=WITH, seccomp_config_dir=run_directory, seccomp_profile_name="bad.json")
    with pytest.raises(FlagError, match="--seccomp_profile_name: "):
        select(given, "linux")


def test_without_a_directory_there_are_the_shipped_profiles(flags: Flags) -> None:
    select(replace(flags, isolation=WITH, seccomp_profile_name=profile.DEFAULT), "linux")
    with pytest.raises(FlagError, match="cannot be read: No such file"):
        LinuxSeccompIsolator.create(replace(flags, seccomp_profile_name="missing.json"))


# The shipped profile.

MODEST = LinuxInfo(seccomp=SeccompInfo(profile.DEFAULT), bounding_capabilities=("CHOWN", "SETUID", "SETGID"))


@pytest.mark.parametrize(
    "command",
    [
        "ls -lR /usr/bin > /dev/null; sleep 0.01; date; id; env; ps ax; tar c /etc/hosts 2> /dev/null | tar t",
        "apt-get --version; apt-cache policy > /dev/null; dpkg -l > /dev/null",
        "python3 -c 'import asyncio, ssl, subprocess, threading, multiprocessing as m, sqlite3, socket; "
        'subprocess.run(["true"], check=True); asyncio.run(asyncio.sleep(0)); threading.Thread(target=print).start(); '
        "p = m.Process(target=print); p.start(); p.join(); assert p.exitcode == 0; m.Pool(1).map(abs, [1])'",
        "perl -e 'print 1' && bash -c 'coproc cat; kill %1' && su nobody -s /bin/true",
    ],
)
async def test_ordinary_programs_run(launch: Launch, command: str) -> None:
    output = await launch.output(f"set -e; {command}", isolation=BOTH, linux_info=MODEST)
    assert output


@pytest.mark.parametrize(
    ("name", "arguments", "code"),
    [
        ("mount", (), 1),
        ("unshare", (0x10000000,), 1),
        ("clone3", (0, 0), 38),
        ("keyctl", (0, 0), 1),
        ("bpf", (0, 0, 0), 1),
        ("perf_event_open", (0, 0, 0, 0, 0), 1),
        ("io_uring_setup", (1, 0), 38),
        ("userfaultfd", (0,), 1),
        ("open_by_handle_at", (0, 0, 0), 1),
        ("init_module", (0, 0, 0), 1),
        ("kexec_load", (0, 0, 0, 0), 1),
        ("reboot", (0, 0, 0, 0), 1),
        ("setns", (0, 0), 1),
        ("personality", (0x40000,), 38),
        ("socket", (40, 1, 0), 38),
    ],
)
async def test_dangerous_calls_are_refused(launch: Launch, name: str, arguments: tuple[int, ...], code: int) -> None:
    number = libseccomp.system_call(name)
    assert number is not None
    words = [str(word) for word in (number, *arguments)]
    output = await launch.output([*PYTHON, CALL, *words], isolation=BOTH, linux_info=MODEST)
    assert output == f"-1 {code}"


async def test_it_says_of_itself_that_it_filters(launch: Launch) -> None:
    """With all capabilities, what they are for is allowed: the control of the calls that are refused."""
    info = replace(MODEST, bounding_capabilities=None)
    mount = "unshare -m mount -t tmpfs none /mnt && echo yes"
    assert await launch.output(mount, isolation=BOTH, linux_info=info) == "yes"
    container = await launch(mount, isolation=BOTH, linux_info=MODEST)
    assert await container.wait() != 0


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="that gate is of x86-64")
class TestOtherArchitectures:
    """The same numbers mean other calls there."""

    MOUNT, GETPID, UNSHARE = 21, 20, 310

    async def call(self, launch: Launch, info: LinuxInfo, number: int, argument: int = 0) -> tuple[int | None, str]:
        command = [*PYTHON, OLD_GATE, str(number), str(argument)]
        container = await launch(command, isolation=BOTH, linux_info=info)
        status = await container.wait()
        return status, container.stream().strip()

    async def test_32_bit_calls_are_filtered(self, launch: Launch) -> None:
        status, pid = await self.call(launch, MODEST, self.GETPID)
        if status == 128 + signal.SIGSEGV:
            pytest.skip("this kernel has no calls for 32-bit programs")
        assert (status, pid) == (0, "2"), "which is allowed"
        assert await self.call(launch, MODEST, self.MOUNT) == (0, "-1")
        assert await self.call(launch, MODEST, self.UNSHARE, 0x10000000) == (0, "-1")
        assert await self.call(launch, UNCONFINED, self.UNSHARE, 0x10000000) == (0, "0"), "the control"

    async def test_x32_calls_are_filtered(self, launch: Launch) -> None:
        number = 0x40000000 | 272  # unshare
        output = await launch.output([*PYTHON, CALL, str(number), str(0x10000000)], isolation=BOTH, linux_info=MODEST)
        assert output in ("-1 1", "-1 38")

    async def test_without_a_map_they_kill(self, configured: Configured) -> None:
        launch = configured(BOTH)
        info = replace(using("all.json"), bounding_capabilities=("CHOWN",))
        status, _ = await self.call(launch, info, self.GETPID)
        assert status in (128 + signal.SIGSYS, 128 + signal.SIGSEGV)


async def test_the_init_is_filtered_too(launch: Launch) -> None:
    """And by more: who could trace it has a process that can do next to nothing."""
    assert await launch.output(STATUS % 1, isolation=BOTH, linux_info=MODEST) == "2"
    container = await launch.sleeping(isolation=BOTH, linux_info=MODEST)
    pid = await container.pid()
    assert (await container.destroy()) is not None
    assert not Path(f"/proc/{pid}").exists()


async def test_the_posix_launcher(launch: Launch) -> None:
    """Whose init writes the exit status to a file itself, with what its filter leaves it."""
    launch.containerizer("linux/seccomp,linux/capabilities,linux/nnp,posix/rlimits", launcher="posix")
    info = replace(MODEST, bounding_capabilities=())
    container = await launch(
        f"{STATUS % 'self'}; exit 3", linux_info=info, user="nobody", rlimits=(RLimit("CORE", 0, 0),)
    )
    assert await container.wait() == 3
    assert container.stream() == "2\n"
