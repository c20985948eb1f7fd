"""The sandbox, the user and the environment of a command: what it is given, and nothing of its launcher's."""

from __future__ import annotations

import os
import platform
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesocosm.container import ContainerID
from mesocosm.errors import ContainerError, MesocosmError
from tests.launching import LINUX, Launch, Started
from tests.rootfs import APP

pytestmark = pytest.mark.kernel
POSIX = "filesystem/posix"
KEYCTL = {"x86_64": 250, "aarch64": 219}
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@pytest.fixture(params=[POSIX, LINUX])
def isolation(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[0o077, 0o000])
def odd_umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


async def environment(container: Started) -> dict[str, str]:
    assert await container.wait() == 0
    return dict(line.split("=", 1) for line in container.stream().splitlines())


async def test_modes_and_owners(launch: Launch, isolation: str) -> None:
    container = await launch("echo out; echo err >&2; touch made", isolation=isolation)
    assert await container.wait() == 0
    assert container.stream("stdout") == "out\n"
    assert container.stream("stderr") == "err\n"
    assert container.sandbox == launch.flags.work_dir / "containers" / "c1"
    assert mode(container.sandbox) == 0o750
    assert [mode(container.sandbox / name) for name in ("stdout", "stderr", "made")] == [0o644] * 3
    assert mode(container.sandbox.parent) == 0o755
    assert container.sandbox.stat().st_uid == 0


async def test_modes_do_not_depend_on_the_umask(launch: Launch, odd_umask: None, isolation: str) -> None:
    container = await launch("touch made; umask", isolation=isolation)
    assert await container.wait() == 0
    assert container.stream().strip() == "0022"
    assert mode(container.sandbox) == 0o750
    assert [mode(container.sandbox / name) for name in ("stdout", "stderr", "made")] == [0o644] * 3
    assert [mode(directory) for directory in (container.sandbox.parent, launch.flags.work_dir)] == [0o755] * 2
    runtime = launch.flags.runtime_dir
    assert [mode(runtime / name) for name in (".", "containers", "containers/c1")] == [0o755] * 3
    assert mode(runtime / "containers/c1/config") == 0o600


async def test_a_nested_sandbox_is_in_its_parents(launch: Launch) -> None:
    parent = await launch.sleeping()
    child = await launch("pwd; echo $MESOS_SANDBOX", parent=parent, name="kid")
    assert await child.wait() == 0
    assert child.sandbox == parent.sandbox / "containers" / "kid"
    assert child.stream() == f"{child.sandbox}\n" * 2
    assert mode(child.sandbox) == 0o750
    assert mode(parent.sandbox / "containers") == 0o755


async def test_environment_is_exactly_what_was_asked_for(launch: Launch, isolation: str) -> None:
    container = await launch(["env"], isolation=isolation, environment={"A": "1", "EMPTY": ""})
    expected = {"PATH": PATH, "MESOS_SANDBOX": str(container.sandbox), "A": "1", "EMPTY": ""}
    assert await environment(container) == expected


async def test_the_shell_adds_its_directory(launch: Launch, isolation: str) -> None:
    container = await launch("env", isolation=isolation)
    expected = {"PATH": PATH, "MESOS_SANDBOX": str(container.sandbox), "PWD": str(container.sandbox)}
    assert await environment(container) == expected


async def test_environment_with_a_root_filesystem(launch: Launch, rootfs: Path) -> None:
    container = await launch(["env"], rootfs=rootfs)
    assert await environment(container) == {"PATH": PATH, "MESOS_SANDBOX": "/mnt/mesos/sandbox"}


async def test_environment_is_text(launch: Launch, isolation: str) -> None:
    with pytest.raises(ContainerError, match="UTF-8"):
        await launch(["env"], isolation=isolation, environment={"RAW": os.fsdecode(b"\xff\xfe")})
    assert await launch.output(["env"], isolation=isolation, environment={"A": "\u00e4\u4e2d"})


@pytest.mark.parametrize("environment", [{"A=B": "1"}, {"": "1"}, {"A": "x\0y"}, {"A\0": "x"}])
async def test_environment_that_cannot_be(launch: Launch, environment: dict[str, str]) -> None:
    with pytest.raises(ContainerError):
        await launch(["env"], environment=environment)


