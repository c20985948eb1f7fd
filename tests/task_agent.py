"""An agent in this process whose tasks a test drives as a master would, by messages."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf.message import Message

from mesocosm.agent.agent import Agent
from mesocosm.agent.authentication import Authenticator
from mesocosm.agent.counts import add_agent_metrics
from mesocosm.agent.flags.loading import load
from mesocosm.agent.http.access import Access
from mesocosm.agent.http.actors import add_actor
from mesocosm.agent.http.endpoints import add_endpoints
from mesocosm.agent.http.routes import Routes
from mesocosm.agent.http.server import Server
from mesocosm.agent.http.state import Address
from mesocosm.agent.logs import Logs
from mesocosm.agent.metrics import Metrics
from mesocosm.agent.tasks.executor import Executor
from mesocosm.agent.tasks.tasks import ACTOR
from mesocosm.api import internal, v1
from mesocosm.flags import Flags
from mesocosm.libprocess.inbox import Inbox
from tests.command_line import TIMEOUT

EXECUTOR = Path(__file__).with_name("shell_executor.sh")
AGENT_ID = "agent-S0"
FRAMEWORK_ID = "framework-0000"
ISOLATION = "filesystem/linux,namespaces/pid,cgroups/cpu,cgroups/mem"

_Message = TypeVar("_Message", bound=Message)


class Master:
    """Notes what an agent says. It acknowledges updates if it `acknowledges`."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.acknowledges = True
        self.said: list[Message] = []
        self._news = asyncio.Event()

    def hear(self, message: Message) -> None:
        """The `send` of the agent."""
        self.said.append(message)
        if isinstance(message, internal.StatusUpdateMessage) and self.acknowledges:
            self.acknowledge(message.update)
        self._news.set()

    def tell(self, message: Message) -> None:
        """Says something to the agent."""
        self.agent.tasks.handlers()[type(message)](message)

    def acknowledge(self, update: internal.StatusUpdate) -> None:
        """Says that the framework knows of an update."""
        self.tell(internal.acknowledgement(update))

    async def heard(self, kind: type[_Message], matches: Callable[[_Message], bool] = lambda _: True) -> _Message:
        """The first message of a kind that matches, when it has come."""

        async with asyncio.timeout(TIMEOUT):
            while not (found := [each for each in self.said if isinstance(each, kind) and matches(each)]):
                self._news.clear()
                await self._news.wait()
        return found[0]

    async def update(self, task_id: str, state: v1.TaskState) -> v1.TaskStatus:
        """The status by which a task came to be in `state`."""
        message = await self.heard(
            internal.StatusUpdateMessage,
            lambda each: each.update.status.task_id.value == task_id and each.update.status.state == state,
        )
        return message.update.status

    def states(self, task_id: str) -> list[str]:
        """What was said of a task."""
        return [
            v1.TaskState.Name(each.update.status.state)
            for each in self.said
            if isinstance(each, internal.StatusUpdateMessage) and each.update.status.task_id.value == task_id
        ]

    def run(self, task: v1.TaskInfo, *, launch: bool | None = None, **framework: Any) -> None:
        """RunTaskMessage; the executor is to be launched if it is not there, unless `launch` says otherwise."""
        info = framework_info(**framework)
        if launch is None:
            executor_id = task.executor.executor_id.value
            launch = self.agent.tasks.frameworks.executor(info.id.value, executor_id) is None
        message = internal.RunTaskMessage(framework=info, task=task, pid="@0.0.0.0:0", launch_executor=launch)
        self.tell(message)

    def kill(self, task_id: str, framework_id: str = FRAMEWORK_ID) -> None:
        """KillTaskMessage."""
        self.tell(
            internal.KillTaskMessage(framework_id=v1.FrameworkID(value=framework_id), task_id=v1.TaskID(value=task_id))
        )

    def executor(self, executor_id: str = "shell", framework_id: str = FRAMEWORK_ID) -> Executor:
        """What the agent knows of an executor that is there."""
        found = self.agent.tasks.frameworks.executor(framework_id, executor_id)
        assert found is not None
        return found

    async def gone(self) -> None:
        """Returns when no framework is left."""
        async with asyncio.timeout(TIMEOUT):
            await self.agent.tasks.frameworks.empty.wait()


