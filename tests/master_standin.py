"""A small master for tests: it registers agents, pings them, gives them tasks, and keeps what they say.

It has nothing of what it tests but the messages: a server of the standard library in threads, which takes and sends
requests as libprocess does (with a chunked body, over one connection, in order).

    with MasterStandIn() as master:
        agent.start(f"--master={master.address}")
        master.await_agent()
        master.run_task(task)                       # a v1.TaskInfo, or run_group(executor, [task, …])
        master.await_state("task-1", "TASK_FINISHED")
        master.kill_task("task-1")
        master.send(internal.ShutdownFrameworkMessage(framework_id=master.framework.id))
        message = master.expect(internal.ExitedExecutorMessage)

`expect` returns the first message of a kind that was not expected before, and waits for it; a test that runs in a loop
calls it by `asyncio.to_thread`. Updates are acknowledged unless `acknowledges` is false. `framework` is what tasks are
sent for; a copy with other fields may be given. `stop` and `start` are a master that comes back at its address.
"""

from __future__ import annotations

import hmac
import http.client
import itertools
import secrets
import socket
import ssl
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self, TypeVar

from google.protobuf.message import Message

from mesocosm.api import internal, v1
from tests.command_line import TIMEOUT

Kind = TypeVar("Kind", bound=Message)

MASTER = "master"
OBSERVER = "slave-observer(1)"
SESSION = "crammd5-authenticator-session(1)"
PING_TIMEOUT = 75.0
"""Seconds without a ping after which an agent looks for its master again, as this one says."""


@dataclass(frozen=True, slots=True)
class Received:
    """A message to `actor` from `sender`, `NAME@IP:PORT`, with the headers that it came with."""

    actor: str
    sender: str
    message: Message
    headers: Mapping[str, str]


@dataclass(slots=True)
class Joined:
    """An agent that has registered."""

    id: str
    address: str
    info: internal.SlaveInfo
    resource_version: v1.UUID
    capabilities: frozenset[int]


