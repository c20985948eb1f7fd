"""One run of a container of Docker, by a client that is attached to it: how it begins, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mesocosm.docker.client import Docker
from mesocosm.docker.values import Container, DockerError
from mesocosm.executors.client import say
from mesocosm.external import Execution, how_ended
from mesocosm.linux import process
from mesocosm.linux.poll import readable

_PATIENCE = 5.0
"""Seconds that Docker has to describe a container, before it is asked again (DOCKER_INSPECT_TIMEOUT)."""
_AGAIN = 0.5
"""Seconds until it is asked again (DOCKER_INSPECT_DELAY)."""
_TOLD_WITHIN = 60.0
"""Seconds that it may take to be told that a container has started, before Docker is asked whether it has."""
_REPORTED_WITHIN = 60.0
"""Seconds that the client may go on after the container has ended: there are daemons that miss that (moby#33820)."""
_REAPED_WITHIN = 1.0
"""Seconds that the container may go on after its client has ended."""
_STDOUT, _STDERR = 1, 2


class Attachment:
    """The run. `described` is what Docker says of the container that has started, as far as that is known."""

    def __init__(self, docker: Docker, name: str) -> None:
        self._docker = docker
        self._name = name
        self._client: Execution | None = None
        self._detached: asyncio.Future[None] | None = None
        self.container: Container | None = None
        self.described: Mapping[str, Any] = {}
        self.pidfd: int | None = None
        """Of the first process in the container, while that may be asked for."""
        self._killed = False

    async def start(self) -> None:
        """Starts the container, and returns when it has started. Raises DockerError if it does not."""
        begun = time.time()
        self._client = self._docker.start_attached(self._name, _STDOUT, _STDERR)
        self._detached = asyncio.ensure_future(self._client.converse())
        event = asyncio.ensure_future(self._docker.event(self._name, "start", since=begun))
        try:
            await asyncio.wait([self._detached, event], return_when=asyncio.FIRST_COMPLETED, timeout=_TOLD_WITHIN)
        finally:
            event.cancel()
            with contextlib.suppress(asyncio.CancelledError, DockerError):
                await event  # Without it, Docker is asked as well.
        await self._find(self._detached)

    async def _find(self, detached: asyncio.Future[None]) -> None:
        """Has it described. One that has ended may be so only once, if Docker does not answer."""
        while True:
            last = detached.done()
            try:
                async with asyncio.timeout(_PATIENCE):
                    self.described = await self._docker.describe(self._name)
                self.container = Container.of(self.described)
            except (DockerError, TimeoutError) as error:
                say(f"Docker does not describe the container: {error}")
            if self.container is not None and self.container.started:
                self.pidfd = _open(self.container)
                return
            if last:
                break
            await asyncio.wait([detached], timeout=_AGAIN)
        if self.container is not None:
            status = await self._end()
            raise DockerError(
                self.container.error or f"its client failed: {how_ended(status, b'')}, and says why in stderr"
            )

    async def ended(self) -> int:
        """Its exit status, when it has ended. Raises DockerError if that cannot be known."""
        assert self._detached is not None
        if self.pidfd is not None:
            gone = asyncio.ensure_future(readable(self.pidfd))
            try:
                await self._ended(self._detached, gone)
            finally:
                gone.cancel()
        await asyncio.wait([self._detached])
        return await self._end()

    async def _ended(self, detached: asyncio.Future[None], gone: asyncio.Future[None]) -> None:
        """Returns when both the container and its client have."""
        await asyncio.wait([detached, gone], return_when=asyncio.FIRST_COMPLETED)
        if gone.done():
            await asyncio.wait([detached], timeout=_PATIENCE if self._killed else _REPORTED_WITHIN)
            if not detached.done():
                raise DockerError("Docker does not say how it has ended")
            return
        await asyncio.wait([gone], timeout=_REAPED_WITHIN)
        if not gone.done():  # Nobody would see what it prints, nor its end.
            self.kill()
            await gone
            raise DockerError(f"its client ended before it, with {how_ended(await self._end(), b'')}; it was killed")

    def kill(self) -> None:
        """Ends it without Docker, if its first process is known."""
        if self.pidfd is not None:
            self._killed = True
            process.send_signal(self.pidfd, signal.SIGKILL)

    async def _end(self) -> int:
        """The status of the client, which has been told its container's."""
        client, self._client = self._client, None
        assert client is not None
        return await client.end()

    async def close(self) -> None:
        """Ends the client, and with it nothing but that."""
        if self._detached is not None:
            self._detached.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._detached
        if self._client is not None:
            await self._end()
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None


def _open(container: Container) -> int | None:
    """The pidfd of its first process; None if that has ended, or is not to be seen from here.

    Its cgroup has the container's id: another process that got its pid has not.
    """
    if container.pid is None:
        return None
    pidfd = process.open_process(container.pid)
    if pidfd is None:
        return None
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        if container.id in Path(f"/proc/{container.pid}/cgroup").read_text():
            return pidfd
    os.close(pidfd)
    return None
