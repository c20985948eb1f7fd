"""What a task's executor does, to no effect, and often enough that the interpreter specializes the code (PEP 659).

The executors that are forked afterwards inherit that, and write to fewer pages that they share.
"""

from __future__ import annotations

import asyncio
import functools
import json
import signal
import socket
from dataclasses import dataclass, field

from mesocosm.api.recordio import encode
from mesocosm.executors import base
from mesocosm.executors.command import CommandExecutor
from mesocosm.executors.http import Address
from mesocosm.executors.settings import Settings
from mesocosm.executors.statuses import Json
from mesocosm.launcher.info import Command

_TIMES = 20
_HEADERS = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
_ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"
_NOT_EXECUTABLE = Command("/", ("/",))


def rehearse() -> None:
    """Has an executor subscribe, launch what cannot be executed, say so, and end."""
    before = signal.getsignal(signal.SIGCHLD)
    try:
        for _ in range(_TIMES):
            create = functools.partial(CommandExecutor, _NOT_EXECUTABLE)
            asyncio.run(base.live(Settings("framework", "executor", (_Stage(),)), create))
    finally:
        signal.signal(signal.SIGCHLD, before)


@dataclass(frozen=True, slots=True)
class _Stage(Address):
    """An agent in the same process."""

    events: asyncio.Queue[Json] = field(default_factory=asyncio.Queue)
    serving: set[asyncio.Task[None]] = field(default_factory=set)

    async def connect(self) -> socket.socket:
        """One end of a pair, whose other end an agent serves."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.serving.add(asyncio.ensure_future(self._serve(theirs)))
        return ours

    async def _serve(self, line: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=line)
        try:
            while headers := await reader.readuntil(b"\r\n\r\n"):
                length = int(headers.lower().partition(b"content-length:")[2].split()[0])
                await self._answer(json.loads(await reader.readexactly(length)), writer)
        except asyncio.IncompleteReadError:
            pass  # The executor has ended.
        finally:
            writer.close()

    async def _answer(self, call: Json, writer: asyncio.StreamWriter) -> None:
        if call["type"] == "UPDATE":
            writer.write(_ACCEPTED)
            status = call["update"]["status"]
            acknowledged = {"task_id": status["task_id"], "uuid": status["uuid"]}
            self.events.put_nowait({"type": "ACKNOWLEDGED", "acknowledged": acknowledged})
            return
        writer.write(_HEADERS)
        self.events.put_nowait({"type": "SUBSCRIBED", "subscribed": {"framework_info": {}}})
        self.events.put_nowait({"type": "LAUNCH", "launch": {"task": {"task_id": {"value": "task"}}}})
        while True:
            record = encode(json.dumps(await self.events.get()).encode())
            writer.write(b"%x\r\n%b\r\n" % (len(record), record))