class MasterStandIn:
    """One master, from `start` to `stop`. Its attributes may be changed at any time."""

    def __init__(
        self,
        credentials: Mapping[str, str] | None = None,
        ping_timeout: float = PING_TIMEOUT,
        host: str = "127.0.0.1",
        certificates: Path | None = None,
    ) -> None:
        """`credentials` are secrets by principals; with them only who has authenticated is registered.

        With `certificates` it speaks TLS, and nothing else.
        """
        self._host = host
        self._certificates = certificates
        self.id = str(uuid.uuid4())
        self.framework = v1.FrameworkInfo(
            user="root",
            name="test",
            id=v1.FrameworkID(value=f"{self.id}-0000"),
            checkpoint=False,
            role="*",
            capabilities=[
                v1.FrameworkInfo.Capability(type=kind)
                for kind in ("RESERVATION_REFINEMENT", "TASK_KILLING_STATE", "PARTITION_AWARE")
            ],
        )
        self.acknowledges = True
        self.registers = True
        self.authenticates = True
        self.ignored: set[type[Message]] = set()
        """Kinds of messages that it does nothing about."""
        self.ping_timeout = ping_timeout
        self.agents: dict[str, Joined] = {}
        self.received: list[Received] = []
        self._credentials = credentials
        self._authenticated: set[str] = set()
        self._ids: dict[str, str] = {}
        self._numbers = itertools.count()
        self._challenges: dict[str, tuple[str, bytes]] = {}
        self._expected: set[int] = set()
        self._news = threading.Condition()
        self._sending = threading.RLock()
        self._connections: dict[str, http.client.HTTPConnection] = {}
        self._server: _Server | None = None
        self._port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """What `--master` is."""
        return f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"

    def start(self) -> None:
        """Listens, where it did before if it did."""
        self._server = _Server((self._host, self._port), self)
        self._port = self._server.server_address[1]
        if self._certificates is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(self._certificates / "agent.pem", self._certificates / "agent.key")
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        """Ends, with its connections. What it received stays."""
        if self._server is not None:
            self._server.shutdown()
            self._server.end()
        with self._sending:
            self._server = None  # What is being answered gets no new connection.
            for connection in self._connections.values():
                connection.close()
            self._connections.clear()

    def forget(self) -> None:
        """Is another master from now on, with no agents, whose ids go on to be known."""
        with self._news:
            self.agents.clear()
            self._ids.clear()
            self._authenticated.clear()

    # What it receives.

    def expect(self, kind: type[Kind], fits: Callable[[Kind], bool] = lambda _: True, timeout: float = TIMEOUT) -> Kind:
        """The first message of the kind that fits and was not expected before, waited for."""
        deadline = time.monotonic() + timeout
        with self._news:
            while True:
                for number, entry in enumerate(self.received):
                    if number not in self._expected and isinstance(entry.message, kind) and fits(entry.message):
                        self._expected.add(number)
                        return entry.message
                left = deadline - time.monotonic()
                assert left > 0, f"no {kind.__name__}; received were {self.names()}"
                self._news.wait(left)

    def names(self) -> list[str]:
        """The kinds of what was received, in order."""
        return [type(entry.message).__name__ for entry in self.received]

    def await_agent(self) -> Joined:
        """The agent that is registered, when there is one."""
        with self._news:
            assert self._news.wait_for(lambda: self.agents, TIMEOUT), f"no agent; received were {self.names()}"
            return next(iter(self.agents.values()))

    def await_state(self, task_id: str, state: str) -> v1.TaskStatus:
        """The status with which the task comes to the state, when it does."""

        def fits(message: internal.StatusUpdateMessage) -> bool:
            status = message.update.status
            return status.task_id.value == task_id and v1.TaskState.Name(status.state) == state

        return self.expect(internal.StatusUpdateMessage, fits).update.status

    def states(self, task_id: str) -> list[str]:
        """The states of a task, as they were told, each update once."""
        updates: dict[bytes, str] = {}
        for entry in self.received:
            if isinstance(entry.message, internal.StatusUpdateMessage):
                update = entry.message.update
                if update.status.task_id.value == task_id:
                    updates.setdefault(update.uuid, v1.TaskState.Name(update.status.state))
        return list(updates.values())

    # What it sends.

    def send(self, message: Message, agent: Joined | None = None, actor: str = MASTER) -> None:
        """Sends a message to the agent; to the only one if none is named."""
        self.post((agent or self.await_agent()).address, message, actor)

    def post(self, target: str, message: Message, actor: str = MASTER) -> int:
        """Sends a message to an actor; the status of the answer."""
        name, _, authority = target.partition("@")
        path = f"/{name}/{message.DESCRIPTOR.full_name}"
        with self._sending:
            try:
                return self._request(authority, path, message.SerializeToString(), actor)
            except (OSError, http.client.HTTPException):
                if self._connections.pop(authority, None) is None:
                    raise
                return self._request(authority, path, message.SerializeToString(), actor)  # The agent is a new one.

    def _request(self, authority: str, path: str, body: bytes, actor: str) -> int:
        """Sends a request on the connection that there is. Raises OSError and HTTPException."""
        if self._server is None:
            raise ConnectionAbortedError("this master has stopped")
        connection = self._connections.get(authority) or self._connect(authority)
        sender = f"{actor}@{self.address}"
        headers = {"User-Agent": f"libprocess/{sender}", "Libprocess-From": sender, "Connection": "Keep-Alive"}
        if body:
            headers["Transfer-Encoding"] = "chunked"
        try:
            connection.request("POST", path, iter([body]) if body else None, headers, encode_chunked=True)
            answer = connection.getresponse()
            answer.read()
        except BaseException:
            connection.close()
            raise
        self._connections[authority] = connection
        return answer.status

    def _connect(self, authority: str) -> http.client.HTTPConnection:
        if self._certificates is None:
            return http.client.HTTPConnection(authority, timeout=TIMEOUT)
        context = ssl.create_default_context(cafile=self._certificates / "ca.pem")
        return http.client.HTTPSConnection(authority, timeout=TIMEOUT, context=context)

    def ping(self, *, connected: bool = True) -> None:
        """Pings the agent, as if it were registered or not; returns when it has answered."""
        self.send(internal.PingSlaveMessage(connected=connected), actor=OBSERVER)
        self.expect(internal.PongSlaveMessage)

    def run_task(self, task: v1.TaskInfo, framework: v1.FrameworkInfo | None = None) -> None:
        """Has the agent run a task, whose `agent_id` is filled in, by the executor that it names or the default one."""
        agent = self.await_agent()
        self.send(
            internal.RunTaskMessage(
                framework=framework or self.framework,
                pid="@0.0.0.0:0",
                task=_placed(task, agent),
                resource_version_uuids=[internal.ResourceVersionUUID(uuid=agent.resource_version)],
                launch_executor=True,
            )
        )

    def run_group(
        self, executor: v1.ExecutorInfo, tasks: Iterable[v1.TaskInfo], framework: v1.FrameworkInfo | None = None
    ) -> None:
        """Has the agent run tasks together."""
        agent, framework = self.await_agent(), framework or self.framework
        owned = v1.ExecutorInfo()
        owned.CopyFrom(executor)
        owned.framework_id.CopyFrom(framework.id)
        self.send(
            internal.RunTaskGroupMessage(
                framework=framework,
                executor=owned,
                task_group=v1.TaskGroupInfo(tasks=[_placed(task, agent) for task in tasks]),
                resource_version_uuids=[internal.ResourceVersionUUID(uuid=agent.resource_version)],
                launch_executor=True,
            )
        )

    def kill_task(self, task_id: str, grace: float | None = None) -> None:
        """Has the agent kill a task of `framework`, with a grace period in seconds if one is given."""
        policy = None
        if grace is not None:
            policy = v1.KillPolicy(grace_period=v1.DurationInfo(nanoseconds=int(grace * 1e9)))
        self.send(
            internal.KillTaskMessage(
                framework_id=self.framework.id, task_id=v1.TaskID(value=task_id), kill_policy=policy
            )
        )

    def acknowledge(self, update: internal.StatusUpdate) -> None:
        """Says that the framework has an update."""
        self.send(internal.acknowledgement(update))

    # How it answers.

    def take(self, entry: Received) -> None:
        """Keeps a message, and does what a master does then."""
        with self._news:
            self.received.append(entry)
            self._news.notify_all()
        if type(entry.message) in self.ignored:
            return
        match entry.message:
            case internal.RegisterSlaveMessage() | internal.ReregisterSlaveMessage() as message if self.registers:
                self._register(entry.sender, message)
            case internal.StatusUpdateMessage(update=update) if self.acknowledges and update.uuid:
                self.acknowledge(update)
            case internal.AuthenticateMessage(pid=pid) if self.authenticates:
                self._challenges[entry.sender] = (pid, b"")
                self.post(entry.sender, internal.AuthenticationMechanismsMessage(mechanisms=["CRAM-MD5"]))
            case internal.AuthenticationStartMessage():
                self._challenge(entry.sender)
            case internal.AuthenticationStepMessage(data=data):
                self._decide(entry.sender, data)
        with self._news:
            self._news.notify_all()

    def _register(self, sender: str, message: Any) -> None:
        if self._credentials is not None and sender not in self._authenticated:
            return
        known = isinstance(message, internal.ReregisterSlaveMessage)
        with self._news:  # Who asks twice is answered twice.
            given = self._ids.setdefault(sender, f"{self.id}-S{next(self._numbers)}")
        agent_id = message.slave.id.value if known else given
        agent = Joined(
            agent_id,
            sender,
            message.slave,
            message.resource_version_uuid,
            frozenset(capability.type for capability in message.agent_capabilities),
        )
        connection = internal.MasterSlaveConnection(total_ping_timeout_seconds=self.ping_timeout)
        identity = v1.AgentID(value=agent_id)
        if known:
            reconciliations = self.reconciliations(message)
            reply = internal.SlaveReregisteredMessage(
                slave_id=identity, connection=connection, reconciliations=reconciliations
            )
            self.send(reply, agent)
        else:
            self.send(internal.SlaveRegisteredMessage(slave_id=identity, connection=connection), agent)
        self.send(internal.PingSlaveMessage(connected=True), agent, OBSERVER)
        with self._news:
            self.agents[agent_id] = agent

    def reconciliations(self, message: internal.ReregisterSlaveMessage) -> list[internal.ReconcileTasksMessage]:
        """The tasks that are asked for because the agent says nothing of them."""
        return []

    def _challenge(self, sender: str) -> None:
        pid, _ = self._challenges[sender]
        challenge = f"<{secrets.randbits(64)}.{int(time.time())}@master>".encode()
        self._challenges[sender] = (pid, challenge)
        self.post(sender, internal.AuthenticationStepMessage(data=challenge), SESSION)

    def _decide(self, sender: str, data: bytes) -> None:
        """Compares the answer with the one that the principal would give (RFC 2195)."""
        pid, challenge = self._challenges.pop(sender)
        principal, _, digest = data.decode().rpartition(" ")
        secret = (self._credentials or {}).get(principal)
        if secret is not None and hmac.compare_digest(hmac.digest(secret.encode(), challenge, "md5").hex(), digest):
            self._authenticated.add(pid)
            self.post(sender, internal.AuthenticationCompletedMessage(), SESSION)
        else:
            self.post(sender, internal.AuthenticationFailedMessage(), SESSION)


