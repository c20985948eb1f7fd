"""Terminals of containers that are no sessions, and inputs that are kept: both outlive the agent."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mesocosm.container import CommandInfo, ContainerClass, ContainerConfig, ContainerID, TTYInfo
from mesocosm.containerizer.mesos import MesosContainerizer
from mesocosm.errors import ContainerError
from mesocosm.flags import Flags
from mesocosm.switchboard.switchboard import Switchboard
from tests.agent_process import AgentProcess, Answer, identity
from tests.command_line import TIMEOUT
from tests.launching import LINUX, Launch
from tests.machine import await_end
from tests.talking import typing

pytestmark = pytest.mark.kernel

TERMINAL = {"type": "MESOS", "tty_info": {"window_size": {"rows": 30, "columns": 100}}}
NAME = identity("c")


def keepers(agent: AgentProcess, name: str = "c") -> list[int]:
    """The processes outside of the container that have its log open."""
    log, found = str(agent.sandbox(name) / "stdout"), []
    for process in Path("/proc").iterdir():
        try:
            if not process.name.isdecimal() or not (process / "cmdline").read_bytes().startswith(b"keeper"):
                continue
            if any(str(link.readlink()) == log for link in (process / "fd").iterdir()):
                found.append(int(process.name))
        except FileNotFoundError:  # It has just ended.
            continue
    return found


def logged(agent: AgentProcess, text: bytes) -> bytes:
    """The log of the container, as soon as `text` is in it."""
    deadline = time.monotonic() + TIMEOUT
    while text not in (seen := (agent.sandbox("c") / "stdout").read_bytes()):
        assert time.monotonic() < deadline, f"no {text!r} in {seen!r}"
        time.sleep(0.01)  # Of what is written to a file there is no event that is worth its code here.
    return seen


def launch(agent: AgentProcess, command: str) -> None:
    answer = agent.launch("c", command, container=TERMINAL)
    assert answer.status == 200, answer.text


@pytest.fixture
def agent(agent: AgentProcess) -> AgentProcess:
    agent.start()
    return agent


def test_it_is_one_and_is_logged(agent: AgentProcess) -> None:
    launch(agent, "tty; stty size; read -r line; stty size; echo got $line >&2; exit 5")
    logged(agent, b"30 100\r\n")
    with typing(agent, NAME) as keyboard:
        keyboard.resize(50, 132)
        keyboard.say(b"it\n")
        assert keyboard.answer().status == 200, "the container has ended"
    assert agent.wait_for("c")["exit_status"] == 5 << 8
    assert b"50 132\r\ngot it\r\n" in logged(agent, b"")
    assert (agent.sandbox("c") / "stderr").read_bytes() == b"", "a terminal is one stream"


def test_all_that_it_says_is_logged_before_the_end_is_told(agent: AgentProcess) -> None:
    launch(agent, "stty -opost; head -c 1000000 /dev/zero")
    assert agent.wait_for("c")["exit_status"] == 0
    assert (agent.sandbox("c") / "stdout").stat().st_size == 1_000_000
    assert keepers(agent) == []


def test_it_outlives_the_agent(agent: AgentProcess) -> None:
    """Also what is said while there is none is logged."""
    launch(agent, "while read -r line; do echo got $line; done; exit 7")
    before = keepers(agent)
    with typing(agent, NAME) as keyboard:
        keyboard.say(b"one\n")
        logged(agent, b"got one")
        agent.stop(signal.SIGKILL)
    agent.start()
    assert (agent.recovered, keepers(agent)) == (1, before)
    with typing(agent, NAME) as keyboard:
        keyboard.say(b"two\n")
        logged(agent, b"got two")
        keyboard.say(b"\x04")
        assert keyboard.answer().status == 200
    assert agent.wait_for("c")["exit_status"] == 7 << 8
    (keeper,) = before
    await_end(keeper, time.monotonic() + TIMEOUT, zombie=True)


def test_one_that_ended_while_there_was_no_agent(agent: AgentProcess) -> None:
    launch(agent, "echo up; until [ -e go ]; do sleep 0.05; done; echo bye; exit 3")
    logged(agent, b"up")
    agent.stop(signal.SIGKILL)
    (agent.sandbox("c") / "go").touch()
    logged(agent, b"bye\r\n")
    agent.start()
    assert agent.wait_for("c")["exit_status"] == 3 << 8
    assert keepers(agent) == []


@pytest.mark.parametrize("restarted", [False, True])
def test_a_container_ends_with_its_keeper(agent: AgentProcess, restarted: bool) -> None:
    launch(agent, "trap '' HUP; echo up; while :; do sleep 1000; done")
    logged(agent, b"up")
    if restarted:
        agent.stop(signal.SIGKILL)
        agent.start()
    (keeper,) = keepers(agent)
    os.kill(keeper, signal.SIGKILL)
    end = agent.wait_for("c")
    assert (end["exit_status"], end["reason"]) == (signal.SIGKILL, "REASON_IO_SWITCHBOARD_EXITED")


def test_one_whose_keeper_went_while_there_was_no_agent(agent: AgentProcess) -> None:
    launch(agent, "trap '' HUP; echo up; while :; do sleep 1000; done")
    logged(agent, b"up")
    agent.stop(signal.SIGKILL)
    (keeper,) = keepers(agent)
    os.kill(keeper, signal.SIGKILL)
    await_end(keeper, time.monotonic() + TIMEOUT, zombie=True)
    agent.start()
    assert agent.wait_for("c")["reason"] == "REASON_IO_SWITCHBOARD_EXITED"


def test_what_has_no_terminal_for_a_while_costs_nothing(agent: AgentProcess) -> None:
    """A master that no process has the other side of could be read for ever: of the keeper's time, nothing is used."""
    launch(agent, "t=$(tty); exec <&- >&- 2>&-; sleep 1; echo back > $t; exec < $t; read -r line")
    logged(agent, b"back")
    (keeper,) = keepers(agent)
    spent = Path(f"/proc/{keeper}/stat").read_text().rpartition(")")[2].split()[11:13]
    assert sum(map(int, spent)) < os.sysconf("SC_CLK_TCK") // 2
    with typing(agent, NAME) as keyboard:
        keyboard.say(b"it\n")
        assert keyboard.answer().status == 200


