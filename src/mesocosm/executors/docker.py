"""The Docker executor: one task that is a container of Docker (Mesos: `mesos-docker-executor`, docker/executor.cpp).

It is a process beside Docker's daemon, and has no container of its own. What the task prints comes by a client of
Docker, which is the executor's child.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import json
import os
from collections.abc import Mapping

from mesocosm.dataclass import replace
from mesocosm.docker.client import Docker
from mesocosm.docker.orders import Orders
from mesocosm.docker.values import Container, DockerError
from mesocosm.executors import base
from mesocosm.executors.attachment import Attachment
from mesocosm.executors.checks.contained import Contained
from mesocosm.executors.client import say
from mesocosm.executors.processes import Children
from mesocosm.executors.settings import Settings
from mesocosm.executors.single import SingleTaskExecutor
from mesocosm.executors.statuses import Json
from mesocosm.executors.task import Task
from mesocosm.launcher.info import Command

_PATIENCE = 5.0
"""Seconds that a kill waits for the container to start, as there is nothing to stop before that."""
_STOP_PATIENCE = 10.0
"""Seconds that Docker may take for a stop, beside those that the task has for its end."""
_RETRY = 5.0
"""Seconds until Docker is told again to stop a container that it did not stop (KILL_RETRY_INTERVAL)."""


def main(_given: Command) -> int:
    """Runs one task, in the container that the orders in the environment are for."""
    try:
        orders = Orders.take(os.environ)
    except DockerError as error:
        say(str(error))
        return 1
    return base.run(functools.partial(DockerExecutor, orders))


class DockerExecutor(SingleTaskExecutor):
    """A container of Docker is the task."""

    kind = "docker"

    def __init__(self, orders: Orders, settings: Settings, children: Children) -> None:
        super().__init__(settings, children)
        self._orders = orders
        self._docker = Docker(orders.program, orders.socket)
        self._life: asyncio.Future[None] | None = None
        self._creating: asyncio.Future[str] | None = None
        self._attachment: Attachment | None = None
        self._started = asyncio.Event()
        self._stopping: asyncio.Future[None] | None = None

    @property
    def grace_period(self) -> float:
        """The time for a shutdown, or that of `--docker_stop_timeout` if it is longer, as in Mesos."""
        return max(self.settings.shutdown_grace_period, self._orders.stop_timeout)

    def start(self, task: Task) -> None:
        """Begins the life of the container."""
        self._life = asyncio.ensure_future(self._live(task))

    def stop(self, period: float) -> None:
        """Its stop signal, and after some time SIGKILL, by Docker. One that is being created is not started."""
        for work in (self._creating, self._stopping):
            if work is not None:
                work.cancel()
        self._stopping = asyncio.ensure_future(self._stop(period))

    async def _stop(self, period: float) -> None:
        """Until it has ended, and this is cancelled. It may not have started yet; and if Docker fails, it is killed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                await self._started.wait()
        docker = replace(self._docker, patience=_STOP_PATIENCE)
        while True:
            try:
                await docker.stop(self._orders.name, period)
            except (DockerError, OSError) as error:
                say(str(error))
                if self._attachment is not None:
                    self._attachment.kill()
            await asyncio.sleep(_RETRY)

    async def _live(self, task: Task) -> None:
        """The life of the container: created, started, and shown until its end."""
        status = None
        try:
            if await self._create():
                status = await self._run(task)
        except (DockerError, OSError) as error:
            message = f"Failed to run docker container: {error}"
        else:
            message = "Container was not started" if status is None else f"Container {_how_ended(status)}"
        if self._stopping is not None:
            self._stopping.cancel()
        self.conclude(task, message, succeeded=status == 0)

    async def _create(self) -> bool:
        """Whether there is a container that is to be started. Raises DockerError, OSError."""
        orders = self._orders
        self._creating = asyncio.ensure_future(self._docker.create(orders.arguments, orders.variables))
        await asyncio.wait([self._creating])
        creating, self._creating = self._creating, None
        if not creating.cancelled():
            creating.result()
        return not self.killed

    async def _run(self, task: Task) -> int:
        """Its exit status. Raises DockerError, OSError."""
        self._attachment = attachment = Attachment(self._docker, self._orders.name)
        try:
            await attachment.start()
            self._started.set()
            if attachment.container is not None and not self.killed:
                self._show(task, attachment, attachment.container)
            return await attachment.ended()
        finally:
            self._attachment = None
            await attachment.close()

    def _show(self, task: Task, attachment: Attachment, container: Container) -> None:
        """Says that it runs, and where it can be reached; from now on it is checked."""
        if infos := _network_infos(task.info, container):
            task.describe(container_status={"network_infos": infos})
        described = json.dumps([attachment.described]).encode()
        task.report("TASK_RUNNING", data=base64.b64encode(described).decode())
        if attachment.pidfd is not None:
            self.follow(task, Contained(self._docker, container.name, attachment.pidfd))


def _network_infos(task: Json, container: Container) -> list[Json]:
    """The network that the task asked for, with the addresses that its container has there, if any."""
    addresses: list[Mapping[str, str]] = []
    if container.ip_address is not None:
        addresses.append({"ip_address": container.ip_address, "protocol": "IPv4"})
    if container.ipv6_address is not None:
        addresses.append({"ip_address": container.ipv6_address, "protocol": "IPv6"})
    asked: Json = next(iter(task.get("container", {}).get("network_infos", ())), {})
    return [{**asked, "ip_addresses": addresses}] if addresses else []


def _how_ended(status: int) -> str:
    return f"exited with status {status}" if status >= 0 else f"was lost: its client ended by the signal {-status}"
