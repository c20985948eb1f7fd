"""Status updates: on disk before all else, one at a time, again until acknowledged, and no longer than that."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import uuid
from collections.abc import Callable
from io import FileIO
from pathlib import Path

import pytest

from mesocosm.agent.tasks import disk, records
from mesocosm.agent.tasks.paths import Layout
from mesocosm.agent.tasks.states import TERMINAL
from mesocosm.agent.tasks.updates import StatusUpdates
from mesocosm.api import internal, v1
from tests.unit.stout import decode

RUNNING, FINISHED = v1.TASK_RUNNING, v1.TASK_FINISHED


class Timers:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waiting: list[asyncio.TimerHandle] = []

    def call_later(self, delay: float, function: Callable[[], None]) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(self.now + delay, function, (), asyncio.get_running_loop())
        self.waiting.append(handle)
        return handle

    def pass_until(self, now: float) -> None:
        while due := [timer for timer in self.waiting if not timer.cancelled() and timer.when() <= now]:
            first = min(due)
            self.waiting.remove(first)
            self.now = first.when()
            first._run()
        self.now = now


class Sent:
    """A stream of updates, and what came out of it, when."""

    def __init__(self) -> None:
        self.timers = Timers()
        self.found: list[tuple[float, internal.StatusUpdate]] = []
        self.updates = StatusUpdates(self._send, self.timers.call_later)

    def _send(self, update: internal.StatusUpdate) -> None:
        self.found.append((self.timers.now, update))

    @property
    def uuids(self) -> list[bytes]:
        return [update.uuid for _, update in self.found]

    @property
    def times(self) -> list[float]:
        return [when for when, _ in self.found]


def update_of(
    state: v1.TaskState = RUNNING, task: str = "t", framework: str = "f", name: bytes | None = None
) -> internal.StatusUpdate:
    update = internal.StatusUpdate(timestamp=1.0, uuid=uuid.uuid4().bytes if name is None else name)
    update.framework_id.value = framework
    update.status.task_id.value = task
    update.status.state = state
    return update


@pytest.fixture
async def record(tmp_path: Path) -> Path:
    """Where the updates of a task are written whose executor is on record."""
    executor = Layout(tmp_path).records("S0").framework("f").executor("e")
    info = v1.ExecutorInfo(executor_id=v1.ExecutorID(value="e"))
    task = v1.Task(name="task", state=v1.TASK_STAGING)
    task.task_id.value, task.framework_id.value, task.agent_id.value = "t", "f", "S0"
    await records.write_executor(executor, info, "c", [task], generated=False)
    return executor.run("c").task("t").updates


@pytest.fixture
def sent() -> Sent:
    return Sent()


async def test_one_update_at_a_time(sent: Sent) -> None:
    """The next one goes out when the one before is acknowledged, and the end of the last ends the stream."""
    sent.updates.resume()
    first, second, last = update_of(v1.TASK_STARTING), update_of(RUNNING), update_of(FINISHED)
    for update in (first, second, last):
        await sent.updates.update(update, None)
    assert sent.uuids == [first.uuid]
    assert await sent.updates.acknowledge("f", "t", first.uuid) == first
    assert sent.uuids == [first.uuid, second.uuid]
    await sent.updates.acknowledge("f", "t", second.uuid)
    await sent.updates.acknowledge("f", "t", last.uuid)
    assert sent.uuids == [first.uuid, second.uuid, last.uuid]
    with pytest.raises(ValueError, match="waits for an acknowledgement"):
        await sent.updates.acknowledge("f", "t", last.uuid)
    sent.timers.pass_until(1e6)
    assert len(sent.found) == 3


async def test_an_update_is_sent_again_later_and_later(sent: Sent) -> None:
    sent.updates.resume()
    update = update_of()
    await sent.updates.update(update, None)
    sent.timers.pass_until(2000)
    assert sent.times == [0, 10, 30, 70, 150, 310, 630, 1230, 1830]
    await sent.updates.acknowledge("f", "t", update.uuid)
    sent.timers.pass_until(1e6)
    assert len(sent.found) == 9


async def test_the_next_update_begins_anew(sent: Sent) -> None:
    sent.updates.resume()
    first, second = update_of(), update_of()
    await sent.updates.update(first, None)
    await sent.updates.update(second, None)
    sent.timers.pass_until(100)
    await sent.updates.acknowledge("f", "t", first.uuid)
    sent.timers.pass_until(130)
    assert sent.times == [0, 10, 30, 70, 100, 110, 130]


async def test_tasks_do_not_wait_for_each_other(sent: Sent) -> None:
    sent.updates.resume()
    updates = [update_of(task="a"), update_of(task="b"), update_of(task="a", framework="g")]
    await asyncio.gather(*(sent.updates.update(update, None) for update in updates))
    assert sorted(sent.uuids) == sorted(update.uuid for update in updates)


async def test_nothing_is_sent_while_there_is_no_master(sent: Sent) -> None:
    update = update_of()
    await sent.updates.update(update, None)
    sent.timers.pass_until(50)
    assert sent.found == []
    sent.updates.resume()
    sent.timers.pass_until(60)
    sent.updates.pause()
    sent.timers.pass_until(500)
    assert sent.times == [50, 60]
    sent.updates.resume()
    sent.timers.pass_until(510)
    assert sent.times == [50, 60, 500, 510]


async def test_an_update_that_comes_again_is_taken_once(sent: Sent) -> None:
    sent.updates.resume()
    update = update_of()
    await asyncio.gather(*(sent.updates.update(update, None) for _ in range(3)))
    await sent.updates.acknowledge("f", "t", update.uuid)
    await sent.updates.update(update, None)
    assert sent.uuids == [update.uuid]


async def test_what_was_acknowledged_before_changes_nothing(sent: Sent) -> None:
    """Each time an update was sent it may be acknowledged."""
    sent.updates.resume()
    first, second = update_of(), update_of()
    for update in (first, second):
        await sent.updates.update(update, None)
    await sent.updates.acknowledge("f", "t", first.uuid)
    assert await sent.updates.acknowledge("f", "t", first.uuid) is None
    with pytest.raises(ValueError, match="is not the update"):
        await sent.updates.acknowledge("f", "t", uuid.uuid4().bytes)
    assert await sent.updates.acknowledge("f", "t", second.uuid) == second
    with pytest.raises(ValueError, match="is not the update"):
        await sent.updates.acknowledge("f", "t", uuid.uuid4().bytes)


@pytest.mark.parametrize("wrong", [b"", b"\0" * 15, b"\0" * 17])
async def test_an_update_needs_a_uuid(sent: Sent, wrong: bytes) -> None:
    with pytest.raises(ValueError, match="UUID"):
        await sent.updates.update(update_of(name=wrong), None)


async def test_a_framework_that_is_gone_is_told_nothing(sent: Sent) -> None:
    sent.updates.resume()
    await sent.updates.update(update_of(framework="f"), None)
    other = update_of(framework="g")
    await sent.updates.update(other, None)
    sent.updates.cleanup("f")
    sent.updates.cleanup("f")
    sent.timers.pass_until(10)
    assert sent.uuids[2:] == [other.uuid]


async def test_a_framework_may_go_while_its_updates_are_written(
    sent: Sent, record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent.updates.resume()
    loop, append = asyncio.get_running_loop(), disk.append

    async def cleanup() -> None:
        sent.updates.cleanup("f")

    def interrupted(path: Path, position: int, message: internal.StatusUpdateRecord) -> int:
        asyncio.run_coroutine_threadsafe(cleanup(), loop).result()
        return append(path, position, message)

    with monkeypatch.context() as patch:
        patch.setattr(disk, "append", interrupted)
        await sent.updates.update(update_of(), record)
    await sent.updates.update(first := update_of(), record)
    with monkeypatch.context() as patch:
        patch.setattr(disk, "append", interrupted)
        assert await sent.updates.acknowledge("f", "t", first.uuid) is None
    sent.timers.pass_until(1e6)
    assert sent.uuids == [first.uuid]


async def test_all_is_on_record_in_mesoss_form(sent: Sent, record: Path) -> None:
    """Before it is sent: what is sent has to be in the file already."""
    seen: list[int] = []
    updates = StatusUpdates(lambda _: seen.append(len(decode(record.read_bytes()))), sent.timers.call_later)
    updates.resume()
    first, last = update_of(), update_of(FINISHED)
    await updates.update(first, record)
    await updates.update(last, record)
    await updates.acknowledge("f", "t", first.uuid)
    await updates.acknowledge("f", "t", last.uuid)
    assert decode(record.read_bytes()) == [(0, first.uuid), (0, last.uuid), (1, first.uuid), (1, last.uuid)]
    assert seen == [1, 3]


async def test_a_stream_has_one_record(sent: Sent, record: Path) -> None:
    await sent.updates.update(update_of(), record)
    with pytest.raises(ValueError, match="not in None"):
        await sent.updates.update(update_of(), None)


class FullDisk:
    """A disk that takes a part of what is written and refuses the rest, the first times."""

    def __init__(self, patch: pytest.MonkeyPatch, times: int, number: int = errno.ENOSPC) -> None:
        self.times, self._number, self._write = times, number, disk._write
        self.refused = threading.Event()
        patch.setattr(disk, "_write", self.write)
        patch.setattr(disk, "_SOON", 0.0)

    def write(self, file: FileIO, data: bytes) -> None:
        if self.times == 0:
            return self._write(file, data)
        self.times -= 1
        file.write(data[:30])
        self.refused.set()
        raise OSError(self._number, os.strerror(self._number))


async def test_what_finds_no_room_on_the_disk_waits(
    sent: Sent, record: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of what the disk took a part, nothing is left in the way of the next attempt."""
    first, second = update_of(), update_of()
    sent.updates.resume()
    for times in (2, 1):
        FullDisk(monkeypatch, times)
        await sent.updates.update(first if times == 2 else second, record)
    FullDisk(monkeypatch, 3)
    await sent.updates.acknowledge("f", "t", first.uuid)
    assert decode(record.read_bytes()) == [(0, first.uuid), (0, second.uuid), (1, first.uuid)]
    assert sent.uuids == [first.uuid, second.uuid]
    assert caplog.text.count(f"No space left on device: '{record}'") == 6


