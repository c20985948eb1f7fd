"""Built-in programs: forked from a warm process, and no more than what would have been executed in their place."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest

from mesocosm.container import CommandInfo, LinuxInfo, RLimit, SeccompInfo
from mesocosm.errors import ContainerError
from mesocosm.launcher import spawn
from mesocosm.linux.capabilities import set_of
from tests.executor_agent import ExecutorAgent
from tests.launching import LINUX, Launch, Started

pytestmark = pytest.mark.kernel
CONFINED = f"{LINUX},linux/capabilities,linux/nnp,posix/rlimits"


async def program_of(started: Started) -> int:
    """The pid of the program: the only child of the container's init, until it starts something."""
    init = await started.pid()
    (pid,) = Path(f"/proc/{init}/task/{init}/children").read_text().split()
    return int(pid)


def status_of(pid: int) -> Mapping[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


async def test_it_has_nothing_of_the_host(executor_agent: ExecutorAgent) -> None:
    """Its streams, what it opened itself, and an interpreter that is in memory alone and cannot be changed."""
    executor = await executor_agent.executor(environment={"OWN": "x"})
    await executor_agent.subscribed()
    pid = await program_of(executor)
    process = Path(f"/proc/{pid}")
    names = {str(link.readlink()) for link in (process / "fd").iterdir()}
    kinds = {name.partition(":")[0] for name in names if not name.startswith(str(executor.sandbox))}
    assert kinds <= {"socket", "anon_inode", "/dev/null"}
    assert str((process / "exe").readlink()).startswith("/memfd:mesocosm-launcher")
    with pytest.raises(OSError, match="busy"), (process / "exe").open("r+b"):
        pass
    assert (process / "cmdline").read_text().startswith("command-executor")
    assert (process / "environ").read_bytes() == b""
    await executor_agent.send("SHUTDOWN")
    assert await executor.wait() == 0


@pytest.mark.parametrize("user", ["root", "app", None])
async def test_it_gives_up_what_an_exec_would_take(executor_agent: ExecutorAgent, rootfs: Path, user: str) -> None:
    """The control is the command that it starts in turn, which has been executed, and is the same."""
    executor_agent.launch.containerizer(CONFINED)
    config = {
        "user": user,
        "rootfs": rootfs,
        "rlimits": (RLimit("CORE", 0, 0),),
        "linux_info": LinuxInfo(
            effective_capabilities=("NET_RAW", "KILL"), bounding_capabilities=("NET_RAW", "KILL", "CHOWN")
        ),
    }
    config = {"rootfs": rootfs} if user is None else config
    executor = await executor_agent.run("read -r end", executor={**config, "talks": True})
    pid = await program_of(executor)
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    program, command = status_of(pid), status_of(int(child))
    for name in ("Uid", "Gid", "Groups", "NoNewPrivs", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert program[name] == command[name], name
    if user == "app":
        assert program["Uid"].split() == ["1000"] * 4
        assert program["Groups"].split() == ["1000", "2001", "2002"]
        assert int(program["CapPrm"], 16) == set_of(("NET_RAW", "KILL"))
    if user is not None:
        assert program["NoNewPrivs"] == "1"
        assert "Max core file size        0                    0" in Path(f"/proc/{pid}/limits").read_text()
    executor.close()
    assert await executor.wait() == 0


@pytest.mark.parametrize("user", ["root", "app"])
async def test_it_works_with_a_filter_of_system_calls(executor_agent: ExecutorAgent, rootfs: Path, user: str) -> None:
    """Which takes CAP_SYS_ADMIN to set, without no_new_privs; the program keeps none of it."""
    executor_agent.launch.containerizer(f"{LINUX},linux/seccomp")
    info = LinuxInfo(seccomp=SeccompInfo("default.json"))
    config = {"rootfs": rootfs, "user": user, "linux_info": info, "talks": True}
    executor = await executor_agent.run("read -r end; exit 3", executor=config)
    status = status_of(await program_of(executor))
    assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "0")
    if user == "app":
        assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
    executor.close()
    assert (await executor_agent.end())["message"] == "Command exited with status 3"
    assert await executor.wait() == 0


async def test_a_user_without_capabilities_has_none(executor_agent: ExecutorAgent) -> None:
    executor = await executor_agent.executor(user="nobody")
    await executor_agent.subscribed()
    status = status_of(await program_of(executor))
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
    assert status["Uid"].split() == ["65534"] * 4
    await executor_agent.send("SHUTDOWN")
    assert await executor.wait() == 0


async def test_its_task_cannot_look_into_it(executor_agent: ExecutorAgent) -> None:
    """Not even as the same user, who may look into everything else of his: its token is there."""
    script = """
    look() { for file in environ fd; do test -r /proc/$1/$file && echo $2 $file; done; }
    look $$ own; look $PPID executor; ls -d /proc/$PPID
    """
    executor = await executor_agent.run(script, executor={"user": "nobody"})
    await executor_agent.end()
    assert await executor.wait() == 0
    own, descriptors, visible = executor.stream().splitlines()
    assert (own, descriptors) == ("own environ", "own fd")
    assert visible.startswith("/proc/")


async def test_signals_are_as_in_the_beginning(executor_agent: ExecutorAgent) -> None:
    executor = await executor_agent.run("read -r end", executor={"talks": True})
    pid = await program_of(executor)
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    known = sum(1 << number - 1 for number in signal.valid_signals())  # Of 32 and 33 the C library disposes.
    assert int(status_of(pid)["SigIgn"], 16) & known == 1 << signal.SIGPIPE - 1  # Of which Python makes an error.
    assert int(status_of(int(child))["SigIgn"], 16) & known == 0
    assert {status_of(each)["SigBlk"] for each in (pid, int(child))} == {"0" * 16}
    executor.close()
    assert await executor.wait() == 0


async def test_nothing_is_imported_where_it_runs(
    executor_agent: ExecutorAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be no file to import from, or one of somebody else's."""
    bootstrap = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from mesocosm.launcher import execution, programs, server\n"
        "import os; programs.load(); before = set(sys.modules); leave = os._exit\n"
        "def tell(status):\n"
        "    os.write(2, ('modules: %s\\n' % sorted(set(sys.modules) - before)).encode())\n"
        "    leave(status)\n"
        "os._exit = tell\n"
        "server.main()"
    )
    monkeypatch.setattr(spawn, "_BOOTSTRAP", bootstrap)
    executor_agent.acknowledges = False  # With nothing left to be told, it would end before it subscribes again.
    executor = await executor_agent.run("exit 1")
    await executor_agent.stop()
    executor_agent.acknowledges = True
    await executor_agent.start()
    subscribe = await executor_agent.subscribed()
    for update in subscribe["unacknowledged_updates"]:
        await executor_agent.acknowledge(update["status"])
    assert await executor.wait() == 0
    assert executor.stream("stderr").splitlines()[-1] == "modules: []"


async def test_plain_containers_do_not_pay(launch: Launch) -> None:
    containerizer = launch.containerizer()
    assert await launch.output("echo plain") == "plain"
    assert containerizer._process._programs is not None
    assert containerizer._process._programs.pid is None


async def test_their_launcher_is_killed(executor_agent: ExecutorAgent) -> None:
    """What runs goes on, and the next comes from another."""
    first = await executor_agent.run("read -r end", executor={"talks": True})
    programs = first.containerizer._process._programs
    assert programs is not None
    assert programs.pid is not None
    killed = programs.pid
    os.kill(killed, signal.SIGKILL)
    first.close()
    assert (await executor_agent.end())["state"] == "TASK_FAILED"  # `read` at the end of its input.
    assert await first.wait() == 0
    second = await executor_agent.run("exit 0")
    await executor_agent.update("TASK_FINISHED")
    assert await second.wait() == 0
    assert programs.pid not in (killed, None)


async def test_there_are_only_some(launch: Launch) -> None:
    with pytest.raises(ContainerError, match="no built-in program 'sh'; there are command-executor"):
        await launch(CommandInfo(program="sh"))
    with pytest.raises(ContainerError, match="has no command"):
        await launch(CommandInfo())


async def test_the_posix_launcher_has_them_too(executor_agent: ExecutorAgent) -> None:
    executor_agent.launch.containerizer("posix/cpu", launcher="posix")
    executor = await executor_agent.run("(setsid sleep 60 &); exit 3")
    assert (await executor_agent.end())["message"] == "Command exited with status 3"
    assert await executor.wait() == 0
