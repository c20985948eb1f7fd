"""Persistent volumes of tasks: on the agent's disk or another one, in every executor, used by one or by several."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mesocosm.agent.files import FilesError
from mesocosm.api import internal, v1
from mesocosm.api.json import to_json
from mesocosm.errors import FlagError
from mesocosm.flags import Flags
from tests.mounts import mount_tmpfs, unmount
from tests.task_agent import Master, command_task, executor_info, running_agent, scalars, task_info
from tests.task_groups import run, task
from tests.volumes import ROLE, create, operate, reserved, volume

pytestmark = pytest.mark.kernel

ISOLATION = "filesystem/linux,namespaces/pid,volume/sandbox_path"
Disk = dict[str, Any]


@pytest.fixture
def whole_disk(run_directory: Path) -> Iterator[Path]:
    """A disk that is to be one volume, with a file of before."""
    directory = run_directory / "disk"
    directory.mkdir()
    mount_tmpfs(directory)
    (directory / "before").write_text("of the operator\n")
    yield directory
    unmount(directory)


def part_of(root: object) -> Disk:
    return {"source": {"type": "PATH", "path": {"root": str(root)}}}


def whole(root: object) -> Disk:
    return {"source": {"type": "MOUNT", "mount": {"root": str(root)}}}


def offering(*disks: Disk, size: float = 1000) -> str:
    """The flag of an agent that has these disks."""
    resources = []
    for disk in disks:
        (resource,) = scalars(disk=size)
        resource.disk.CopyFrom(v1.Resource.DiskInfo(**disk))
        resources.append(to_json(resource))
    return f"--resources={json.dumps(resources)}"


def start(master: Master, executor: str, script: str, used: v1.Resource, user: str = "root") -> None:
    """Has a task do what `script` says, with a volume, in one of the executors."""
    resources = [*scalars(cpus=0.1, mem=32), used]
    if executor == "command":
        master.run(command_task("t", script, resources=resources), role=ROLE, user=user)
    elif executor == "default":
        run(master, [task("t", script, resources=resources)], framework={"role": ROLE, "user": user})
    else:
        own = executor_info()
        own.command.arguments[2] = f"{script}; {own.command.arguments[2]}"
        master.run(task_info("quick", own, resources=resources), role=ROLE, user=user)


async def ended(master: Master, executor: str) -> None:
    await master.update("quick" if executor == "custom" else "t", v1.TASK_FINISHED)


async def test_a_persistent_volume_outlives_its_task(flags: Flags) -> None:
    path = flags.work_dir / "volumes/roles/web/v1"
    async with running_agent(flags, "--resources=disk:1000", isolation=ISOLATION) as master:
        await operate(master, "RESERVE", reserved("disk", 100))
        await operate(master, "CREATE", volume("v1", 60))
        start(master, "custom", "echo kept > data/file", volume("v1", 60))
        await ended(master, "custom")
        assert (path / "file").read_text() == "kept\n"
        master.run(task_info("other", resources=[volume("v2", 10)]), role=ROLE)
        status = await master.update("other", v1.TASK_DROPPED)
        assert status.reason == v1.TaskStatus.REASON_RESOURCES_UNKNOWN
        known = {each.disk.persistence.id for each in master.agent.tasks.reregistration().checkpointed_resources}
        assert known == {"", "v1"}
    async with running_agent(flags, "--resources=disk:1000", isolation=ISOLATION) as master:
        assert len(master.agent.tasks.reregistration().checkpointed_resources) == 2
        await operate(master, "DESTROY", volume("v1", 60))
        assert not path.exists()


@pytest.mark.parametrize(
    ("executor", "kind"),
    [("command", ""), ("custom", "PATH"), ("default", "relative"), ("default", "MOUNT"), ("command", "MOUNT")],
)
async def test_a_volume_of_each_kind_of_disk(
    flags: Flags, run_directory: Path, whole_disk: Path, executor: str, kind: str
) -> None:
    """It is made with the operation, seen in the sandbox, whose user may write, and emptied with the operation."""
    disks: dict[str, tuple[Disk, Path]] = {
        "": ({}, flags.work_dir / "volumes/roles/web/v"),
        "PATH": (part_of(run_directory / "p"), run_directory / "p/volumes/roles/web/v"),
        "relative": (part_of("p"), flags.work_dir / "p/volumes/roles/web/v"),
        "MOUNT": (whole(whole_disk), whole_disk),
    }
    disk, path = disks[kind]
    used = volume("v", 1000, **disk)
    async with running_agent(flags, offering(disk) if disk else "--resources=disk:1000", isolation=ISOLATION) as master:
        await create(master, used)
        assert path.is_dir()
        start(master, executor, "id -un > data/file", used, "nobody")
        await ended(master, executor)
        assert (path / "file").read_text() == "nobody\n"
    async with running_agent(flags, offering(disk) if disk else "--resources=disk:1000", isolation=ISOLATION) as master:
        assert (path / "file").exists()
        await operate(master, "DESTROY", used)
    assert (list(path.iterdir()) == []) if kind == "MOUNT" else not path.exists()


async def test_a_whole_disk_is_not_divided(flags: Flags, whole_disk: Path) -> None:
    async with running_agent(flags, offering(whole(whole_disk)), isolation=ISOLATION) as master:
        status = await operate(master, "RESERVE", reserved("disk", 10, **whole(whole_disk)))
        assert status.state == v1.OPERATION_ERROR
        assert status.message == "there is not so much of 'disk' as is to be taken"
        await create(master, volume("v", 1000, **whole(whole_disk)))
        assert (whole_disk / "before").read_text() == "of the operator\n"


@pytest.mark.parametrize(
    ("disk", "reason"),
    [
        (whole("none"), "nothing is mounted at"),
        ({"source": {"type": "BLOCK"}}, "a disk of the type BLOCK is not supported"),
        ({"source": {"type": "PATH"}}, "a disk of the type PATH has no root"),
    ],
)
async def test_a_disk_that_cannot_be_used_keeps_the_agent_from_starting(flags: Flags, disk: Disk, reason: str) -> None:
    with pytest.raises(FlagError, match=reason):
        async with running_agent(flags, offering(disk)):
            pass


@pytest.mark.parametrize("executor", ["command", "default"])
async def test_a_shared_volume_is_used_by_several_at_a_time(flags: Flags, executor: str) -> None:
    """Whoever comes second does not take it away from the first, whose it is."""
    used = volume("v", 100, shared=True)
    path = flags.work_dir / "volumes/roles/web/v"
    async with running_agent(flags, "--resources=disk:1000", isolation=ISOLATION) as master:
        await create(master, used)
        resources = [*scalars(cpus=0.1, mem=32), used]
        master.run(
            command_task("reader", "mkfifo data/pipe; read -r line < data/pipe; echo $line", resources=resources),
            identity="other",
            role=ROLE,
            user="nobody",
        )
        await master.update("reader", v1.TASK_RUNNING)
        start(master, executor, "until test -p data/pipe; do :; done; echo hello > data/pipe", used)
        await ended(master, executor)
        await master.update("reader", v1.TASK_FINISHED)
        assert path.owner() == "nobody"


def seen_in(path: str) -> v1.ContainerInfo:
    """A container that sees the executor's `data` there."""
    parent = v1.Volume.Source.SandboxPath(type=v1.Volume.Source.SandboxPath.PARENT, path="data")
    source = v1.Volume.Source(type=v1.Volume.Source.SANDBOX_PATH, sandbox_path=parent)
    return v1.ContainerInfo(
        type=v1.ContainerInfo.MESOS, volumes=[v1.Volume(container_path=path, mode=v1.Volume.RW, source=source)]
    )