async def test_no_descriptor_is_carried_over(launch: Launch, isolation: str) -> None:
    with open(os.devnull) as inherited:  # noqa: ASYNC230
        os.set_inheritable(inherited.fileno(), True)
        names = await launch.output(["ls", "-l", "/proc/self/fd"], isolation=isolation)
    links = [line.split(" -> ")[1] for line in names.splitlines() if " -> " in line]
    sandbox = launch.sandbox(ContainerID("c1"))
    assert links[:3] == [os.devnull, str(sandbox / "stdout"), str(sandbox / "stderr")]
    assert len(links) == 4, "the fourth is the directory that ls reads"


async def test_signals_and_privileges_are_fresh(launch: Launch, isolation: str) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    before = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        status = await launch.output(["cat", "/proc/self/status"], isolation=isolation)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
        signal.signal(signal.SIGUSR2, before)
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    none = "0" * 16
    assert [fields[name] for name in ("SigBlk", "CapInh", "CapAmb")] == [none] * 3
    # posix_spawn(3) of glibc leaves its own two signals, 32 and 33, ignored; no program gets them from elsewhere.
    assert int(fields["SigIgn"], 16) & ~(3 << 31) == 0
    assert fields["Umask"] == "0022"
    assert fields["Groups"].strip() == ""
    assert fields["NoNewPrivs"] == "0"
    assert fields["TracerPid"] == "0"


async def test_resource_limits_and_priority_are_the_hosts(launch: Launch, isolation: str) -> None:
    limits = await launch.output(["cat", "/proc/self/limits"], isolation=isolation)
    assert limits == Path("/proc/self/limits").read_text().rstrip("\n")


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("app", (APP[0], APP[1], {APP[1], *APP[2]})),
        ("1000", (APP[0], APP[1], {APP[1], *APP[2]})),
        ("1000:7", (1000, 7, {7})),
        ("4321", (4321, 0, {0})),
        ("4321:9", (4321, 9, {9})),
        (None, (0, 0, {0})),
    ],
)
async def test_user_of_a_root_filesystem(
    launch: Launch, rootfs: Path, user: str | None, expected: tuple[int, int, set[int]]
) -> None:
    container = await launch("id -u; id -g; id -G; touch mine", rootfs=rootfs, user=user)
    assert await container.wait() == 0, container.stream("stderr")
    uid, gid, groups = container.stream().splitlines()
    assert (int(uid), int(gid), set(map(int, groups.split()))) == expected
    owners = {(path.stat().st_uid, path.stat().st_gid) for path in (container.sandbox, container.sandbox / "stdout")}
    assert owners == {expected[:2]}
    assert (container.sandbox / "mine").stat().st_uid == expected[0]


async def test_user_of_the_host(launch: Launch, isolation: str) -> None:
    expected = (await launch.output(["id", "nobody"], isolation=isolation)).split()
    found = (await launch.output(["id"], isolation=isolation, user="nobody")).split()
    assert found == expected


async def test_a_host_user_that_the_root_filesystem_lacks(launch: Launch, rootfs: Path) -> None:
    assert await launch.output("id -u", rootfs=rootfs, user="daemon") == "1"


async def test_the_command_has_no_way_back_to_root(launch: Launch, rootfs: Path) -> None:
    status = await launch.output(["cat", "/proc/self/status"], rootfs=rootfs, user="app")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split() == ["1000"] * 4
    assert fields["Gid"].split() == ["1000"] * 4
    assert [int(fields[name], 16) for name in ("CapPrm", "CapEff", "CapAmb")] == [0] * 3


@pytest.mark.parametrize("user", ["nobody-of-that-name", "", ":", "-1", "4294967295", "1:4294967295", "a:b", "a\0"])
async def test_users_there_are_not(launch: Launch, rootfs: Path, user: str) -> None:
    with pytest.raises(ContainerError, match="user"):
        await launch(["true"], rootfs=rootfs, user=user)
    assert not launch.sandbox(ContainerID("c1")).exists()


async def test_working_directory(launch: Launch, rootfs: Path, isolation: str) -> None:
    assert await launch.output("pwd", isolation=isolation, working_directory="/usr") == "/usr"
    if isolation == LINUX:
        assert await launch.output("pwd", rootfs=rootfs, working_directory="/etc") == "/etc"


async def test_a_relative_working_directory_is_in_the_sandbox(
    launch: Launch, monkeypatch: pytest.MonkeyPatch, isolation: str
) -> None:
    monkeypatch.chdir("/usr")
    container = await launch("pwd", isolation=isolation, working_directory=".")
    assert await container.wait() == 0
    assert container.stream().strip() == str(container.sandbox)


