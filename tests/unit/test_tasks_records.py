"""What is on record of tasks: in Mesos's files and bytes, read again whatever a crash or a bad disk left of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from io import FileIO
from pathlib import Path, PurePath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesocosm.agent.tasks import disk, records
from mesocosm.agent.tasks.paths import Layout, RunPaths
from mesocosm.agent.tasks.recovery import RecoveredAgent, RecoveredRun, RecoveredTask, read
from mesocosm.agent.tasks.updates import StatusUpdates
from mesocosm.api import internal, v1
from mesocosm.errors import RecoveryError
from mesocosm.libprocess.address import NOBODY, ActorAddress
from tests.unit.stout import fields_of, messages
from tests.unit.test_tasks_updates import FINISHED, RUNNING, Sent, update_of

DRIVER = ActorAddress.parse("scheduler-1@10.0.0.1:4444")
EXECUTOR = ActorAddress.parse("executor(1)@127.0.0.1:4445")
IDS = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/\\"), min_size=1, max_size=40).filter(
    lambda name: name not in (".", "..", "latest")
)
EXAMPLES = settings(max_examples=40, deadline=None)


def agent_info(agent: str = "S0") -> internal.SlaveInfo:
    return internal.SlaveInfo(hostname="host", id=v1.AgentID(value=agent), checkpoint=True)


def framework_info(framework: str = "f") -> v1.FrameworkInfo:
    return v1.FrameworkInfo(user="u", name="n", id=v1.FrameworkID(value=framework), checkpoint=True)


def executor_info(executor: str = "e") -> v1.ExecutorInfo:
    return v1.ExecutorInfo(executor_id=v1.ExecutorID(value=executor), name="an executor")


def task_of(task: str = "t", agent: str = "S0", framework: str = "f") -> v1.Task:
    made = v1.Task(name="task", state=v1.TASK_STAGING)
    made.task_id.value, made.framework_id.value, made.agent_id.value = task, framework, agent
    return made


async def write_all(
    layout: Layout, agent: str = "S0", framework: str = "f", executor: str = "e", task: str = "t"
) -> RunPaths:
    """Everything there can be of one task of one executor in the container `c`."""
    await records.write_agent(layout, agent_info(agent))
    paths = layout.records(agent).framework(framework)
    await records.write_framework(paths, framework_info(framework), DRIVER)
    made = task_of(task, agent, framework)
    await records.write_executor(paths.executor(executor), executor_info(executor), "c", [made], generated=True)
    return paths.executor(executor).run("c")


def the_run(agent: RecoveredAgent) -> RecoveredRun:
    return agent.frameworks[0].executors[0].run


def the_task(agent: RecoveredAgent) -> RecoveredTask:
    (task,) = the_run(agent).tasks
    return task


@pytest.fixture(autouse=True, scope="module")
def _fast() -> Iterator[None]:
    """No test here lets the machine crash: what is in memory will do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


async def test_nothing_is_on_record_of_a_new_agent(layout: Layout) -> None:
    assert await read(layout, strict=True) == RecoveredAgent()


async def test_everything_is_read_again(layout: Layout) -> None:
    run = await write_all(layout)
    await records.write_tasks(run, [task_of("t2")])
    agent = await read(layout, strict=True)
    (framework,) = agent.frameworks
    (executor,) = framework.executors
    assert (agent.info, framework.info, framework.pid) == (agent_info(), framework_info(), DRIVER)
    assert (executor.info, executor.generated, executor.run.container_id) == (executor_info(), True, "c")
    assert [task.info for task in executor.run.tasks] == [task_of("t"), task_of("t2")]
    assert (executor.run.address, executor.run.is_http, executor.run.is_completed) == (None, False, False)
    assert (agent.drain, agent.remains, agent.errors) == (None, (), 0)


async def test_a_task_that_has_the_name_of_an_earlier_one(layout: Layout) -> None:
    """Nothing of what became of that is taken for its own."""
    run = await write_all(layout)
    updates = StatusUpdates(lambda _: None)
    await updates.update(update_of(FINISHED), run.task("t").updates)
    await updates.close()
    assert the_task(await read(layout, strict=True)).updates
    await records.write_tasks(run, [task_of("t")])
    assert the_task(await read(layout, strict=True)).updates == ()