@pytest.mark.parametrize("isolation", [ISOLATION, "filesystem/posix,volume/sandbox_path"])
@pytest.mark.parametrize("whose", ["tasks", "executor"])
async def test_tasks_of_a_group_share_a_volume(flags: Flags, isolation: str, whose: str) -> None:
    """A shared resource of both, which is there once; or one of their executor, which they see as their parent's."""
    used = volume("v", 100, shared=whose == "tasks")
    scripts = {"a": "mkfifo data/pipe; read -r line < data/pipe; echo $line > data/line"}
    scripts["b"] = "until test -p data/pipe; do :; done; echo hello > data/pipe"
    own: dict[str, Any] = {"resources": [*scalars(cpus=0.1, mem=32), used]}
    if whose == "executor":
        own = {"container": seen_in("data")}
    async with running_agent(flags, "--resources=disk:1000", isolation=isolation) as master:
        await create(master, used)
        tasks = [task(name, script, **own) for name, script in scripts.items()]
        more = {"resources": [*scalars(cpus=0.1, mem=32), used]} if whose == "executor" else {}
        run(master, tasks, framework={"role": ROLE, "user": "nobody"}, **more)
        for name in scripts:
            await master.update(name, v1.TASK_FINISHED)
        assert (flags.work_dir / "volumes/roles/web/v/line").read_text() == "hello\n"