async def test_what_waits_for_room_ends_with_the_agent(
    sent: Sent, record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = FullDisk(monkeypatch, 10**9)
    writing = asyncio.create_task(sent.updates.update(update_of(), record))
    await asyncio.to_thread(full.refused.wait)
    await sent.updates.close()
    with pytest.raises(asyncio.CancelledError):
        await writing


async def test_an_update_that_cannot_be_written_is_as_if_it_had_not_come(
    sent: Sent, record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = update_of(), update_of()
    sent.updates.resume()
    await sent.updates.update(first, record)
    FullDisk(monkeypatch, 2, errno.EIO)
    with pytest.raises(OSError, match=f"Input/output error.*{record}"):
        await sent.updates.update(second, record)
    with pytest.raises(OSError, match="Input/output error"):
        await sent.updates.acknowledge("f", "t", first.uuid)
    await sent.updates.acknowledge("f", "t", first.uuid)
    await sent.updates.update(second, record)
    assert decode(record.read_bytes()) == [(0, first.uuid), (1, first.uuid), (0, second.uuid)]
    assert sent.uuids == [first.uuid, second.uuid]


async def test_who_asked_may_go_but_the_work_is_done(sent: Sent, record: Path) -> None:
    asking = asyncio.create_task(sent.updates.update(update := update_of(), record))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking])
    await sent.updates.update(update, record)
    assert decode(record.read_bytes()) == [(0, update.uuid)]
    sent.updates.resume()
    assert sent.uuids == [update.uuid]


def test_terminal_states() -> None:
    living = {"TASK_STAGING", "TASK_STARTING", "TASK_RUNNING", "TASK_KILLING", "TASK_UNREACHABLE", "TASK_UNKNOWN"}
    assert {v1.TaskState.Name(state) for state in TERMINAL} == set(v1.TaskState.keys()) - living
