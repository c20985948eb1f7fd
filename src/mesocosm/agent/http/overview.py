"""`/overview`: the machine and its containers, those that have ended, too, in one answer."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from mesocosm import version
from mesocosm.agent.agent import Agent, Observed
from mesocosm.agent.authorization import Action
from mesocosm.agent.http import state
from mesocosm.agent.http.access import Access
from mesocosm.agent.http.reply import Reply, RequestError, json_reply
from mesocosm.agent.http.routes import Request
from mesocosm.agent.http.v0 import switch_of
from mesocosm.agent.machine import machine_statistics
from mesocosm.api import convert
from mesocosm.api.json import to_json
from mesocosm.client.names import may_be_within
from mesocosm.concurrency import Turns
from mesocosm.container import ContainerConfig, ContainerID, ContainerStatus, Termination
from mesocosm.errors import UnknownContainerError
from mesocosm.isolators.concerns import concerns

Json = dict[str, Any]

MOST_ENDED = 200
"""Containers that have ended and are told of, the last ones; an agent may keep thousands."""
_RUNNING, _ENDED = "RUNNING", "ENDED"


@dataclass(slots=True)
class Overview:
    """The handler. What is told of a container that has ended is made once."""

    agent: Agent
    access: Access
    address: state.Address
    _ended: dict[ContainerID, tuple[Termination, Json]] = field(default_factory=dict)

    async def handle(self, request: Request) -> Reply:
        """Answers GET for whom the lists show `/containers`; with `statistics=false`, sooner, as nothing is measured.

        With `id=TEXT` it tells of the containers that this may be cut short of, all that have ended too, and of what is
        nested in them. Raises RequestError: 400, 403, 503.
        """
        if not self.agent.recovered:
            raise RequestError(HTTPStatus.SERVICE_UNAVAILABLE, "Agent has not finished recovery")
        self.access.require(request.principal, Action.GET_ENDPOINTS, "/containers")
        measured = switch_of(request, "statistics", default=True)
        name = request.query.get("id")
        running = await self._running(request.principal, name, measured=measured)
        ended = await self._past(request.principal, name)
        return json_reply(
            {
                "agent": self._agent(request.principal),
                "machine": await asyncio.to_thread(machine_statistics, self.agent.work_dir) if measured else {},
                "containers": [*running, *(ended[:MOST_ENDED] if name is None else ended)],
                "ended_total": len(ended),
            }
        )

    def _agent(self, principal: str | None) -> Json:
        return {
            "hostname": self.address.hostname,
            "version": version.__version__,
            "started": self.agent.started,
            "time": time.time(),
            "isolation": self.agent.containerizer.isolation,
            "has_images": self.agent.containerizer.provisioner is not None,
            "principal": principal,
        }

    async def _running(self, principal: str | None, name: str | None, *, measured: bool) -> list[Json]:
        pending = self.agent.containerizer.pending()
        turns, found = Turns(), []
        for observed in await self.agent.observe(described=measured, measured=measured):
            await turns.pause()
            if _is_meant(name, observed.container_id) and self.access.shows(principal, observed):
                found.append(self._of(observed, pending.get(observed.container_id, _RUNNING)))
        return found

    async def _past(self, principal: str | None, name: str | None) -> list[Json]:
        """Those that have ended, the last one first."""
        terminated = self.agent.containerizer.terminated()
        self._ended = {each: known for each, known in self._ended.items() if each in terminated}
        turns, found = Turns(), []
        for container_id in terminated:
            await turns.pause()
            if not _is_meant(name, container_id):
                continue
            of_executor = self.agent.tasks.containers.is_executor(container_id.root)
            if self.access.shows(principal, Observed(container_id, None, None, of_executor=of_executor)):
                with contextlib.suppress(UnknownContainerError):  # Removed meanwhile.
                    found.append(await self._ended_one(container_id))
        return sorted(found, key=lambda entry: entry["ended"] or 0.0, reverse=True)

    async def _ended_one(self, container_id: ContainerID) -> Json:
        termination = await self.agent.wait(container_id)
        known = self._ended.get(container_id)
        if known is None or known[0] is not termination:
            entry = self._of(Observed(container_id, None, None), _ENDED) | _end(termination)
            known = self._ended[container_id] = termination, entry
        return known[1]

    def _of(self, observed: Observed, where: str) -> Json:
        container_id, executor = observed.container_id, observed.executor
        times = self.agent.times(container_id)
        entry: Json = {
            "id": str(container_id),
            "parent": None if container_id.parent is None else str(container_id.parent),
            "state": where,
            "launched": times.launched,
            "ended": times.ended if where == _ENDED else None,
            "is_executor": executor is not None,
        }
        if (config := self.agent.config(container_id)) is not None:
            entry |= _asked(config, self.agent.containerizer.isolation)
        if executor is not None:
            entry |= {"framework_id": executor.framework_id, "executor_id": executor.id}
        if observed.status is not None:
            entry |= _seen(observed.status)
        if observed.statistics is not None:
            entry["statistics"] = to_json(convert.resource_statistics(observed.statistics))
        return entry


def _is_meant(name: str | None, container_id: ContainerID) -> bool:
    return name is None or may_be_within(name, str(container_id))


def _asked(config: ContainerConfig, isolation: Iterable[str]) -> Json:
    """What was asked for, without the environment, which may hold secrets."""
    return {
        "command": _line(config),
        "user": config.user,
        "type": config.type.value,
        "image": _image(config),
        "rootfs": None if config.rootfs is None else str(config.rootfs),
        "class": config.container_class.value,
        "has_terminal": config.tty_info is not None,
        "takes_input": config.tty_info is not None or config.interactive,
        "sandbox": None if config.directory is None else str(config.directory),
        "isolators": [name for name in isolation if config.docker is None and concerns(name, config)],
    }


def _image(config: ContainerConfig) -> str | None:
    if config.docker is not None:
        return config.docker.image
    return None if config.image is None else config.image.reference


def _line(config: ContainerConfig) -> str:
    """The command as somebody would type it; of an image's own, nothing."""
    command = config.command
    if command.program is not None:
        return command.program
    return (command.value or "") if command.shell else shlex.join(command.arguments or (command.value or "",))


def _seen(status: ContainerStatus) -> Json:
    addresses = [
        address.ip_address for info in status.network_infos or () for address in info.ip_addresses if address.ip_address
    ]
    return {"pid": status.executor_pid, "addresses": addresses}


def _end(termination: Termination) -> Json:
    return {
        "status": termination.status,
        "exit_status": termination.exit_status,
        "reason": termination.reason,
        "message": termination.message,
    }