async def test_links_and_ends_are_read_again(layout: Layout) -> None:
    run = await write_all(layout)
    await records.write_link(run, EXECUTOR)
    assert the_run(await read(layout, strict=True)).address == EXECUTOR
    await records.write_link(run, None)
    assert the_run(await read(layout, strict=True)).is_http
    await records.write_end(run)
    assert the_run(await read(layout, strict=True)).is_completed


async def test_resources_and_drain_are_read_again(layout: Layout) -> None:
    state = internal.ResourceState(
        resources=[v1.Resource(name="cpus", type=v1.Value.SCALAR, scalar=v1.Value.Scalar(value=1))]
    )
    await records.write_resources(layout, state)
    assert (await read(layout, strict=True)).resources == state
    await write_all(layout)
    drain = v1.DrainConfig(mark_gone=True)
    await records.write_drain(layout, "S0", drain)
    assert (await read(layout, strict=True)).drain == drain
    for _ in range(2):
        await records.write_drain(layout, "S0", None)
    agent = await read(layout, strict=True)
    assert (agent.drain, agent.resources) == (None, state)


@EXAMPLES
@given(IDS, IDS, IDS, IDS)
async def test_whatever_things_are_called(agent_id: str, framework: str, executor: str, task: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        layout = Layout(Path(directory))
        await write_all(layout, agent_id, framework, executor, task)
        agent = await read(layout, strict=True)
        assert agent.info == agent_info(agent_id)
        assert (agent.remains, the_task(agent).info) == ((), task_of(task, agent_id, framework))


async def test_the_bytes_are_those_of_mesos(layout: Layout) -> None:
    """Names are fields 1 of messages; the file of the address is text, and the link leads to the directory."""
    run = await write_all(layout)
    await records.write_framework(layout.records("S0").framework("g"), framework_info("g"))
    agent, framework = layout.records("S0"), layout.records("S0").framework("f")
    (info,) = messages(agent.info.read_bytes())
    assert (info[1], fields_of(info[6])) == (b"host", {1: b"S0"})
    (info,) = messages(framework.info.read_bytes())
    assert (info[1], info[2], fields_of(info[3]), info[5]) == (b"u", b"n", {1: b"f"}, 1)
    (info,) = messages(framework.executor("e").info.read_bytes())
    assert fields_of(info[1]) == {1: b"e"}
    (info,) = messages(run.task("t").info.read_bytes())
    assert (fields_of(info[2]), fields_of(info[3]), info[6]) == ({1: b"t"}, {1: b"f"}, v1.TASK_STAGING)
    assert framework.pid.read_text() == "scheduler-1@10.0.0.1:4444"
    assert agent.framework("g").pid.read_text() == "@0.0.0.0:0"
    assert framework.executor("e").generated.read_text() == "1"
    assert layout.latest.resolve() == agent.path
    assert framework.executor("e").latest.resolve() == run.path
    assert run.task("t").info.stat().st_mode & 0o777 == 0o600


async def test_only_the_last_run_counts(layout: Layout) -> None:
    run = await write_all(layout)
    executor = layout.records("S0").framework("f").executor("e")
    await records.write_executor(executor, executor_info(), "c2", [task_of("t2")], generated=False)
    agent = await read(layout, strict=True)
    assert (the_run(agent).container_id, the_task(agent).info) == ("c2", task_of("t2"))
    assert not agent.frameworks[0].executors[0].generated
    assert agent.remains == (run.path.relative_to(layout.meta),)


async def test_an_agent_with_a_new_id_begins_anew(layout: Layout) -> None:
    await write_all(layout)
    await records.write_agent(layout, agent_info("S1"))
    agent = await read(layout, strict=True)
    assert (agent.info, agent.frameworks, agent.remains) == (agent_info("S1"), (), (PurePath("slaves/S0"),))


async def test_what_a_crash_left_half_done_remains(layout: Layout) -> None:
    """Directories that lack what describes them, or the link to them, and sandboxes of what was never on record."""
    await write_all(layout)
    framework = layout.records("S0").framework("f")
    (framework.executor("no-info").run("c").path).mkdir(parents=True)
    framework.executor("empty").path.mkdir()
    framework.executor("empty").info.touch()
    await records.write_executor(framework.executor("no-link"), executor_info("no-link"), "c", [], generated=False)
    framework.executor("no-link").latest.unlink()
    await records.write_executor(framework.executor("dangling"), executor_info("dangling"), "c", [], generated=False)
    framework.executor("dangling").run("c").path.rmdir()
    layout.records("S0").framework("no-info").path.mkdir()
    layout.records("S9").path.mkdir()
    (layout.sandboxes("S0").framework("f").executor("e").run("older").path / "tasks").mkdir(parents=True)
    (layout.sandboxes("S0").framework("f").executor("e").run("c").path / "tasks" / "its own").mkdir(parents=True)
    layout.sandboxes("S0").framework("no-records").path.mkdir()
    (framework.executors / "back\\slash").mkdir()
    (framework.executor("e").run("c").tasks / "no-info").mkdir()
    agent = await read(layout, strict=True)
    assert {str(path) for path in agent.remains} == {
        "slaves/S0/frameworks/f/executors/back\\slash",
        "slaves/S0/frameworks/f/executors/dangling",
        "slaves/S0/frameworks/f/executors/e/runs/older",
        "slaves/S0/frameworks/f/executors/empty",
        "slaves/S0/frameworks/f/executors/no-info",
        "slaves/S0/frameworks/f/executors/no-link",
        "slaves/S0/frameworks/no-info",
        "slaves/S0/frameworks/no-records",
        "slaves/S9",
    }
    assert the_task(agent).info == task_of()


async def test_an_agent_that_died_before_it_was_registered(layout: Layout) -> None:
    await write_all(layout)
    layout.latest.unlink()
    assert await read(layout, strict=True) == RecoveredAgent(remains=(PurePath("slaves/S0"),))
    layout.latest.symlink_to("gone")
    assert (await read(layout, strict=True)).info is None


# Updates.


async def with_updates(run: RunPaths, *, acknowledged: int = 1) -> list[internal.StatusUpdate]:
    """Two updates of the task, of which the first are acknowledged."""
    sent = Sent()
    updates = [update_of(RUNNING), update_of(FINISHED)]
    for update in updates:
        await sent.updates.update(update, run.task("t").updates)
    for update in updates[:acknowledged]:
        await sent.updates.acknowledge("f", "t", update.uuid)
    return updates


async def test_updates_are_taken_up_where_they_were(layout: Layout) -> None:
    run = await write_all(layout)
    first, last = await with_updates(run)
    agent = await read(layout, strict=True)
    assert the_task(agent).updates == (first, last)
    assert the_task(agent).acknowledged == {first.uuid}
    sent = Sent()
    sent.updates.recover(agent)
    sent.updates.resume()
    assert sent.uuids == [last.uuid]
    await sent.updates.update(first, run.task("t").updates)
    assert await sent.updates.acknowledge("f", "t", first.uuid) is None
    assert await sent.updates.acknowledge("f", "t", last.uuid) == last
    assert the_task(await read(layout, strict=True)).acknowledged == {first.uuid, last.uuid}


@pytest.mark.parametrize("completed", [False, True])
async def test_what_has_come_to_its_end_is_not_taken_up(layout: Layout, completed: bool) -> None:
    run = await write_all(layout)
    await with_updates(run, acknowledged=1 if completed else 2)
    if completed:
        await records.write_end(run)
    sent = Sent()
    sent.updates.recover(await read(layout, strict=True))
    sent.updates.resume()
    assert sent.found == []
    with pytest.raises(ValueError, match="waits for"):
        await sent.updates.acknowledge("f", "t", uuid.uuid4().bytes)


@EXAMPLES
@given(st.data())
async def test_a_record_that_is_cut_off_is_as_if_it_had_not_come(data: st.DataObject) -> None:
    """Wherever a crash cuts the file: what is before it counts, and what comes next is written in its place."""
    with tempfile.TemporaryDirectory() as directory:
        layout = Layout(Path(directory))
        run = await write_all(layout)
        first, last = await with_updates(run)
        file = run.task("t").updates
        whole = file.read_bytes()
        size = data.draw(st.integers(0, len(whole)), "size")
        file.write_bytes(whole[:size])
        agent = await read(layout, strict=True)
        task = the_task(agent)
        assert file.read_bytes() == whole[: task.size]
        assert list(task.updates) == [first, last][: len(task.updates)]
        sent = Sent()
        sent.updates.recover(agent)
        await sent.updates.update(again := update_of(), file)
        assert the_task(await read(layout, strict=True)).updates == (*task.updates, again)
        assert agent.errors == 0


@pytest.mark.parametrize("zeros", [1, 4, 5000])
async def test_zeros_are_no_records(layout: Layout, zeros: int) -> None:
    """What some file systems have at the end of a file after a crash."""
    run = await write_all(layout)
    updates = await with_updates(run)
    file = run.task("t").updates
    whole = file.read_bytes()
    file.write_bytes(whole + b"\0" * zeros)
    assert the_task(await read(layout, strict=True)).updates == tuple(updates)
    assert file.read_bytes() == whole


async def test_updates_that_are_damaged_are_kept_as_far_as_they_can_be_read(layout: Layout) -> None:
    run = await write_all(layout)
    first, _ = await with_updates(run)
    file = run.task("t").updates
    whole = file.read_bytes()
    (length, *_), rest = whole, whole[4 + whole[0] :]
    file.write_bytes(whole[: 4 + length] + rest[:4] + b"\xff" * rest[0] + rest[4 + rest[0] :])
    with pytest.raises(RecoveryError, match=f"{file} is damaged"):
        await read(layout, strict=True)
    agent = await read(layout, strict=False)
    assert (agent.errors, the_task(agent).updates) == (1, (first,))
    assert [path.name for path in layout.damaged.glob("*/*")] == ["task.updates"]
    assert (await read(layout, strict=True)).errors == 0


# Damage.

FILES = {
    "slave.info": 0,
    "framework.info": 0,
    "framework.pid": 1,
    "executor.info": 0,
    "executor_generated_for_command_task": 1,
    "libprocess.pid": 1,
    "task.info": 0,
    "drain.config": 1,
    "resources_and_operations.state": 1,
}
"""All files with a content, and whether the task is still known without it."""


async def write_files(layout: Layout) -> None:
    await records.write_link(await write_all(layout), EXECUTOR)
    await records.write_drain(layout, "S0", v1.DrainConfig(mark_gone=True))
    operation = v1.Operation(uuid=v1.UUID(value=b"u" * 16))
    operation.info.type = v1.Offer.Operation.RESERVE
    operation.latest_status.state = v1.OPERATION_PENDING
    await records.write_resources(layout, internal.ResourceState(operations=[operation]))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (name, damage)
        for name in FILES
        for damage in ("other", "cut", "directory", "followed")
        if damage != "cut" or not name.endswith(("pid", "task"))  # A part of a text may be another text.
    ],
)
async def test_a_damaged_file_is_refused_or_set_aside(layout: Layout, name: str, damage: str) -> None:
    await write_files(layout)
    (file,) = layout.meta.rglob(name)
    if damage == "directory":
        file.unlink()
        file.mkdir()
    else:
        content = file.read_bytes()
        file.write_bytes({"other": b"\xff" * 9, "cut": content[:-1], "followed": content + b"!"}[damage])
    with pytest.raises(RecoveryError, match=f"{file} is damaged.*--no-strict"):
        await read(layout, strict=True)
    agent = await read(layout, strict=False)
    assert agent.errors == 1
    assert not file.exists()
    assert [path.name for path in layout.damaged.glob("*/*")] == [name]
    known = [task for framework in agent.frameworks for e in framework.executors for task in e.run.tasks]
    assert len(known) == FILES[name]
    again = await read(layout, strict=True)
    assert again == RecoveredAgent(agent.info, agent.frameworks, agent.drain, agent.resources, agent.remains)


