"""Both launchers: what they need, what they inherit, and the posix one as a user who is not root."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mesocosm.container import LinuxInfo, RLimit, SeccompInfo, TTYInfo
from mesocosm.errors import ContainerError
from mesocosm.launcher import client, spawn
from mesocosm.launcher.info import Command, LaunchInfo
from mesocosm.linux.namespaces import Namespace
from mesocosm.linux.poll import readable
from tests.hanging import hanging_server
from tests.launching import LINUX, TIMEOUT, Launch
from tests.machine import await_end

pytestmark = pytest.mark.kernel
SOURCES = Path(client.__file__).parents[2]

PROGRAM = """
import asyncio, json, os, sys
from pathlib import Path
from mesocosm import MesosContainerizer
from mesocosm.container import CommandInfo, ContainerConfig, ContainerID
from mesocosm.flags import Flags

async def main(base):
    flags = Flags(work_dir=base / "work", runtime_dir=base / "run", isolation="posix/cpu,posix/mem")
    first = MesosContainerizer(flags)
    first.start()
    results = {"uid": os.geteuid(), "isolation": first.isolation}
    x, y = ContainerID("x"), ContainerID("y")
    await first.launch(x, ContainerConfig(CommandInfo("setsid sleep 60 & id -u; exit 3")))
    results["x"] = (await first.wait(x)).exit_status
    results["output"] = (base / "work/containers/x/stdout").read_text()
    await first.launch(y, ContainerConfig(CommandInfo("mkfifo go; read -r n < go; exit $n")))
    await first.close()
    second = MesosContainerizer(flags)
    second.start()
    await second.recover()
    fifo = base / "work/containers/y/go"
    while not fifo.exists():
        await asyncio.sleep(0.01)
    await asyncio.to_thread(fifo.write_text, "7\\n")
    results["y"] = (await second.wait(y)).exit_status
    for refused in ({"user": "root"}, {"rootfs": Path("/usr")}):
        try:
            await second.launch(ContainerID("z"), ContainerConfig(CommandInfo("true"), **refused))
        except Exception as error:
            results[next(iter(refused))] = str(error)
    await second.remove(x)
    await second.remove(y)
    await second.close()
    print(json.dumps(results))

