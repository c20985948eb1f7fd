"""`mesocosm run --task`: runs the tasks of a file, on an agent of their own or on another, and tells how they go."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, TextIO

from mesocosm.cli.agent_option import address_given
from mesocosm.cli.execution import Options
from mesocosm.cli.messages import complain
from mesocosm.client import Json
from mesocosm.client.address import Address, AgentError
from mesocosm.client.streaming import AgentClient
from mesocosm.errors import FlagError
from mesocosm.flags import Flags
from mesocosm.oneshot import janitor
from mesocosm.oneshot.agent import PRINCIPAL, private_agent
from mesocosm.oneshot.choice import Choice, choose
from mesocosm.oneshot.place import Place
from mesocosm.task_states import TERMINAL
from mesocosm.users import of_this_process

_MORE = ("docker/runtime", "volume/image", "posix/rlimits", "linux/capabilities", "linux/seccomp", "linux/nnp")
"""Isolators that a task may ask for, besides those that every container gets."""
_HERE = {"task", "agent", "user", "isolation", "name", "network_config_dir", "store", "work_dir", "runtime_dir"}
_THERE = {"task", "agent", "user", "credential", "ca_file", "cert", "key"}
_RUNNING, _FINISHED = "TASK_RUNNING", "TASK_FINISHED"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_tasks(options: Options) -> int:
    """Runs them; returns 0 if all have finished, and 1 if one has not. Raises MesocosmError, OSError."""
    assert options.task is not None
    known = _HERE if options.agent is None else _THERE
    for entry in fields(Options):
        if entry.name not in known and getattr(options, entry.name) not in (entry.default, ()):
            name = "COMMAND" if entry.name == "command" else f"--{entry.name.replace('_', '-')}"
            raise FlagError(f"{name} does not go with --task", "say it in the file")
    task = _read(options.task)
    user = options.user or of_this_process()
    return _run_here(options, task, user) if options.agent is None else asyncio.run(_run_there(options, task, user))


def _run_here(options: Options, task: Json, user: str) -> int:
    place = Place.choose(options.name, options.runtime_dir, options.work_dir, options.network_config_dir)
    place.store = (options.store or place.store).absolute()
    if _is_of_docker(task) or _is_of_docker(task.get("executor")):
        place.docker_socket = _docker_socket()
    sweeper = janitor.start_if_needed(place.base)
    try:
        return asyncio.run(_run_privately(place, choose(options.isolation, _MORE), task, user))
    finally:
        if sweeper is not None:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(sweeper, 0)


async def _run_privately(place: Place, choice: Choice, task: Json, user: str) -> int:
    async with (
        private_agent(place, choice) as (agent, secret),
        AgentClient(Address.parse(str(agent), (PRINCIPAL, secret))) as client,
    ):
        return await _Watch(client).run(task, user)


async def _run_there(options: Options, task: Json, user: str) -> int:
    async with AgentClient(address_given(options)) as client:
        return await _Watch(client).run(task, user)


class _Watch:
    """Tells what becomes of the tasks, and shows what each of them writes."""

    def __init__(self, client: AgentClient) -> None:
        self._client = client
        self._framework_id = ""
        self._states: dict[str, str] = {}
        self._outputs: dict[str, _Output] = {}
        self._ends: set[asyncio.Task[None]] = set()
        self._kills: set[asyncio.Task[None]] = set()

    async def run(self, task: Json, user: str) -> int:
        """The first signal has the tasks killed, and the second is not waited for."""
        with self._signals():
            try:
                async with contextlib.aclosing(self._client.run_task(task, user)) as events:
                    await self._follow(events)
                await asyncio.gather(*self._ends)  # Now their executors end, if they have not.
            except asyncio.CancelledError:
                complain("not waited for: the tasks are ended")
                return 1
            finally:
                for output in self._outputs.values():
                    output.close()
        ended = self._states.values()
        return 0 if ended and all(state == _FINISHED for state in ended) else 1

    async def _follow(self, events: AsyncGenerator[Json, None]) -> None:
        async for event in events:
            if event["type"] == "SUBMITTED":
                self._framework_id = event["framework_id"]["value"]
            elif event["type"] == "STATUS":
                self._see(event["status"])

    def _see(self, status: Json) -> None:
        task_id, state = status["task_id"]["value"], status["state"]
        self._states[task_id] = state
        names = _container(status)
        if task_id not in self._outputs and names and (state == _RUNNING or state in TERMINAL):
            self._outputs[task_id] = _Output(self._client, names)
        if state in TERMINAL and task_id in self._outputs:
            self._ends.add(asyncio.ensure_future(self._tell_later(status, self._outputs[task_id])))
        else:
            _tell(status)

    async def _tell_later(self, status: Json, output: _Output) -> None:
        """Tells of the end of a task when all is shown that it has written."""
        await output.end()
        _tell(status)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop, own = asyncio.get_running_loop(), asyncio.current_task()
        assert own is not None

        def end(number: signal.Signals) -> None:
            if self._kills or not self._framework_id:
                own.cancel()
                return
            complain(f"{number.name}: the tasks are killed; once more does not wait for that")
            self._kills.add(asyncio.ensure_future(self._client.kill_tasks(self._framework_id)))

        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, end, number)
        try:
            yield
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)


class _Output:
    """What a container writes, shown as it comes."""

    def __init__(self, client: AgentClient, names: list[str]) -> None:
        """`names` are those of the container, and before it of those that it is nested in."""
        self._client = client
        self._until = ".".join(names)
        sandbox = "".join(f"/containers/{name}" for name in names)
        self._streams = [
            asyncio.ensure_future(self._show(f"{sandbox}/stdout", sys.stdout)),
            asyncio.ensure_future(self._show(f"{sandbox}/stderr", sys.stderr)),
        ]

    async def end(self) -> None:
        """Returns when it has ended, and all is shown."""
        await asyncio.gather(*self._streams)

    def close(self) -> None:
        """Shows no more."""
        for stream in self._streams:
            stream.cancel()

    async def _show(self, path: str, stream: TextIO) -> None:
        with contextlib.suppress(AgentError):  # There is no such file if it never ran.
            async with contextlib.aclosing(self._client.follow(path, 0, self._until)) as pieces:
                async for data in pieces:
                    stream.buffer.write(data)
                    stream.flush()


def _tell(status: Json) -> None:
    reason = status.get("message")
    complain(f"{status['task_id']['value']}: {status['state']}{f': {reason}' if reason else ''}")


def _container(status: Json) -> list[str]:
    """The names of the container of a task, or else of its executor; those that it is nested in come first."""
    identity = status.get("container_status", {}).get("container_id")
    names: list[str] = []
    while identity is not None:
        names.insert(0, identity["value"])
        identity = identity.get("parent")
    return names


def _is_of_docker(asked: Any) -> bool:
    """Whether what asks for a container wants one of Docker. What is wrong with it, the agent says."""
    container = asked.get("container") if isinstance(asked, dict) else None
    return isinstance(container, dict) and container.get("type") == "DOCKER"


def _docker_socket() -> str:
    """That of the daemon that this user's client asks. Raises FlagError if it asks in another way."""
    host = os.environ.get("DOCKER_HOST") or f"unix://{Flags().docker_socket}"
    if not host.startswith("unix:///"):
        raise FlagError(f"--task: DOCKER_HOST is {host}, and that is no socket", "set it to unix:///PATH")
    return host.removeprefix("unix://")


def _read(file: Path) -> Json:
    """The object of JSON in a file, or the standard input if that is `-`. Raises FlagError."""
    try:
        value = json.loads(sys.stdin.read() if str(file) == "-" else file.read_text())
    except OSError as error:
        raise FlagError(f"--task: {file}: {error.strerror}") from None
    except ValueError as error:
        raise FlagError(f"--task: {file} is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise FlagError(f"--task: {file} is no object of JSON", "write a TaskInfo or a TaskGroupInfo")
    return value
