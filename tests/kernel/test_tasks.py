"""Tasks of custom executors: real ones in real containers, which speak the executor API, and a master by messages."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from mesocosm.api import internal, v1
from mesocosm.errors import ContainerError
from mesocosm.flags import Flags
from mesocosm.hooks import ENTRY_POINTS
from tests import task_groups
from tests.plugins import install
from tests.task_agent import (
    AGENT_ID,
    EXECUTOR,
    FRAMEWORK_ID,
    command_task,
    executor_info,
    framework_info,
    running_agent,
    scalars,
    task_info,
)

pytestmark = pytest.mark.kernel

Status = v1.TaskStatus


async def test_a_task_runs_and_ends(flags: Flags) -> None:
    async with running_agent(flags) as master:
        master.run(task_info("quick"))
        status = await master.update("quick", v1.TASK_FINISHED)
        assert master.states("quick") == ["TASK_RUNNING", "TASK_FINISHED"]
        assert (status.source, status.executor_id.value) == (Status.SOURCE_EXECUTOR, "shell")
        executor = master.executor()
        container = status.container_status
        assert container.container_id.value == executor.container_id.value
        assert container.network_infos[0].ip_addresses[0].ip_address == "127.0.0.1"
        assert Path(f"/proc/{container.executor_pid}").exists()
        sandbox = flags.work_dir / f"slaves/{AGENT_ID}/frameworks/{FRAMEWORK_ID}/executors/shell/runs"
        assert executor.directory == sandbox / executor.container_id.value
        assert (sandbox / "latest").samefile(executor.directory)
        master.tell(internal.ShutdownFrameworkMessage(framework_id=v1.FrameworkID(value=FRAMEWORK_ID)))
        exited = await master.heard(internal.ExitedExecutorMessage)
        assert (exited.executor_id.value, exited.status) == ("shell", 0)
        await master.gone()
        events = (executor.directory / "events").read_text()
        assert [kind in events for kind in ("SUBSCRIBED", "LAUNCH", "ACKNOWLEDGED", "SHUTDOWN")] == [True] * 4


async def test_a_task_ends_once_also_before_anybody_knows(flags: Flags) -> None:
    async with running_agent(flags) as master:
        master.acknowledges = False
        master.run(task_info("long"))
        first = await master.update("long", v1.TASK_RUNNING)
        for state in (v1.TASK_FINISHED, v1.TASK_FAILED):
            status = v1.TaskStatus()
            status.CopyFrom(first)
            status.state, status.uuid = state, bytes([state]) * 16
            master.agent.tasks.update(FRAMEWORK_ID, "shell", status)
        master.acknowledges = True
        for message in [each for each in master.said if isinstance(each, internal.StatusUpdateMessage)]:
            master.acknowledge(message.update)
        await master.update("long", v1.TASK_FINISHED)
        master.run(task_info("quick"))
        await master.update("quick", v1.TASK_FINISHED)
        assert master.states("long") == ["TASK_RUNNING", "TASK_FINISHED"]


async def test_a_task_ends_once(flags: Flags) -> None:
    """What its executor says of it when the master knows its end is acknowledged, and told to nobody."""
    async with running_agent(flags) as master:
        master.run(task_info("quick"))
        ended = await master.update("quick", v1.TASK_FINISHED)
        master.run(task_info("quick-2"))
        await master.update("quick-2", v1.TASK_FINISHED)  # The end of the first is acknowledged long since.
        assert master.executor().has_completed("quick")
        late = v1.TaskStatus()
        late.CopyFrom(ended)
        late.state, late.uuid = v1.TASK_FAILED, b"0123456789abcdef"
        master.agent.tasks.update(FRAMEWORK_ID, "shell", late)
        master.run(task_info("quick-3"))
        await master.update("quick-3", v1.TASK_FINISHED)
        assert master.states("quick") == ["TASK_RUNNING", "TASK_FINISHED"]
        acknowledged = base64.b64encode(late.uuid).decode()
        assert acknowledged in (master.executor().directory / "events").read_text()


async def test_a_killed_task_is_killed_by_its_executor(flags: Flags) -> None:
    async with running_agent(flags) as master:
        master.run(task_info("long"))
        await master.update("long", v1.TASK_RUNNING)
        master.kill("long")
        status = await master.update("long", v1.TASK_KILLED)
        assert status.source == Status.SOURCE_EXECUTOR
        master.kill("none such")
        status = await master.update("none such", v1.TASK_DROPPED)
        assert (status.message, status.reason) == ("Cannot find executor", Status.REASON_EXECUTOR_TERMINATED)


async def test_the_container_has_what_its_tasks_have(flags: Flags) -> None:
    async with running_agent(flags) as master:
        containers = master.agent.containerizer
        master.run(task_info("first", resources=scalars(cpus=0.2, mem=64)))
        await master.update("first", v1.TASK_RUNNING)
        container_id = master.executor().container_id

        def given() -> tuple[float | None, float | None]:
            config = containers.config(container_id)
            assert config is not None
            return config.resources.cpus, config.resources.mem

        assert given() == (0.3, 96 << 20)
        master.run(task_info("second", resources=scalars(cpus=0.5, mem=32)))
        await master.update("second", v1.TASK_RUNNING)
        assert given() == (0.8, 128 << 20)
        master.kill("first")
        await master.update("first", v1.TASK_KILLED)
        assert given() == (0.6, 64 << 20)


async def test_tasks_of_a_group_are_launched_together(flags: Flags) -> None:
    async with running_agent(flags) as master:
        group = v1.TaskGroupInfo(tasks=[task_info("a"), task_info("b")])
        for task in group.tasks:
            task.ClearField("executor")
        master.tell(
            internal.RunTaskGroupMessage(
                framework=framework_info(), executor=executor_info(), task_group=group, launch_executor=True
            )
        )
        for name in "ab":
            await master.update(name, v1.TASK_RUNNING)
        events = (master.executor().directory / "events").read_text()
        assert events.count("LAUNCH_GROUP") == 1


async def test_messages_go_both_ways(flags: Flags) -> None:
    async with running_agent(flags) as master:
        master.run(task_info("long"))
        await master.update("long", v1.TASK_RUNNING)
        ids = {
            "slave_id": v1.AgentID(value=AGENT_ID),
            "framework_id": v1.FrameworkID(value=FRAMEWORK_ID),
            "executor_id": v1.ExecutorID(value="shell"),
        }
        master.tell(internal.FrameworkToExecutorMessage(**ids, data=b"hello"))
        answer = await master.heard(internal.ExecutorToFrameworkMessage)
        assert answer == internal.ExecutorToFrameworkMessage(**ids, data=b"got it\n")


async def test_the_end_of_an_executor_is_that_of_its_tasks(flags: Flags) -> None:
    async with running_agent(flags) as master:
        master.run(task_info("long"))
        await master.update("long", v1.TASK_RUNNING)
        master.run(task_info("quit"))
        for name in ("long", "quit"):
            status = await master.update(name, v1.TASK_FAILED)
            assert (status.reason, status.source) == (Status.REASON_EXECUTOR_TERMINATED, Status.SOURCE_AGENT)
            assert status.message == "Executor terminated"
        exited = await master.heard(internal.ExitedExecutorMessage)
        assert exited.status == 3 << 8
        await master.gone()


async def test_memory_that_a_task_exceeds_is_why_it_fails(flags: Flags) -> None:
    async with running_agent(flags) as master:
        master.run(task_info("hungry"))
        status = await master.update("hungry", v1.TASK_FAILED)
        assert status.reason == Status.REASON_CONTAINER_LIMITATION_MEMORY
        assert "Memory limit exceeded" in status.message
        assert status.limitation.resources[0].name == "mem"


async def test_an_executor_that_does_not_register_is_ended(flags: Flags) -> None:
    async with running_agent(flags, "--executor_registration_timeout=10ms") as master:
        master.run(task_info("any", executor_info(script="sleep 1000")))
        status = await master.update("any", v1.TASK_FAILED)
        assert status.reason == Status.REASON_EXECUTOR_REGISTRATION_TIMEOUT
        assert status.message == "Executor did not register within 10ms"
        await master.gone()


@pytest.mark.parametrize(("flag", "own"), [("50ms", None), ("1hrs", 50_000_000)])
async def test_an_executor_that_does_not_end_is_ended(flags: Flags, flag: str, own: int | None) -> None:
    """In time, which is its own or that of the flag."""
    period: dict[str, Any] = {} if own is None else {"shutdown_grace_period": {"nanoseconds": own}}
    async with running_agent(flags, f"--executor_shutdown_grace_period={flag}") as master:
        master.run(task_info("long", executor_info(script="touch stubborn; . " + str(EXECUTOR), **period)))
        await master.update("long", v1.TASK_RUNNING)
        executor = master.executor()
        master.tell(
            internal.ShutdownExecutorMessage(
                framework_id=v1.FrameworkID(value=FRAMEWORK_ID), executor_id=v1.ExecutorID(value="shell")
            )
        )
        exited = await master.heard(internal.ExitedExecutorMessage)
        assert exited.status == signal.SIGKILL
        assert "SHUTDOWN" in (executor.directory / "events").read_text()
        await master.update("long", v1.TASK_FAILED)


async def test_a_command_that_is_not_there_fails_the_launch(flags: Flags) -> None:
    async with running_agent(flags) as master:
        command = v1.CommandInfo(shell=False, value="/none/such")
        master.run(task_info("any", executor_info(command=command)))
        status = await master.update("any", v1.TASK_FAILED)
        assert status.reason == Status.REASON_CONTAINER_LAUNCH_FAILED
        assert status.message.startswith("Failed to launch container: ")
        assert (await master.heard(internal.ExitedExecutorMessage)).executor_id.value == "shell"
        await master.gone()
        assert master.agent.launch_errors == 1
        master.run(task_info("other"))
        await master.update("other", v1.TASK_RUNNING)


async def test_a_group_whose_executor_cannot_be_launched_fails(flags: Flags, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of its tasks do; and the executor is not in the way of one of its name that can be."""

    async def fail(*_: object) -> None:
        raise ContainerError("there is no room")

    async with running_agent(flags) as master:
        with monkeypatch.context() as patch:
            patch.setattr(master.agent.containerizer, "launch", fail)
            task_groups.run(master, [task_groups.task("a"), task_groups.task("b")])
            for name in "ab":
                status = await master.update(name, v1.TASK_FAILED)
                assert status.reason == Status.REASON_CONTAINER_LAUNCH_FAILED
                assert status.message == "Failed to launch container: there is no room"
            exited = await master.heard(internal.ExitedExecutorMessage)
            assert exited.executor_id.value == task_groups.EXECUTOR
            await master.gone()
        task_groups.run(master, [task_groups.task("c")])
        await master.update("c", v1.TASK_RUNNING)