def framework_info(identity: str = FRAMEWORK_ID, *, aware: bool = True, **fields: Any) -> v1.FrameworkInfo:
    """A framework; `aware` of partitions, that is, it wants to know how tasks were lost."""
    capabilities = [v1.FrameworkInfo.Capability(type=v1.FrameworkInfo.Capability.PARTITION_AWARE)] if aware else []
    return v1.FrameworkInfo(
        **{
            "user": "root",
            "name": "tests",
            "id": v1.FrameworkID(value=identity),
            "capabilities": capabilities,
            **fields,
        }
    )


def scalars(**amounts: float) -> list[v1.Resource]:
    """Resources such as cpus=0.1, mem=32."""
    return [
        v1.Resource(name=name, type=v1.Value.SCALAR, scalar=v1.Value.Scalar(value=amount))
        for name, amount in amounts.items()
    ]


def executor_info(executor_id: str = "shell", script: str | None = None, **fields: Any) -> v1.ExecutorInfo:
    """A custom executor: the one in shell if there is no `script`."""
    text = script or f". {EXECUTOR}"
    return v1.ExecutorInfo(
        **{
            "executor_id": v1.ExecutorID(value=executor_id),
            "command": v1.CommandInfo(shell=False, value="/bin/bash", arguments=["bash", "-c", text]),
            "resources": scalars(cpus=0.1, mem=32),
            **fields,
        }
    )


def task_info(task_id: str, executor: v1.ExecutorInfo | None = None, **fields: Any) -> v1.TaskInfo:
    """A task of an executor, that in shell if it is not said which."""
    return v1.TaskInfo(
        **{
            "name": task_id,
            "task_id": v1.TaskID(value=task_id),
            "agent_id": v1.AgentID(value=AGENT_ID),
            "resources": scalars(cpus=0.1, mem=32),
            "executor": executor or executor_info(),
            **fields,
        }
    )


def command_task(task_id: str, command: str, **fields: Any) -> v1.TaskInfo:
    """A task that brings a command for the shell."""
    task = task_info(task_id, command=v1.CommandInfo(value=command), **fields)
    task.ClearField("executor")
    return task


@contextlib.asynccontextmanager
async def running_agent(
    flags: Flags, *arguments: str, destroys: bool = True, isolation: str = ISOLATION, port: int = 0
) -> AsyncIterator[Master]:
    """An agent that is registered at the master that is yielded; in the end it `destroys` its containers, or not.

    One that goes by what an earlier one has left needs the `port` of that, where executors look for it.
    """
    own = [
        f"--work_dir={flags.work_dir}",
        f"--runtime_dir={flags.runtime_dir}",
        f"--cgroups_root={flags.cgroups_root}",
        f"--fetcher_cache_dir={flags.work_dir.parent / 'fetch'}",
        f"--isolation={isolation}",
        "--no-hostname_lookup",
        "--port=0",
    ]
    agent = Agent(load([*own, *arguments], {}))
    routes = Routes()
    tokens = agent.tokens if agent.flags.authenticate_http_executors else None
    server = Server(routes, Authenticator(tokens=tokens))
    async with contextlib.AsyncExitStack() as stack:
        await server.start()
        stack.push_async_callback(server.close)
        await agent.start()
        stack.push_async_callback(agent.close)
        host, port = await server.listen("127.0.0.1", port, None)
        agent.tasks.listens(host, port)
        if agent.domain_socket is not None:
            await server.listen_for_executors(agent.domain_socket)
        inbox = Inbox()
        agent.tasks.actors.listen(inbox)
        add_actor(routes, ACTOR, inbox, lambda: agent.tasks.awaits_executors)
        access, metrics = Access(agent.authorizer, agent.user_of), Metrics()
        add_agent_metrics(metrics, agent)
        add_endpoints(routes, agent, access, metrics, None, Logs(), Address(host, host, port))
        await agent.recover()
        master = Master(agent)
        slave = internal.SlaveInfo(hostname="localhost", port=port, id=v1.AgentID(value=AGENT_ID))
        agent.tasks.connect(slave, master.hear)
        try:
            yield master
        finally:
            if destroys:
                ended = asyncio.ensure_future(agent.tasks.shut_down())
                await asyncio.sleep(0)  # It has begun: nobody is told what becomes of tasks.
                for executor in agent.tasks.frameworks.executors():
                    await agent.containerizer.destroy(executor.container_id)  # Not waiting for a grace period.
                await ended
