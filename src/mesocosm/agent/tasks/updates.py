"""Status updates on their way to the master: each until it is acknowledged, and those of a task in their order.

As Mesos's task status update manager: what an executor has said of a task is on the disk before the executor is told
that the agent has it, and goes to the master one update at a time, until the framework has acknowledged that one.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mesocosm.agent.tasks import disk
from mesocosm.agent.tasks.paths import TaskPaths
from mesocosm.agent.tasks.recovery import RecoveredAgent, RecoveredTask
from mesocosm.agent.tasks.states import is_terminal
from mesocosm.api import internal
from mesocosm.concurrency import Work

logger = logging.getLogger(__name__)

FIRST_RETRY = 10.0
"""Seconds after which an update that is not acknowledged is sent again (STATUS_UPDATE_RETRY_INTERVAL_MIN)."""
LONGEST_RETRY = 600.0
"""To which that time is doubled, again and again (STATUS_UPDATE_RETRY_INTERVAL_MAX)."""

_UUID = 16

CallLater = Callable[[float, Callable[[], None]], asyncio.TimerHandle]
"""Calls a function after some seconds, unless that is cancelled."""
_Key = tuple[str, str]
"""The ids of a framework and of its task."""


@dataclass(slots=True, eq=False)
class _Stream:
    """The updates of one task. `record` is its file, `size` how much of that is valid."""

    record: Path | None
    size: int = 0
    pending: deque[internal.StatusUpdate] = field(default_factory=deque)
    received: set[bytes] = field(default_factory=set)
    acknowledged: set[bytes] = field(default_factory=set)
    closed: bool = False
    timer: asyncio.TimerHandle | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def stop(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


def _call_later(delay: float, function: Callable[[], None]) -> asyncio.TimerHandle:
    return asyncio.get_running_loop().call_later(delay, function)


class StatusUpdates:
    """One stream of updates for each task, from its first update to the acknowledgement of its last.

    Nothing is sent before `resume`. `send` returns at once; what it sends may be lost.
    """

    def __init__(self, send: Callable[[internal.StatusUpdate], None], call_later: CallLater = _call_later) -> None:
        self._send = send
        self._call_later = call_later
        self._paused = True
        self._streams: dict[_Key, _Stream] = {}
        self._work = Work()

    async def update(self, update: internal.StatusUpdate, record: Path | None) -> None:
        """Takes an update: when this returns it is on the disk in `record`, if that is given, and will be sent.

        It waits where the disk is full. One that has been taken before is none the less a success, as the executor may
        not know. Raises ValueError for one that cannot be acknowledged, or whose stream has another record; OSError if
        it cannot be written, and then it is as if it had not come.
        """
        if len(update.uuid) != _UUID:
            raise ValueError(f"a status update of the task {update.status.task_id.value} has no UUID of 16 bytes")
        await self._work.finish(self._update(update, record))

    async def acknowledge(self, framework_id: str, task_id: str, uuid: bytes) -> internal.StatusUpdate | None:
        """Puts on record that the framework knows the oldest update of a task; the next one is sent.

        Returns the update; None for one that was acknowledged before, as each time it was sent is acknowledged. If its
        state is terminal, the stream is closed, and the task unknown here. Raises ValueError for what acknowledges
        nothing that is waited for, and OSError if it cannot be written.
        """
        return await self._work.finish(self._acknowledge((framework_id, task_id), uuid))

    def pause(self) -> None:
        """Sends nothing until `resume`: there is no master."""
        self._paused = True
        for stream in self._streams.values():
            stream.stop()

    def resume(self) -> None:
        """Sends the oldest update of each task, also if it has been sent to another master."""
        self._paused = False
        for stream in self._streams.values():
            self._forward(stream)

    def cleanup(self, framework_id: str) -> None:
        """Forgets the updates of a framework that is gone: nobody will acknowledge them."""
        for key in [key for key in self._streams if key[0] == framework_id]:
            self._close(key)

    def recover(self, agent: RecoveredAgent) -> None:
        """Takes up what an earlier agent has not seen acknowledged. Before anything else is taken."""
        for framework in agent.frameworks:
            for executor in framework.executors:
                if not executor.run.is_completed:
                    for task in executor.run.tasks:
                        self._replay((framework.info.id.value, task.info.task_id.value), task)

    def _replay(self, key: _Key, task: RecoveredTask) -> None:
        pending = [update for update in task.updates if update.uuid not in task.acknowledged]
        ended = any(is_terminal(update.status.state) for update in task.updates if update.uuid in task.acknowledged)
        if task.updates and not ended:
            received = {update.uuid for update in task.updates}
            self._streams[key] = _Stream(
                task.paths.updates, task.size, deque(pending), received, set(task.acknowledged)
            )

    async def close(self) -> None:
        """Sends no more. What is being written is; what waits for room on the disk is as if it had not come."""
        self.pause()
        await self._work.stop()

    async def _update(self, update: internal.StatusUpdate, record: Path | None) -> None:
        key = (update.framework_id.value, update.status.task_id.value)
        stream = self._streams.setdefault(key, _Stream(record))
        if stream.record != record:
            raise ValueError(f"updates of the task {key[1]} are in {stream.record}, not in {record}")
        async with stream.lock:
            if update.uuid in stream.received or stream.closed:
                logger.info("an update of the task %s came again, or after its end", key[1])
                return
            written = internal.StatusUpdateRecord(type=internal.StatusUpdateRecord.UPDATE, update=update)
            await _write(stream, written)
            stream.received.add(update.uuid)
            stream.pending.append(written.update)
            if len(stream.pending) == 1:
                self._forward(stream)

    async def _acknowledge(self, key: _Key, uuid: bytes) -> internal.StatusUpdate | None:
        stream = self._streams.get(key)
        if stream is None:
            raise ValueError(f"no update of the task {key[1]} of the framework {key[0]} waits for an acknowledgement")
        async with stream.lock:
            if uuid in stream.acknowledged:
                return None
            if not stream.pending or stream.pending[0].uuid != uuid:
                raise ValueError(f"{uuid.hex()} is not the update of the task {key[1]} that was sent")
            await _write(stream, internal.StatusUpdateRecord(type=internal.StatusUpdateRecord.ACK, uuid=uuid))
            if stream.closed:
                return None  # Its framework was removed meanwhile.
            update = stream.pending.popleft()
            stream.acknowledged.add(uuid)
            if is_terminal(update.status.state):
                self._close(key)
            else:
                self._forward(stream)
            return update

    def _forward(self, stream: _Stream, delay: float = FIRST_RETRY) -> None:
        """Sends the oldest update, and once more after `delay` seconds, and so on."""
        stream.stop()
        if self._paused or stream.closed or not stream.pending:
            return
        self._send(stream.pending[0])
        later = min(2 * delay, LONGEST_RETRY)
        stream.timer = self._call_later(delay, lambda: self._forward(stream, later))

    def _close(self, key: _Key) -> None:
        stream = self._streams.pop(key)
        stream.closed = True
        stream.stop()
        if stream.pending:
            logger.warning("%d updates of the task %s are dropped", len(stream.pending), key[1])
            stream.pending.clear()


async def _write(stream: _Stream, record: internal.StatusUpdateRecord) -> None:
    """Returns when the record is on the disk, the first one of a task with what says what it is about."""
    if (path := stream.record) is None:
        return

    async def write() -> int:
        end = await asyncio.to_thread(disk.append, path, stream.size, record)
        await disk.sync_all([path] if stream.size else [path, *TaskPaths(path.parent).described_by])
        return end

    stream.size = await disk.when_there_is_room(write)