async def test_a_task_that_waits_for_its_executor_is_killed_at_once(flags: Flags) -> None:
    async with running_agent(flags) as master:
        master.run(task_info("any", executor_info(script="sleep 1000")))
        master.kill("any")
        status = await master.update("any", v1.TASK_KILLED)
        assert status.reason == Status.REASON_TASK_KILLED_DURING_LAUNCH
        assert status.message == "Killed before delivery to the executor"


async def test_a_command_that_is_killed_before_its_launch_is_not_launched(
    flags: Flags, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled = asyncio.Event()
    async with running_agent(flags) as master:
        monkeypatch.setattr(master.agent.tasks.reservations, "settled", settled.wait)
        master.run(command_task("any", "true"))
        executor = master.executor("any")
        master.kill("any")
        await master.update("any", v1.TASK_KILLED)
        settled.set()
        await master.gone()
        assert not executor.directory.exists()


async def test_an_executor_without_tasks_is_told_to_end(flags: Flags) -> None:
    async with running_agent(flags) as master:
        master.run(task_info("any", executor_info()))
        master.kill("any")
        exited = await master.heard(internal.ExitedExecutorMessage)
        assert exited.status == 0
        await master.gone()


async def test_a_command_runs_in_an_executor_of_its_own(flags: Flags) -> None:
    async with running_agent(flags) as master:
        master.run(command_task("command", "echo hello; exit 0"))
        status = await master.update("command", v1.TASK_FINISHED)
        assert status.message == "Command exited with status 0"
        assert master.states("command") == ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"]
        await master.gone()
        (framework,) = master.agent.tasks.frameworks.completed.values()
        (executor,) = framework.completed_executors
        assert executor.info.name == "Command Executor (Task: command) (Command: sh -c 'echo hello; ...')"
        assert (executor.directory / "stdout").read_text().splitlines()[-1:] == ["hello"]
        assert not any(isinstance(each, internal.ExitedExecutorMessage) for each in master.said)


async def test_a_command_is_killed(flags: Flags) -> None:
    async with running_agent(flags) as master:
        master.run(command_task("command", "sleep 1000"))
        await master.update("command", v1.TASK_RUNNING)
        master.kill("command")
        status = await master.update("command", v1.TASK_KILLED)
        assert status.message == "Command terminated with signal Terminated"
        await master.gone()


async def test_an_agent_that_is_drained_ends_its_tasks(flags: Flags) -> None:
    async with running_agent(flags) as master:
        master.run(task_info("long"))
        await master.update("long", v1.TASK_RUNNING)
        master.tell(internal.DrainSlaveMessage(config=v1.DrainConfig(mark_gone=True)))
        status = await master.update("long", v1.TASK_GONE_BY_OPERATOR)
        assert status.reason == Status.REASON_AGENT_DRAINING
        master.run(task_info("late"))
        status = await master.update("late", v1.TASK_DROPPED)
        assert status.message == "Task was received while agent was already draining"
        executor = v1.ExecutorID(value="shell")
        ids = {"framework_id": v1.FrameworkID(value=FRAMEWORK_ID), "executor_id": executor}
        master.tell(internal.ShutdownExecutorMessage(**ids))
        await master.gone()
        assert master.agent.tasks.drain.config is None


async def test_a_drain_gives_tasks_no_more_time_than_it_has(flags: Flags, run_directory: Path) -> None:
    """Whatever they would have of their own."""
    os.mkfifo(up := run_directory / "up")
    own = v1.KillPolicy(grace_period=v1.DurationInfo(nanoseconds=3_600_000_000_000))
    config = v1.DrainConfig(max_grace_period=v1.DurationInfo(nanoseconds=50_000_000))
    async with running_agent(flags) as master:
        master.run(command_task("stubborn", f"trap '' TERM; echo > {up}; while :; do sleep 1; done", kill_policy=own))
        await asyncio.to_thread(up.read_text)
        await master.update("stubborn", v1.TASK_RUNNING)
        master.tell(internal.DrainSlaveMessage(config=config))
        status = await master.update("stubborn", v1.TASK_KILLED)
        assert status.reason == Status.REASON_AGENT_DRAINING
        assert status.message == "Command terminated with signal Killed"
        await master.gone()
        assert master.agent.tasks.drain.config is None


async def test_tasks_that_cannot_be_run_are_dropped(flags: Flags) -> None:
    async with running_agent(flags, isolation="filesystem/linux,namespaces/pid") as master:
        limited = task_info("limited", limits={"mem": v1.Value.Scalar(value=64)})
        nameless = task_info("a/b")
        for task, state, reason in (
            (limited, v1.TASK_DROPPED, Status.REASON_GC_ERROR),
            (nameless, v1.TASK_ERROR, Status.REASON_TASK_INVALID),
        ):
            master.run(task)
            status = await master.update(task.task_id.value, state)
            assert status.reason == reason
        version = internal.ResourceVersionUUID(uuid=v1.UUID(value=bytes(16)))
        outdated = internal.RunTaskMessage(
            framework=framework_info(), task=task_info("late"), resource_version_uuids=[version], launch_executor=True
        )
        master.tell(outdated)
        assert (await master.update("late", v1.TASK_DROPPED)).reason == Status.REASON_INVALID_OFFERS
        master.run(task_info("alone"), launch=False)
        status = await master.update("alone", v1.TASK_DROPPED)
        assert status.message == "No executor is expected to launch and there is none running"
        unknown = internal.ReconcileTasksMessage(framework_id=v1.FrameworkID(value="x"))
        unknown.statuses.add(task_id=v1.TaskID(value="lost"), state=v1.TASK_RUNNING)
        master.tell(unknown)
        assert (await master.update("lost", v1.TASK_LOST)).reason == Status.REASON_RECONCILIATION
        assert not await master.agent.containerizer.containers()


async def test_a_user_that_a_framework_may_not_be(flags: Flags) -> None:
    acls = '{"run_tasks": [{"principals": {"type": "ANY"}, "users": {"values": ["nobody"]}}], "permissive": false}'
    async with running_agent(flags, f"--acls={acls}") as master:
        master.run(task_info("any"))
        status = await master.update("any", v1.TASK_ERROR)
        assert status.reason == Status.REASON_TASK_UNAUTHORIZED
        await master.heard(internal.ExitedExecutorMessage)
        master.said.clear()
        executor = executor_info()
        executor.command.user = "root"
        group = v1.TaskGroupInfo(tasks=[command_task("grouped", "true")])
        group.tasks[0].command.user = "nobody"
        master.tell(
            internal.RunTaskGroupMessage(
                framework=framework_info(), executor=executor, task_group=group, launch_executor=True
            )
        )
        status = await master.update("grouped", v1.TASK_ERROR)
        assert status.reason == Status.REASON_TASK_GROUP_UNAUTHORIZED
        await master.heard(internal.ExitedExecutorMessage)
        await master.gone()


async def test_a_group_runs_in_the_default_executor(flags: Flags) -> None:
    async with running_agent(flags) as master:
        tasks = [command_task("quick", "echo hello; exit 0"), command_task("long", "sleep 1000")]
        info = v1.ExecutorInfo(
            type=v1.ExecutorInfo.DEFAULT,
            executor_id=v1.ExecutorID(value="pod"),
            framework_id=v1.FrameworkID(value=FRAMEWORK_ID),
            resources=scalars(cpus=0.1, mem=32),
        )
        group = v1.TaskGroupInfo(tasks=tasks)
        message = internal.RunTaskGroupMessage(
            framework=framework_info(), executor=info, task_group=group, launch_executor=True
        )
        master.tell(message)
        await master.update("quick", v1.TASK_FINISHED)
        status = await master.update("long", v1.TASK_RUNNING)
        parent = status.container_status.container_id.parent.value
        assert parent == master.executor("pod").container_id.value
        master.kill("long")
        await master.update("long", v1.TASK_KILLED)
        await master.gone()
        assert (await master.heard(internal.ExitedExecutorMessage)).status == 0


HOOK = """
from dataclasses import replace

from mesocosm.api import v1
from mesocosm.hooks import Hook


class Auditor(Hook):
    removed = []

    def resources(self, resources):
        return [each for each in resources if each.name != "ports"]

    def task_labels(self, task, executor, framework):
        return v1.Labels(labels=[*task.labels.labels, v1.Label(key="seen by", value=framework.name)])

    def task_status(self, framework_id, status):
        return v1.TaskStatus(labels=v1.Labels(labels=[v1.Label(key="of", value=framework_id)]))

    async def pre_launch(self, container_id, config):
        return replace(config, environment={**config.environment, "OF_HOOK": "yes"})

    async def executor_removed(self, framework, executor):
        self.removed.append(executor.executor_id.value)
"""


async def test_hooks_of_other_packages(flags: Flags, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, ENTRY_POINTS, HOOK, auditor="Auditor")
    async with running_agent(flags, "--hooks=auditor") as master:
        assert "ports" not in {resource.name for resource in master.agent.resources}
        script = f'[ "$OF_HOOK" = yes ] || exit 4; . {EXECUTOR}'
        master.run(task_info("quick", executor_info(script=script)))
        status = await master.update("quick", v1.TASK_FINISHED)
        assert [(label.key, label.value) for label in status.labels.labels] == [("of", FRAMEWORK_ID)]
        task = next(iter(master.executor().tasks.values()))
        assert [label.key for label in task.message.labels.labels] == ["seen by"]
        master.tell(internal.ShutdownFrameworkMessage(framework_id=v1.FrameworkID(value=FRAMEWORK_ID)))
        await master.gone()
        (name, auditor), *_ = master.agent.hooks.named
        assert (name, auditor.removed) == ("auditor", ["shell"])  # type: ignore[attr-defined]


async def test_a_task_that_cannot_be_recorded_is_not_launched(flags: Flags) -> None:
    records = flags.work_dir / "meta/slaves" / AGENT_ID / "frameworks"
    records.parent.mkdir(parents=True)
    records.touch()  # No directory can be made there.
    async with running_agent(flags) as master:
        master.run(task_info("any"), checkpoint=True)
        status = await master.update("any", v1.TASK_FAILED)
        assert status.reason == Status.REASON_CONTAINER_LAUNCH_FAILED
        assert str(records) in status.message


@pytest.mark.parametrize("aware", [True, False])
@pytest.mark.parametrize("ended", [True, False])
async def test_a_container_whose_resources_cannot_be_changed_ends(
    flags: Flags, monkeypatch: pytest.MonkeyPatch, aware: bool, ended: bool
) -> None:
    """Be they to grow for a task that comes, or to shrink after one that has ended."""

    async def fail(*_: object) -> None:
        raise ContainerError("they stay as they are")

    async with running_agent(flags) as master:
        master.run(task_info("long"), aware=aware)
        await master.update("long", v1.TASK_RUNNING)
        if ended:
            master.run(task_info("short"), aware=aware)
            await master.update("short", v1.TASK_RUNNING)
        monkeypatch.setattr(master.agent.containerizer, "update", fail)
        if ended:
            master.kill("short")
            await master.update("short", v1.TASK_KILLED)
        else:
            master.run(task_info("other"), aware=aware)
        for task_id in ("long",) if ended else ("long", "other"):
            status = await master.update(task_id, v1.TASK_GONE if aware else v1.TASK_LOST)
            assert status.reason == Status.REASON_CONTAINER_UPDATE_FAILED
            assert status.message.endswith("Failed to update resources for container: they stay as they are")
        await master.gone()


async def test_a_launch_that_fails_as_nobody_thought_of_fails_its_task(
    flags: Flags, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not wait for an executor that never comes."""

    async def fail(*_: object) -> None:
        raise RuntimeError("what was this")

    async with running_agent(flags) as master:
        monkeypatch.setattr(master.agent.containerizer, "launch", fail)
        master.run(task_info("quick"))
        status = await master.update("quick", v1.TASK_FAILED)
        assert status.reason == Status.REASON_CONTAINER_LAUNCH_FAILED
        assert status.message.endswith("Failed to launch container: what was this")
        await master.gone()
