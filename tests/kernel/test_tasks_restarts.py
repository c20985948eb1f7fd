"""An agent that ends at a bad moment, and what the next one makes of tasks, groups, drains and operations."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mesocosm.agent.tasks import records
from mesocosm.agent.tasks.links import ActorLink
from mesocosm.agent.tasks.paths import Layout
from mesocosm.api import internal, v1
from mesocosm.flags import Flags
from tests.command_line import TIMEOUT
from tests.task_agent import (
    AGENT_ID,
    EXECUTOR,
    FRAMEWORK_ID,
    Master,
    command_task,
    executor_info,
    running_agent,
    task_info,
)
from tests.task_groups import EXECUTOR as DEFAULT
from tests.task_groups import run, task
from tests.volumes import reserved

pytestmark = pytest.mark.kernel

Status = v1.TaskStatus
OLDER = executor_info(script=f"exec {sys.executable} {Path(__file__).parents[1] / 'libprocess_executor.py'}")


def port_of(master: Master) -> int:
    return master.agent.tasks.registration.address.port


async def inits(master: Master) -> list[int]:
    found = []
    for container_id in await master.agent.containerizer.containers():
        pid = (await master.agent.containerizer.status(container_id)).executor_pid
        assert pid is not None
        found.append(pid)
    return found


async def kill(pid: int) -> None:
    """Returns when it has ended, too."""
    descriptor = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    assert await asyncio.to_thread(select.select, [descriptor], [], [], TIMEOUT) == ([descriptor], [], [])
    os.close(descriptor)


async def test_tasks_of_a_machine_that_was_booted(flags: Flags) -> None:
    """They have failed, each is told of once, and the agent is still the same one."""
    async with running_agent(flags, destroys=False) as before:
        before.run(command_task("a", "sleep 1000"), checkpoint=True)
        before.run(task_info("b"), checkpoint=True)
        for name in "ab":
            await before.update(name, v1.TASK_RUNNING)
        pids = await inits(before)
    for pid in pids:
        await kill(pid)
    (flags.work_dir / "meta/boot_id").write_text("another")
    async with running_agent(flags) as master:
        assert master.agent.has_booted
        assert master.agent.tasks.registration.agent_id == AGENT_ID
        for name in "ab":
            status = await master.update(name, v1.TASK_FAILED)
            assert status.source == Status.SOURCE_AGENT
        await master.gone()
        assert not await master.agent.containerizer.containers()
    async with running_agent(flags) as last:
        assert not last.agent.has_booted
        assert not last.said


@pytest.mark.parametrize("checkpoint", [True, False])
async def test_a_group_comes_back_if_its_framework_checkpoints(flags: Flags, checkpoint: bool) -> None:
    collecting = "--gc_non_executor_container_sandboxes"
    async with running_agent(flags, collecting, destroys=False) as before:
        run(before, [task("a"), task("b")], framework={"checkpoint": checkpoint})
        for name in "ab":
            await before.update(name, v1.TASK_RUNNING)
    async with running_agent(flags, collecting, port=port_of(before)) as master:
        if not checkpoint:
            assert not await master.agent.containerizer.containers()
            assert len(master.agent.tasks.frameworks) == 0
            return
        assert master.executor(DEFAULT).checkpoint
        master.kill("a")
        for name in "ab":
            await master.update(name, v1.TASK_KILLED)
        await master.gone()


async def test_several_frameworks_come_back(flags: Flags) -> None:
    """Their messages arrive, and one whose master wants it to end does."""
    async with running_agent(flags, destroys=False) as before:
        for name in "ab":
            before.run(task_info(name), identity=name, checkpoint=True)
            await before.update(name, v1.TASK_RUNNING)
    async with running_agent(flags, port=port_of(before)) as master:
        assert sorted(each.id.value for each in master.agent.tasks.reregistration().frameworks) == ["a", "b"]
        ids = {
            "slave_id": v1.AgentID(value=AGENT_ID),
            "framework_id": v1.FrameworkID(value="a"),
            "executor_id": v1.ExecutorID(value="shell"),
        }
        master.tell(internal.FrameworkToExecutorMessage(**ids, data=b"hello"))
        assert (await master.heard(internal.ExecutorToFrameworkMessage)).framework_id.value == "a"
        master.tell(internal.UpdateFrameworkMessage(framework_id=ids["framework_id"], pid="driver@127.0.0.1:1"))
        master.kill("a", "a")
        await master.update("a", v1.TASK_KILLED)
        master.tell(internal.ShutdownFrameworkMessage(framework_id=v1.FrameworkID(value="b")))
        await master.heard(internal.ExitedExecutorMessage, lambda each: each.framework_id.value == "b")


async def test_an_executor_that_had_not_come(flags: Flags, run_directory: Path) -> None:
    """When it does not come in time either, its task is gone."""
    os.mkfifo(up := run_directory / "up")
    async with running_agent(flags, destroys=False) as before:
        before.run(task_info("any", executor_info(script=f"echo > {up}; sleep 1000")), checkpoint=True)
        await asyncio.to_thread(up.read_text)
    async with running_agent(flags, "--executor_reregistration_timeout=0ns", port=port_of(before)) as master:
        status = await master.update("any", v1.TASK_GONE)
        assert status.reason == Status.REASON_EXECUTOR_REREGISTRATION_TIMEOUT
        await master.gone()


async def test_a_task_whose_container_was_about_to_be_launched(flags: Flags, monkeypatch: pytest.MonkeyPatch) -> None:
    reached, never = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        reached.set()
        await never.wait()

    async with running_agent(flags, destroys=False) as before:
        monkeypatch.setattr(before.agent.tasks.reservations, "settled", wait)
        before.run(command_task("any", "true"), checkpoint=True)
        await reached.wait()
    async with running_agent(flags) as master:
        status = await master.update("any", v1.TASK_FAILED)
        assert status.message == "Abnormal executor termination: unknown container"
        await master.gone()


@pytest.mark.parametrize("older", [False, True])
async def test_an_executor_whose_tasks_never_reached_it(
    flags: Flags, monkeypatch: pytest.MonkeyPatch, older: bool
) -> None:
    """It has come, and is of no use to the next agent, which tells it to end."""
    reached, never = asyncio.Event(), asyncio.Event()

    async def wait(_: object) -> None:
        reached.set()
        await never.wait()

    executor = OLDER if older else executor_info()
    async with running_agent(flags, destroys=False) as before:
        monkeypatch.setattr(before.agent.tasks.containers, "update", wait)
        before.run(task_info("any", executor), checkpoint=True)
        await reached.wait()
    async with running_agent(flags, port=port_of(before)) as master:
        status = await master.update("any", v1.TASK_DROPPED)
        assert status.reason == Status.REASON_AGENT_RESTARTED
        assert (await master.heard(internal.ExitedExecutorMessage)).status == 0
        await master.gone()


async def test_a_task_that_was_killed_before_its_executor_came(flags: Flags, run_directory: Path) -> None:
    """That is told again, and the executor is told to end when it comes."""
    for pipe in (up := run_directory / "up", go := run_directory / "go"):
        os.mkfifo(pipe)
    script = f"echo > {up}; read -r line < {go}; . {EXECUTOR}"
    async with running_agent(flags, destroys=False) as before:
        before.acknowledges = False
        before.run(task_info("any", executor_info(script=script)), checkpoint=True)
        await asyncio.to_thread(up.read_text)
        before.kill("any")
        await before.update("any", v1.TASK_KILLED)
    opening = asyncio.create_task(asyncio.to_thread(go.write_text, "\n"))
    async with running_agent(flags, "--executor_reregistration_timeout=15secs", port=port_of(before)) as master:
        await opening
        status = await master.update("any", v1.TASK_KILLED)
        assert status.reason == Status.REASON_TASK_KILLED_DURING_LAUNCH
        assert (await master.heard(internal.ExitedExecutorMessage)).status == 0
        await master.gone()


async def test_an_agent_that_was_being_drained_goes_on_with_that(flags: Flags) -> None:
    """It may have ended before any task was told to end."""
    async with running_agent(flags, destroys=False) as before:
        before.run(task_info("long"), checkpoint=True)
        await before.update("long", v1.TASK_RUNNING)
    await records.write_drain(Layout(flags.work_dir), AGENT_ID, v1.DrainConfig(mark_gone=True))
    async with running_agent(flags, port=port_of(before)) as master:
        status = await master.update("long", v1.TASK_GONE_BY_OPERATOR)
        assert status.reason == Status.REASON_AGENT_DRAINING


async def test_what_was_said_of_an_operation_is_said_until_it_is_acknowledged(
    flags: Flags, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Again after some time, and by the next agent."""
    monkeypatch.setattr("mesocosm.agent.tasks.reservations.FIRST_RETRY", 0.01)
    async with running_agent(flags, "--resources=disk:1000") as before:
        told = await _told(before)
        before.said.clear()
        assert await before.heard(internal.UpdateOperationStatusMessage) == told
    async with running_agent(flags, "--resources=disk:1000") as master:
        assert await master.heard(internal.UpdateOperationStatusMessage) == told