asyncio.run(main(Path(sys.argv[1])))
"""


@pytest.mark.slow
async def test_a_user_who_is_not_root(run_directory: Path) -> None:
    """The capability lets the user read the interpreter, should that lie in a directory of root's; no more."""
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed (Debian: util-linux)")
    base = run_directory / "nobody"
    base.mkdir()
    os.chown(base, 65534, 65534)
    become = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=+dac_read_search"]
    command = [*become, "--ambient-caps=+dac_read_search", sys.executable, "-c", PROGRAM, str(base)]
    done = subprocess.run(  # noqa: ASYNC221 - nothing else happens here.
        command, check=False, capture_output=True, text=True, timeout=60, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert results["uid"] == 65534
    assert results["isolation"] == ["filesystem/posix", "environment_secret", "posix/cpu", "posix/mem"]
    assert (results["x"], results["y"], results["output"]) == (3, 7, "65534\n")
    assert "only root" in results["user"]
    assert "filesystem/linux" in results["rootfs"]


@pytest.mark.parametrize("launcher", ["linux", "posix"])
@pytest.mark.parametrize("isolation", ["", "filesystem/posix", "posix/cpu", "posix/cpu,posix/mem", "process"])
@pytest.mark.slow
async def test_any_isolators_work_with_both(launch: Launch, launcher: str, isolation: str) -> None:
    launch.containerizer(isolation, launcher=launcher)
    container = await launch("(setsid sleep 60 &) ; exit 3")
    assert await container.wait() == 3


@pytest.mark.parametrize("isolation", ["filesystem/linux", LINUX, f"{LINUX},cgroups/pids", "cgroups/all", "cgroups"])
async def test_isolators_of_the_linux_launcher(launch: Launch, isolation: str) -> None:
    container = await launch("(setsid sleep 60 &) ; exit 3", isolation=isolation)
    assert await container.wait() == 3


@pytest.mark.slow
async def test_nothing_is_imported_after_the_fork(
    launch: Launch, rootfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Just before the exec an init has the modules that the launcher had when it began to serve."""
    tell = (
        "before = set(sys.modules)\n"
        "def telling(real):\n"
        "    def call(*arguments, **options):\n"
        "        os.write(2, ('modules: %s\\n' % sorted(set(sys.modules) - before)).encode())\n"
        "        return real(*arguments, **options)\n"
        "    return call\n"
        "os.posix_spawn, os.execve = telling(os.posix_spawn), telling(os.execve)\n"
    )
    bootstrap = (
        f"import os, sys; sys.path.insert(0, sys.argv[1]); from mesocosm.launcher import server\n{tell}server.main()"
    )
    monkeypatch.setattr(spawn, "_BOOTSTRAP", bootstrap)
    launch.containerizer(f"{LINUX},linux/capabilities,linux/seccomp,posix/rlimits")
    confined = {
        "rlimits": (RLimit("CORE", 0, 0),),
        "linux_info": LinuxInfo(bounding_capabilities=("CHOWN",), seccomp=SeccompInfo("default.json")),
    }
    tty = {"rootfs": rootfs, "tty_info": TTYInfo()}  # Where a forked command would write to the terminal.
    for options in (
        {},
        {"rootfs": rootfs, "user": "app"},
        tty,
        confined,
        {"rootfs": rootfs, **confined, "user": "app"},
    ):
        for _ in range(2):  # The second may use an init that was cloned in advance.
            container = await launch(["/bin/true"], **options)
            assert await container.wait() == 0
            assert container.stream("stderr") == "modules: []\n"


@pytest.mark.slow
async def test_the_launcher_keeps_nothing_of_its_caller(launch: Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "of the caller")
    launch.containerizer()
    container = await launch.sleeping()
    launcher = launch.containerizer()._process.pid
    for pid in (launcher, await container.pid()):
        assert "SECRET" not in Path(f"/proc/{pid}/environ").read_text()
    numbers = {int(name) for name in os.listdir(f"/proc/{await container.pid()}/fd")}  # noqa: PTH208 - of /proc.
    assert numbers - {0, 1, 2} == {3, 4}, "the first three it closes when the command has them"
    assert os.getsid(launcher or 0) == launcher


async def test_one_init_is_cloned_in_advance_and_no_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even when a container ends while that is being cloned: the first would be forgotten, its pidfd left."""
    loop, after = asyncio.get_running_loop(), asyncio.Event()
    process = client.LauncherProcess()
    process._likely = LaunchInfo(clone_namespaces=Namespace.PID)
    monkeypatch.setattr(client, "_IDLE", 0.0)
    with process.busy():
        pass
    loop.call_later(0.001, after.set)
    await after.wait()
    after.clear()
    refill = process._refill
    assert refill is not None, "it takes longer than a moment"
    monkeypatch.setattr(client, "_IDLE", 0.5)
    with process.busy():
        pass
    timer = process._timer
    assert timer is not None
    loop.call_at(timer.when() + 0.001, after.set)
    await asyncio.wait([refill])
    spare = process._spare
    await after.wait()
    assert process._refill is None
    assert process._spare is spare is not None
    await process.close()


@pytest.mark.slow
async def test_a_command_may_use_every_cpu_of_its_caller(launch: Launch) -> None:
    """Also one whose init was woken on another: the second and the third have inits that were cloned in advance."""
    allowed = Path("/proc/self/status").read_text().split("Cpus_allowed:", 1)[1].split()[0]
    for _ in range(3):
        assert await launch.output("sed -n 's/^Cpus_allowed:[^0-9a-f]*//p' /proc/self/status") == allowed


@pytest.mark.slow
async def test_a_launcher_that_is_stopped_is_ended_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_PATIENCE", 0.2)
    process = client.LauncherProcess()
    process.start()
    pid = process.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    await process.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.slow
def test_a_root_that_may_not_switch_groups_can_have_a_launcher() -> None:
    """It rehearses what it may not do in earnest."""
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed (Debian: util-linux)")
    rehearse = "from mesocosm.launcher import execution; execution.rehearse()"
    command = ["setpriv", "--inh-caps=-setgid", "--bounding-set=-setgid", sys.executable, "-c", rehearse]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=TIMEOUT)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
async def test_an_init_goes_on_whose_containerizer_ends_before_the_command_runs(run_directory: Path) -> None:
    """It has nobody to tell that it runs, and records how it has ended all the same."""
    status_file = run_directory / "status"
    process = client.LauncherProcess()
    command = Command("/bin/sh", ("sh", "-c", "sleep 0.2; exit 3"))  # Long enough for a signal to come.
    child = await process.fork(LaunchInfo(command=command), status_file=status_file)
    os.kill(child.init.pid, signal.SIGSTOP)
    null = os.open(os.devnull, os.O_RDWR)
    child.channel.release([null, null, null], (), recoverable=False)
    child.channel.close()
    os.close(null)
    os.kill(child.init.pid, signal.SIGCONT)
    await asyncio.wait_for(child.init.exited(), TIMEOUT)
    child.init.close()
    await process.close()
    assert json.loads(status_file.read_text())["status"] == 3 << 8


async def test_without_its_init_the_session_is_killed(launch: Launch) -> None:
    """Of a container without isolation, whose init was killed while nobody watched."""
    launch.containerizer("filesystem/posix", launcher="posix")
    container = await launch.talking("echo $$; exec sleep 60")
    command, init = int(await container.line()), await container.pid()
    containerizer = await launch.successor(recover=False)
    os.kill(init, signal.SIGKILL)
    await_end(init, asyncio.get_running_loop().time() + TIMEOUT, zombie=True)
    pidfd = os.pidfd_open(command)
    await containerizer.recover()
    assert (await asyncio.wait_for(containerizer.wait(container.container_id), TIMEOUT)).status is None
    await asyncio.wait_for(readable(pidfd), TIMEOUT)
    os.close(pidfd)


@pytest.mark.parametrize("isolation", ["filesystem/linux", LINUX])
async def test_what_cannot_be_killed_is_not_waited_for_without_end(
    launch: Launch, run_directory: Path, isolation: str
) -> None:
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip("no /dev/fuse")
    launch.containerizer(isolation, cgroups_destroy_timeout=0.5)
    mounted = run_directory / "mounted"
    mounted.mkdir()
    with hanging_server(mounted) as server:
        container = await launch(f"exec stat {mounted}/file", isolation=isolation)
        hanging = await asyncio.to_thread(server.take)
        with pytest.raises(ContainerError, match=rf"killed, and not ended after 0.5 s, processes left:.*\b{hanging}\b"):
            await container.destroy()
        server.end()
        assert await container.destroy() is not None