async def test_a_file_in_anothers_directory_is_damage(layout: Layout) -> None:
    await write_all(layout)
    layout.records("S0").framework("f").path.rename(layout.records("S0").framework("g").path)
    with pytest.raises(RecoveryError, match=r"framework\.info is damaged: it is that of 'f'"):
        await read(layout, strict=True)


@EXAMPLES
@given(st.data())
async def test_damage_anywhere_is_told_or_makes_no_difference_to_the_form(data: st.DataObject) -> None:
    """A byte of one file is another one: what comes of it has the file's name, or is a tree with all its types."""
    with tempfile.TemporaryDirectory() as directory:
        layout = Layout(Path(directory))
        await write_files(layout)
        file = data.draw(st.sampled_from(sorted(path for path in layout.meta.rglob("*") if path.is_file())))
        content = bytearray(file.read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        file.write_bytes(content)
        with contextlib.suppress(RecoveryError):
            assert (await read(layout, strict=True)).errors == 0
        agent = await read(layout, strict=False)
        assert agent.errors == len(list(layout.damaged.glob("*/*")))


async def test_a_crash_between_any_two_steps_leaves_what_can_be_read(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every rename is one step: before each, the writer dies. What it had not begun with is as it was before."""
    await write_all(layout)
    before = await read(layout, strict=True)
    steps = 0

    class Killed(BaseException):
        pass

    def rename(self: Path, target: Path) -> Path:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        return renamed(self, target)

    renamed = Path.rename
    while True:
        copy = Layout(layout.work_dir.with_name(f"copy-{steps}"))
        shutil.copytree(layout.work_dir, copy.work_dir, symlinks=True)
        left, killed = steps, False
        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", rename)
            executor = copy.records("S0").framework("f").executor("e")
            try:
                await records.write_executor(executor, executor_info(), "c2", [task_of("t2")], generated=True)
            except Killed:
                killed = True
        agent = await read(copy, strict=True)
        assert the_run(agent).container_id == ("c" if killed else "c2")
        assert agent.frameworks[0].executors[0].info == before.frameworks[0].executors[0].info
        if not killed:
            assert steps == 4
            return
        steps += 1


class Unsynced(set[str]):
    """The files and directories with something that a crash of the machine could lose."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self._rename, self._mkdir = Path.rename, Path.mkdir
        patch.setattr(os, "fsync", lambda descriptor: self.discard(_name_of(descriptor)))
        patch.setattr(Path, "rename", lambda path, target: self.rename(path, target))
        patch.setattr(Path, "mkdir", lambda path, **options: self.mkdir(path, **options))
        patch.setattr(disk, "_write", self.write)

    def rename(self, path: Path, target: Path) -> Path:
        if str(path) in self:
            self.add(str(target))
        self.discard(str(path))
        self.add(str(target.parent))
        return self._rename(path, target)

    def mkdir(self, path: Path, exist_ok: bool = False) -> None:
        self.add(str(path.parent))
        self._mkdir(path, exist_ok=exist_ok)

    def write(self, file: FileIO, data: bytes) -> None:
        self.add(_name_of(file.fileno()))
        file.write(data)


def _name_of(descriptor: int) -> str:
    return str(Path(f"/proc/self/fd/{descriptor}").readlink())


async def test_what_a_master_knows_is_on_the_disk(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    unsynced = Unsynced(monkeypatch)
    await records.write_agent(layout, agent_info())
    await records.write_framework(layout.records("S0").framework("f"), framework_info())
    await records.write_resources(layout, internal.ResourceState())
    await records.write_drain(layout, "S0", v1.DrainConfig())
    await records.write_drain(layout, "S0", None)
    assert unsynced == set()


async def test_the_first_update_takes_to_the_disk_what_it_is_about(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    await records.write_agent(layout, agent_info())
    await records.write_framework(layout.records("S0").framework("f"), framework_info())
    unsynced = Unsynced(monkeypatch)
    executor = layout.records("S0").framework("f").executor("e")
    await records.write_executor(executor, executor_info(), "c", [task_of()], generated=True)
    assert str(executor.info) in unsynced

    async def nothing_is_lost(update: internal.StatusUpdate) -> None:
        await updates.update(update, executor.run("c").task("t").updates)
        assert unsynced == set()

    updates = StatusUpdates(lambda _: None)
    first = update_of(RUNNING)
    await nothing_is_lost(first)
    await nothing_is_lost(update_of(FINISHED))
    await updates.acknowledge("f", "t", first.uuid)
    assert unsynced == set()
    await updates.close()


def test_the_address_of_nobody() -> None:
    assert NOBODY.is_nobody
    assert str(NOBODY) == "@0.0.0.0:0"


async def test_the_same_may_be_written_at_the_same_time(layout: Layout) -> None:
    """As by two executors of a framework that both find it is not on record."""
    framework = layout.records("S0").framework("f")
    await asyncio.gather(*(records.write_framework(framework, framework_info()) for _ in range(20)))
    assert [path.name for path in sorted(framework.path.iterdir())] == ["framework.info", "framework.pid"]