def test_an_input_without_a_terminal(agent: AgentProcess) -> None:
    """It outlives the agent as a terminal does, has an end, and leaves the output what it is."""
    answer = agent.launch("c", "while read -r line; do echo got $line; done; cat; exit 6", interactive=True)
    assert answer.status == 200, answer.text
    with typing(agent, NAME) as keyboard:
        keyboard.say(b"one\n")
        logged(agent, b"got one\n")
        agent.stop(signal.SIGKILL)
    agent.start()
    with typing(agent, NAME) as keyboard:
        keyboard.say(b"two\n")
        assert keyboard.finish().status == 200
    with typing(agent, NAME) as keyboard:
        keyboard.resize(1, 1)
        assert keyboard.answer().status == 400, "it has no size"
    with typing(agent, NAME) as keyboard:
        keyboard.say(b"three\n")
        keyboard.say(b"")
        assert keyboard.finish().status == 200
    assert agent.wait_for("c")["exit_status"] == 6 << 8
    assert logged(agent, b"") == b"got one\ngot two\ngot three\n"


def test_nobody_else_reaches_the_keeper(agent: AgentProcess) -> None:
    launch(agent, "read -r line")
    (keeper,) = keepers(agent)
    path = agent.flags.runtime_dir / "containers/c/keeper.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (Path(f"/proc/{keeper}/exe")).readlink().name.startswith("memfd:mesocosm-launcher")
    assert Path(f"/proc/{keeper}/environ").read_bytes() == b""
    assert agent.call("KILL_CONTAINER", container_id=NAME).status == 200
    assert agent.wait_for("c")["exit_status"] == signal.SIGKILL
    assert not path.exists()


def test_a_container_cannot_move_its_log(agent: AgentProcess) -> None:
    """What it puts in the place of the file is not written to; the keeper has the file open, and no name."""
    target = agent.flags.work_dir.parent / "target"
    target.write_bytes(b"")
    launch(agent, f"rm stdout; ln -s {target} stdout; echo secret; read -r line; echo more")
    with typing(agent, NAME) as keyboard:
        keyboard.say(b"it\n")
        assert keyboard.answer().status == 200
    assert agent.wait_for("c")["exit_status"] == 0
    assert target.read_bytes() == b""


# What the containers of a containerizer can do, without an agent.


@pytest.mark.parametrize("trick", ["mkfifo /dev/ptmx", "echo no > /dev/ptmx", "ln -s /dev/zero /dev/ptmx", "true"])
async def test_a_parent_cannot_make_others_of_a_terminal(launch: Launch, rootfs: Path, trick: str) -> None:
    """A session finds no terminal in a container whose root has put something else there: it is refused, at once."""
    parent = await launch.talking(f"rm /dev/ptmx; {trick}; echo up; read -r end", rootfs=rootfs)
    assert await parent.line() == "up"
    with pytest.raises(ContainerError, match="open a terminal"):
        await launch("true", parent=parent, container_class=ContainerClass.DEBUG, tty_info=TTYInfo())


async def test_a_terminal_that_is_kept_can_be_attached_to(flags: Flags, rootfs: Path) -> None:
    """It is the console of a container that has a root file system, also for who attaches by the library."""
    kept, script = ContainerID("kept"), "tty; ls -l /dev/console; echo typed > /dev/console; read -r end"
    config = ContainerConfig(CommandInfo(script), rootfs=rootfs, tty_info=TTYInfo())
    async with MesosContainerizer(replace(flags, isolation=LINUX), switchboard=Switchboard()) as containerizer:
        await containerizer.launch(kept, config)
        terminal = await containerizer.attach(kept)
        os.write(terminal, b"\n")
        os.close(terminal)
        assert (await asyncio.wait_for(containerizer.wait(kept), TIMEOUT)).exit_status == 0
        log = (containerizer.sandbox(kept) / "stdout").read_bytes()
        assert all(text in log for text in (b"/dev/pts/0\r\n", b"crw--w----", b"typed\r\n")), log
        with pytest.raises(ContainerError, match="no terminal"):
            await containerizer.attach(kept)
        await containerizer.remove(kept)


def test_who_leaves_what_reads_nothing_makes_room(agent: AgentProcess) -> None:
    """Also where more is on its way than the agent takes: then it does not read that the connection has ended."""
    launch(agent, "stty raw -echo; echo up; exec sleep 1000")
    logged(agent, b"up")
    with typing(agent, NAME) as keyboard:
        for _ in range(16):  # More than the agent and the kernel keep between here and there.
            keyboard.say(bytes(1 << 16))
        keyboard.break_off()
    deadline = time.monotonic() + TIMEOUT
    while (answer := _typed_at_once(agent)).status == 409:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.05)
    assert answer.status == 200, answer.text


def _typed_at_once(agent: AgentProcess) -> Answer:
    """What who types nothing is answered."""
    with typing(agent, NAME) as keyboard:
        return keyboard.finish()