async def test_a_working_directory_that_is_not_there(launch: Launch, isolation: str) -> None:
    with pytest.raises(ContainerError, match=r"directory /no/such") as caught:
        await launch("pwd", isolation=isolation, working_directory="/no/such")
    assert isinstance(caught.value.__cause__, FileNotFoundError)


@pytest.mark.parametrize("field", ["working_directory", "user"])
async def test_a_nul_character_is_refused(launch: Launch, field: str) -> None:
    with pytest.raises(MesocosmError, match=r"NUL|user"):
        await launch("pwd", **{field: "/usr\0/bin"})


async def test_the_session_keyring_is_new(launch: Launch, isolation: str) -> None:
    if platform.machine() not in KEYCTL:
        pytest.skip("the number of keyctl(2) on this machine is not known here")
    script = f"import ctypes; print(ctypes.CDLL(None).syscall({KEYCTL[platform.machine()]}, 0, -3, 0))"
    own = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)  # noqa: ASYNC221
    found = [await launch.output([sys.executable, "-I", "-S", "-c", script], isolation=isolation) for _ in range(2)]
    assert len({own.stdout.strip(), *found}) == 3, "KEYCTL_GET_KEYRING_ID of KEY_SPEC_SESSION_KEYRING"


async def test_output_is_appended_not_overwritten(launch: Launch, run_directory: Path) -> None:
    sandbox = run_directory / "sandbox"
    for word in ("one", "two"):
        container = await launch(f"echo {word}", directory=sandbox)
        assert await container.wait() == 0
    assert (sandbox / "stdout").read_text() == "one\ntwo\n"


@pytest.mark.parametrize("name", ["stdout", "stderr"])
async def test_output_does_not_follow_a_link(launch: Launch, run_directory: Path, name: str) -> None:
    sandbox, victim = run_directory / "sandbox", run_directory / "victim"
    sandbox.mkdir()
    (sandbox / name).symlink_to(victim)
    with pytest.raises((ContainerError, OSError), match=name):
        await launch("echo written", directory=sandbox)
    assert not victim.exists()


async def test_output_does_not_wait_for_a_fifo(launch: Launch, run_directory: Path) -> None:
    sandbox = run_directory / "sandbox"
    sandbox.mkdir()
    os.mkfifo(sandbox / "stdout")
    with pytest.raises((ContainerError, OSError), match="stdout"):
        await launch("echo written", directory=sandbox)


async def test_standard_streams_are_those_that_are_given(launch: Launch, isolation: str) -> None:
    container = await launch.talking("read -r line; echo got $line; echo err >&2", isolation=isolation)
    container.say("it")
    assert await container.line() == "got it"
    assert await container.wait() == 0
    assert await container.line() == ""
    assert not (container.sandbox / "stdout").exists()
    assert container.stream("stderr") == "err\n"


async def test_the_output_ends_when_the_command_closes_it(launch: Launch, isolation: str) -> None:
    container = await launch.talking("exec >&-; read -r end", isolation=isolation)
    assert await container.line() == "", "nobody else holds the pipe open"
    container.say("end")
    assert await container.wait() == 0


async def test_the_sandbox_of_a_failed_launch_is_gone(launch: Launch, isolation: str) -> None:
    with pytest.raises(ContainerError):
        await launch(["/no/such/command"], isolation=isolation)
    assert not launch.sandbox(ContainerID("c1")).exists()


@pytest.mark.parametrize("user", ["0:0", "1000:1000"])
def test_inheritable_capabilities_of_the_caller_end_with_him(user: str) -> None:
    """CAP_NET_RAW, as the caller has it, would stay in the effective set of a user's command."""
    caller = ["setpriv", "--inh-caps=+net_raw", "--ambient-caps=+net_raw"]
    command = ["grep", "-E", "CapInh|CapAmb", "/proc/self/status"]
    run = [sys.executable, "-m", "mesocosm", "run", "--user", user, "--", *command]
    inherited, own = (
        subprocess.run([*caller, *argv], check=True, capture_output=True, text=True).stdout.split()
        for argv in (command, run)
    )
    assert inherited == ["CapInh:", "0000000000002000", "CapAmb:", "0000000000002000"]
    assert own == ["CapInh:", "0000000000000000", "CapAmb:", "0000000000000000"]