def _placed(task: v1.TaskInfo, agent: Joined) -> v1.TaskInfo:
    placed = v1.TaskInfo()
    placed.CopyFrom(task)
    placed.agent_id.value = agent.id
    return placed


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], master: MasterStandIn) -> None:
        self.master = master
        self._open: set[Any] = set()
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """That an agent is gone is no error."""
        if not isinstance(sys.exception(), OSError | http.client.HTTPException):
            super().handle_error(request, client_address)

    def end(self) -> None:
        """Closes every socket, so that nothing is waited for."""
        self.socket.close()
        for request in list(self._open):
            self.shutdown_request(request)
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        body = b"".join(_chunks(self.rfile)) if "chunked" in self.headers.get("Transfer-Encoding", "") else b""
        if length := int(self.headers.get("Content-Length", 0)):
            body = self.rfile.read(length)
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()
        _, actor, name = self.path.split("/")
        message = internal.parse(name, body)
        assert message is not None, f"a master knows no {name}"
        self.server.master.take(Received(actor, self.headers["Libprocess-From"], message, dict(self.headers)))

    def log_message(self, *_: Any) -> None:
        """Nowhere."""


def _chunks(stream: Any) -> Iterator[bytes]:
    while size := int(stream.readline(), 16):
        yield stream.read(size)
        stream.readline()
    stream.readline()