async def _told(master: Master) -> internal.UpdateOperationStatusMessage:
    info = v1.Offer.Operation(type=v1.Offer.Operation.RESERVE)
    info.reserve.resources.append(reserved("disk", 10))
    version = internal.ResourceVersionUUID(uuid=v1.UUID(value=bytes(16)))
    identity = v1.UUID(value=b"0123456789abcdef")
    master.tell(
        internal.ApplyOperationMessage(operation_info=info, operation_uuid=identity, resource_version_uuid=version)
    )
    return await master.heard(internal.UpdateOperationStatusMessage)


async def test_what_a_task_has_become_and_what_of_that_was_told(flags: Flags) -> None:
    """Both are said to a master that the agent registers with again."""
    async with running_agent(flags) as master:
        master.acknowledges = False
        master.run(task_info("long"))
        await master.update("long", v1.TASK_RUNNING)
        master.kill("long")
        master.run(task_info("later"))
        await master.update("later", v1.TASK_RUNNING)
        known = next(each for each in master.agent.tasks.reregistration().tasks if each.name == "long")
        assert (known.state, known.status_update_state) == (v1.TASK_KILLED, v1.TASK_RUNNING)


async def test_an_older_executor_is_asked_again_and_comes_back_once(
    flags: Flags, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was asked more than once before it could answer."""
    async with running_agent(flags, destroys=False) as before:
        before.run(task_info("long", OLDER), checkpoint=True)
        await before.update("long", v1.TASK_RUNNING)
        pid = (await before.agent.containerizer.status(before.executor().container_id)).executor_pid
    assert pid is not None
    (command,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    os.kill(int(command), signal.SIGSTOP)
    asked, reconnect = 0, ActorLink.reconnect

    def ask(link: ActorLink, slave_id: v1.AgentID) -> None:
        nonlocal asked
        asked += 1
        reconnect(link, slave_id)
        if asked == 3:
            os.kill(int(command), signal.SIGCONT)

    monkeypatch.setattr(ActorLink, "reconnect", ask)
    options = ("--executor_reregistration_retry_interval=10ms", "--executor_reregistration_timeout=15secs")
    async with running_agent(flags, *options, port=port_of(before)) as master:
        master.kill("long")
        await master.update("long", v1.TASK_KILLED)
        said = (master.executor().directory / "messages").read_text().split()
        assert said.count("ReconnectExecutorMessage") >= 1
        assert said.count("ExecutorReregisteredMessage") == 1
        assert "ShutdownExecutorMessage" not in said
        assert FRAMEWORK_ID in {each.id.value for each in master.agent.tasks.reregistration().frameworks}


async def age(master: Master, *paths: Path) -> None:
    """Has the agent's garbage get older than a week; returns when these are gone."""
    gc, gone, news = master.agent.sandboxes.gc, set[Path](), asyncio.Event()

    def note(path: Path) -> None:
        gone.add(path)
        news.set()

    master.agent.sandboxes.tell(note)
    gc._clock = lambda: time.time() + 8 * 24 * 3600
    gc._changed.set()
    async with asyncio.timeout(TIMEOUT):
        while not gone.issuperset(paths):
            news.clear()
            await news.wait()


@pytest.mark.parametrize("restarts", [False, True])
async def test_what_a_task_leaves_is_removed_although_its_executor_goes_on(flags: Flags, restarts: bool) -> None:
    """Its record and its sandbox, when they are old; in an agent that has seen its end, and in the next one."""
    collecting = "--gc_non_executor_container_sandboxes"
    async with running_agent(flags, collecting, destroys=not restarts) as before:
        run(before, [task("long")], framework={"checkpoint": True})
        await before.update("long", v1.TASK_RUNNING)
        run(before, [task("short", "true")], framework={"checkpoint": True})
        await before.update("short", v1.TASK_FINISHED)
        executor = before.executor(DEFAULT)
        record = Layout(flags.work_dir).records(AGENT_ID).framework(FRAMEWORK_ID).executor(DEFAULT)
        tasks = record.run(executor.container_id.value).tasks
        sandbox = (executor.directory / "tasks/short").resolve()
        assert sandbox.exists()
        assert (tasks / "short").exists()
        if not restarts:
            await age(before, tasks / "short", sandbox)
            assert [path.name for path in tasks.iterdir()] == ["long"]
    if restarts:
        async with running_agent(flags, collecting, port=port_of(before)) as master:
            await age(master, tasks / "short", sandbox)
            assert [path.name for path in tasks.iterdir()] == ["long"]


async def test_a_task_that_has_the_name_of_an_earlier_one(flags: Flags) -> None:
    """What is on record of it stays, and none of it is the earlier one's."""
    async with running_agent(flags, destroys=False) as before:
        before.run(task_info("t"), checkpoint=True)
        await before.update("t", v1.TASK_RUNNING)
        executor = before.executor()
        before.kill("t")
        await before.update("t", v1.TASK_KILLED)
        async with asyncio.timeout(TIMEOUT):
            while executor.tasks:  # noqa: ASYNC110 - nobody is told when the acknowledgement is on record.
                await asyncio.sleep(0)
        before.said.clear()
        before.run(task_info("t"), checkpoint=True)
        record = Layout(flags.work_dir).records(AGENT_ID).framework(FRAMEWORK_ID).executor("shell")
        paths = record.run(executor.container_id.value).task("t")
        await before.update("t", v1.TASK_RUNNING)
        other = flags.work_dir / "other"
        other.mkdir()
        before.agent.sandboxes.gc.schedule(other, time.time())
        await age(before, other)
        assert paths.info.exists()
    async with running_agent(flags, port=port_of(before)) as master:
        assert [each.state for each in master.executor().tasks["t"].message.statuses] == [v1.TASK_RUNNING]


async def test_cleanup_ends_tasks(flags: Flags) -> None:
    async with running_agent(flags, destroys=False) as before:
        before.run(command_task("long", "sleep 1000"), checkpoint=True)
        await before.update("long", v1.TASK_RUNNING)
    async with running_agent(flags, "--recover=cleanup", port=port_of(before)) as master:
        await master.agent.destroy_all()
        assert not await master.agent.containerizer.containers()
        assert len(master.agent.tasks.frameworks) == 0


async def test_an_executor_that_had_ended_before(flags: Flags) -> None:
    """Is remembered, and what it has left is removed when it is old."""
    async with running_agent(flags) as before:
        before.run(command_task("done", "true"), checkpoint=True)
        directory = before.executor("done").directory
        await before.update("done", v1.TASK_FINISHED)
        await before.gone()
    record = flags.work_dir / "meta" / directory.relative_to(flags.work_dir)
    left = (directory, record, directory.parents[3], record.parents[3])  # Of the run, and of its framework.
    for path in left:
        os.utime(path, (time.time(), long_ago := time.time() - 3600))
    async with running_agent(flags) as master:
        (framework,) = master.agent.tasks.frameworks.completed.values()
        assert [executor.id for executor in framework.completed_executors] == ["done"]
        for path in left:
            assert path.stat().st_mtime == pytest.approx(long_ago), "it has aged since its end"
            assert master.agent.sandboxes.gc.unschedule(path)
        assert not master.said


async def test_two_agents_of_one_machine(flags: Flags, run_directory: Path) -> None:
    """Each has its own back."""
    own = {"work_dir": run_directory / "work2", "runtime_dir": run_directory / "run2"}
    others = replace(flags, **own, cgroups_root=f"{flags.cgroups_root}-2")
    async with running_agent(flags, destroys=False) as one, running_agent(others, destroys=False) as other:
        ports = [port_of(one), port_of(other)]
        for name, before in (("one", one), ("other", other)):
            before.run(task_info(name), identity=name, checkpoint=True)
            await before.update(name, v1.TASK_RUNNING)
    async with running_agent(flags, port=ports[0]) as one, running_agent(others, port=ports[1]) as other:
        for name, after in (("one", one), ("other", other)):
            assert len(await after.agent.containerizer.containers()) == 1
            after.kill(name, name)
            await after.update(name, v1.TASK_KILLED)
