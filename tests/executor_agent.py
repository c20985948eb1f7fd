"""The agent's side of the executor API, for tests of executors: it says what a test wants, and keeps what it hears."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from mesocosm.api import convert, recordio
from mesocosm.api.json import from_json, to_json
from mesocosm.api.v1 import agent as operator
from mesocosm.api.v1 import executor as v1
from mesocosm.container import CommandInfo
from mesocosm.containerizer.base import LaunchResult
from tests.launching import TIMEOUT, Launch, Started

Json = dict[str, Any]
FRAMEWORK, EXECUTOR = "framework-0000", "task-1"
_FINAL = ("TASK_FINISHED", "TASK_FAILED", "TASK_KILLED")


class ExecutorAgent:
    """One executor at a time; the port stays the same when the agent goes and comes back."""

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        self.calls: list[Json] = []
        self.requests: list[web.BaseRequest] = []
        self.acknowledges = True
        self.answer = 200
        self.idle = 75.0
        self.unavailable = 0
        self.capabilities: list[str] = []
        self.port = 0
        self.socket: Path | None = None
        self.tls: ssl.SSLContext | None = None
        self._runner: web.ServerRunner | None = None
        self._stream: web.StreamResponse | None = None
        self._heard = asyncio.Condition()
        self._seen = 0

    @property
    def environment(self) -> dict[str, str]:
        """What an agent tells the executor of a framework that checkpoints (see the recorded `executor_env.txt`)."""
        return {
            "MESOS_FRAMEWORK_ID": FRAMEWORK,
            "MESOS_EXECUTOR_ID": EXECUTOR,
            "MESOS_AGENT_ENDPOINT": f"127.0.0.1:{self.port}",
            "MESOS_CHECKPOINT": "1",
            "MESOS_RECOVERY_TIMEOUT": "15mins",
            "MESOS_SUBSCRIPTION_BACKOFF_MAX": "50ms",
            "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD": "5secs",
        }

    async def start(self) -> None:
        self._runner = web.ServerRunner(web.Server(self._serve, keepalive_timeout=self.idle), shutdown_timeout=0.01)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True, ssl_context=self.tls)
        await site.start()
        self.port = self._runner.addresses[0][1]
        if self.socket is not None:
            await web.UnixSite(self._runner, self.socket).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = self._stream = None

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        call = await request.json()
        if request.path == "/api/v1":
            return await self._operate(from_json(call, operator.Call))
        from_json(call, v1.Call)  # Nothing that Mesos would not understand.
        async with self._heard:
            self.requests.append(request)
            self._heard.notify_all()
        answer: web.StreamResponse = web.Response(status=202)
        if call["type"] == "SUBSCRIBE":
            if self.answer != 200:
                return web.Response(status=self.answer, text="Agent has not finished recovery")
            answer = self._stream = web.StreamResponse(headers={"Content-Type": "application/json"})
            await answer.prepare(request)
        async with self._heard:
            self.calls.append(call)
            self._heard.notify_all()
        if call["type"] == "UPDATE" and self.acknowledges:
            await self.acknowledge(call["update"]["status"])
        if call["type"] == "SUBSCRIBE":
            await asyncio.Event().wait()  # The connection ends with the server or the executor.
        return answer

    async def _operate(self, call: operator.Call) -> web.Response:
        """The calls by which the default executor has containers nested in its own."""
        containerizer = self.launch.containerizer()
        if self.unavailable:
            self.unavailable -= 1
            return web.Response(status=503)
        if call.type == operator.Call.LAUNCH_CONTAINER:
            asked = call.launch_container
            result = await containerizer.launch(
                convert.container_id(asked.container_id), convert.container_config(asked)
            )
            return web.Response(status=200 if result is LaunchResult.SUCCESS else 202)
        if call.type == operator.Call.KILL_CONTAINER:
            killed = call.kill_container
            found = await containerizer.kill(convert.container_id(killed.container_id), killed.signal)
            return web.Response(status=200 if found else 404)
        waited = await containerizer.wait(convert.container_id(call.wait_container.container_id))
        return web.json_response({"type": "WAIT_CONTAINER", "wait_container": to_json(convert.termination(waited))})

    # What it hears.

    async def call(self, accept: Callable[[Json], bool]) -> Json:
        """The next call that is one of these, passing over others."""
        async with asyncio.timeout(TIMEOUT), self._heard:
            while True:
                await self._heard.wait_for(lambda: self._seen < len(self.calls))
                self._seen += 1
                if accept(self.calls[self._seen - 1]):
                    return self.calls[self._seen - 1]

    async def requested(self, count: int) -> None:
        """Waits for so many more requests, whatever they are answered."""
        count += len(self.requests)
        async with asyncio.timeout(TIMEOUT), self._heard:
            await self._heard.wait_for(lambda: len(self.requests) >= count)

    async def subscribed(self, **more: Any) -> Json:
        """Waits for a SUBSCRIBE, and answers it."""
        call = await self.call(lambda call: call["type"] == "SUBSCRIBE")
        framework = {"user": "root", "name": "f", "capabilities": [{"type": each} for each in self.capabilities]}
        agent = {"id": {"value": "agent"}, "hostname": "localhost"}
        described = {"executor_id": {"value": EXECUTOR}}
        await self.send("SUBSCRIBED", framework_info=framework, agent_info=agent, executor_info=described, **more)
        return call["subscribe"]

    async def update(self, state: str | None = None) -> Json:
        """The next status, which is of `state`."""
        call = await self.call(lambda call: call["type"] == "UPDATE")
        status: Json = call["update"]["status"]
        assert state in (None, status["state"]), status
        return status

    async def end(self) -> Json:
        """The status that a task ends with."""
        while (status := await self.update())["state"] not in _FINAL:
            pass
        return status

    # What it says.

    async def send(self, event: str, **fields: Any) -> None:
        assert self._stream is not None
        message = {"type": event, **({event.lower(): fields} if fields else {})}
        from_json(message, v1.Event)
        await self._stream.write(recordio.encode(json.dumps(message).encode()))

    async def acknowledge(self, status: Json) -> None:
        assert len(base64.b64decode(status["uuid"])) == 16
        await self.send("ACKNOWLEDGED", task_id=status["task_id"], uuid=status["uuid"])

    # What it runs.

    async def executor(self, program: str = "command-executor", *, talks: bool = False, **config: Any) -> Started:
        """A container with the executor, that has not subscribed yet. With pipes for its streams, if it `talks`."""
        environment = {**self.environment, **config.pop("environment", {})}
        launch = self.launch.talking if talks else self.launch
        return await launch(CommandInfo(program=program), environment=environment, **config)

    async def run(self, command: Json | str, *, executor: Json | None = None, **task: Any) -> Started:
        """A task with its executor, that is running: TASK_STARTING and TASK_RUNNING have been heard."""
        started = await self.executor(**(executor or {}))
        await self.subscribed()
        await self.send("LAUNCH", task=task_info(command, **task))
        await self.update("TASK_STARTING")
        await self.update("TASK_RUNNING")
        return started


def task_info(command: Json | str | None, name: str = EXECUTOR, **more: Any) -> Json:
    """A `TaskInfo` with a command, or a script for the shell."""
    info = {"command": {"value": command} if isinstance(command, str) else command} if command is not None else {}
    resource = {
        "name": "cpus",
        "type": "SCALAR",
        "scalar": {"value": 0.1},
        "allocation_info": {"role": "engineering"},
    }
    return {
        "name": name,
        "task_id": {"value": name},
        "agent_id": {"value": "agent"},
        "resources": [resource],
        **info,
        **more,
    }


def seconds(value: float) -> Json:
    """A `DurationInfo`."""
    return {"nanoseconds": int(value * 1e9)}


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate that nobody has signed, for another name, and its key."""
    file = tmp_path / "server.pem"
    subject = ["-subj", "/CN=elsewhere", "-nodes", "-newkey", "rsa:2048", "-days", "1"]
    subprocess.run(["openssl", "req", "-x509", *subject, "-keyout", file, "-out", f"{file}.crt"], check=True)
    file.write_text(file.read_text() + Path(f"{file}.crt").read_text())
    return file


@pytest.fixture
async def executor_agent(launch: Launch) -> AsyncIterator[ExecutorAgent]:
    """An agent for one executor; see `ExecutorAgent`."""
    serving = ExecutorAgent(launch)
    await serving.start()
    yield serving
    await serving.stop()