@pytest.mark.parametrize("isolation", [ISOLATION, "filesystem/posix,volume/sandbox_path"])
@pytest.mark.parametrize("executor", ["custom", "default"])
async def test_the_volume_of_a_later_task(flags: Flags, isolation: str, executor: str) -> None:
    """Comes into the container of an executor that runs, and goes with the task: it may be another one's then."""
    used = volume("v", 100)
    resources = [*scalars(cpus=0.1, mem=32), used]
    async with running_agent(flags, "--resources=disk:1000", isolation=isolation) as master:
        await create(master, used)
        (kept := flags.work_dir / "volumes/roles/web/v/kept").write_text("")
        for name, own in (("first", {}), ("seek-2", {"resources": resources}), ("seek-3", {})):
            expected = {"first": v1.TASK_RUNNING, "seek-2": v1.TASK_FINISHED, "seek-3": v1.TASK_FAILED}[name]
            if executor == "custom":
                master.run(task_info(name, **own), role=ROLE)
            else:
                script = "sleep 60" if name == "first" else "test -e data/kept"
                more = {"container": seen_in("data")} if name == "seek-3" else own
                run(master, [task(name, script, **more)], framework={"role": ROLE})
            await master.update(name, expected)
        await operate(master, "DESTROY", used)
        assert not kept.exists()


async def test_two_volumes_cannot_be_in_one_place(flags: Flags) -> None:
    """The container could see but one of them, and a task would take it for its own."""
    first, second = volume("v1", 100), volume("v2", 100)
    async with running_agent(flags, "--resources=disk:1000", isolation=ISOLATION) as master:
        await create(master, first, second)
        master.run(task_info("long", resources=[*scalars(cpus=0.1), first]), role=ROLE)
        await master.update("long", v1.TASK_RUNNING)
        master.run(task_info("other", resources=[*scalars(cpus=0.1), second]), role=ROLE)
        for task_id in ("long", "other"):
            status = await master.update(task_id, v1.TASK_GONE)
            assert status.reason == v1.TaskStatus.REASON_CONTAINER_UPDATE_FAILED
            assert "two persistent volumes are to be at 'data'" in status.message
        await master.gone()


@pytest.mark.parametrize("whose", ["task", "executor", "sandbox"])
async def test_volumes_are_among_the_files(flags: Flags, whose: str) -> None:
    """Where the task has them, while it runs: in the sandbox there is an empty directory in their place."""
    used = volume("v", 100)
    resources = [*scalars(cpus=0.1, mem=32), used]
    own: dict[str, Any] = {"resources": resources} if whose == "task" else {"container": seen_in("data")}
    more = {"resources": resources} if whose == "executor" else {}
    async with running_agent(flags, "--resources=disk:1000", isolation=ISOLATION) as master:
        await create(master, used)
        run(master, [task("t", **own)], framework={"role": ROLE}, **more)
        await master.update("t", v1.TASK_RUNNING)
        files = master.agent.sandboxes.files
        sandbox = master.executor("default").directory
        place = f"{sandbox}/tasks/t/data"
        (sandbox / "data" if whose == "sandbox" else flags.work_dir / "volumes/roles/web/v").joinpath(
            "file"
        ).write_text("hello\n")
        assert [each.path for each in await files.browse(place)] == [f"{place}/file"]
        assert (await files.read(f"{place}/file", 0)).data == b"hello\n"
        (sandbox / "elsewhere").symlink_to("/etc")
        with pytest.raises(FilesError, match="leads out"):
            await files.browse(f"{place}/../../../../../../../../..")
        attached = files.attached()
        assert (f"{sandbox}/data" in attached) is (whose != "sandbox")
        master.kill("t")
        await master.update("t", v1.TASK_KILLED)
        await master.gone()
        left = [place] if whose == "sandbox" else []
        assert [path for path in files.attached() if path.endswith("/data")] == left
        master.agent.tasks.collected(sandbox)
        assert [path for path in files.attached() if str(sandbox) in path] == []


async def test_the_health_of_a_task_is_seen_in_its_volume(flags: Flags) -> None:
    """A check by a command sees what the task sees."""
    used = volume("v", 100)
    check = v1.HealthCheck(
        type=v1.HealthCheck.COMMAND,
        command=v1.CommandInfo(value="test -e data/kept"),
        delay_seconds=0,
        interval_seconds=0.1,
    )
    async with running_agent(flags, "--resources=disk:1000", isolation=ISOLATION) as master:
        await create(master, used)
        resources = [*scalars(cpus=0.1, mem=32), used]
        run(
            master,
            [task("t", "touch data/kept; sleep 60", resources=resources, health_check=check)],
            framework={"role": ROLE},
        )
        await master.heard(internal.StatusUpdateMessage, lambda each: each.update.status.healthy)
