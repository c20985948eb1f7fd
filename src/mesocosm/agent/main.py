"""`mesocosm agent`: from its flags to its end."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import faulthandler
import gc
import ipaddress
import logging
import os
import signal
import socket
from collections.abc import Iterator
from typing import Any

from mesocosm.agent import tls
from mesocosm.agent.agent import Agent
from mesocosm.agent.authentication import Authenticator, Realm, load_credentials
from mesocosm.agent.authorization import Action
from mesocosm.agent.counts import add_agent_metrics
from mesocosm.agent.flags import AgentFlags, Loaded
from mesocosm.agent.http.access import Access
from mesocosm.agent.http.endpoints import add_endpoints
from mesocosm.agent.http.routes import Routes
from mesocosm.agent.http.server import Server
from mesocosm.agent.http.state import Address
from mesocosm.agent.logs import Logs
from mesocosm.agent.metrics import Metrics
from mesocosm.agent.notify import Notifier
from mesocosm.agent.rate_limit import snapshot_limit

logger = logging.getLogger(__name__)

_LOOPBACK = "127.0.0.1"


class _Ending(enum.Enum):
    """What ends the agent, and with it what becomes of its containers."""

    LEAVE = "its containers go on"
    DESTROY = "its containers are destroyed"


_SIGNALS = {signal.SIGTERM: _Ending.LEAVE, signal.SIGINT: _Ending.LEAVE, signal.SIGUSR1: _Ending.DESTROY}


async def serve(loaded: Loaded, logs: Logs) -> None:
    """Is the agent until a signal ends it. Raises MesocosmError, OSError or ExceptionGroup where it cannot be."""
    faulthandler.enable()  # For the SIGABRT of a watchdog.
    gc.freeze()  # The code stays: not to look through it again and again saves pauses of 50 ms.
    with _signals(logs) as ending:
        agent = Agent(loaded)
        routes = Routes()
        server = Server(routes, _authenticator(agent.flags))
        async with contextlib.AsyncExitStack() as stack:
            await server.start()
            stack.push_async_callback(server.close)
            agent.start()
            stack.push_async_callback(agent.close)  # Before the server: who waits for a container is told.
            await _listen(agent, server, routes, logs)
            await _work(agent, ending)


async def _work(agent: Agent, ending: asyncio.Future[_Ending]) -> None:
    """Recovers, and waits for the end, which may come before."""
    recovery = asyncio.create_task(agent.recover())
    waiting: list[asyncio.Future[Any]] = [recovery, ending]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    if not recovery.done() and ending.result() is _Ending.LEAVE:
        recovery.cancel()
        await asyncio.wait([recovery])
        return
    await recovery
    gc.freeze()
    if agent.flags.recover == "cleanup":
        logger.info("--recover=cleanup: every container is destroyed, and the agent ends")
        await agent.destroy_all()
        return
    how = await _watched(ending)
    logger.info("the agent ends, and %s", how.value)
    if how is _Ending.DESTROY:
        await agent.destroy_all()


async def _watched(ending: asyncio.Future[_Ending]) -> _Ending:
    """Waits for the end, in the sight of the service manager."""
    manager = Notifier()
    manager.ready()
    alive = asyncio.ensure_future(manager.keep_alive())
    try:
        return await ending
    finally:
        alive.cancel()
        manager.stopping()


async def _listen(agent: Agent, server: Server, routes: Routes, logs: Logs) -> None:
    """Answers requests from now on, until the recovery that there is no answer yet. Raises FlagError."""
    flags, metrics = agent.flags, Metrics()
    access = Access(agent.authorizer, agent.user_of)
    context = tls.server_context(os.environ)
    limit = snapshot_limit(os.environ)
    host, port = await server.listen(flags.ip or _LOOPBACK, flags.port, context)
    add_agent_metrics(metrics, agent)
    ip = flags.advertise_ip or host
    agent.tasks.listens(ip, flags.advertise_port or port)
    address = Address(await _hostname(flags, ip), ip, flags.advertise_port or port)
    add_endpoints(routes, agent, access, metrics, limit, logs, address)
    if (log := flags.external_log_file or logs.path) is not None:
        agent.sandboxes.files.attach("/slave/log", log, lambda who: access.allows(who, Action.ACCESS_MESOS_LOGS))
    _tell(flags, host, port, secure=context is not None)
    if flags.operator_socket is not None:
        await server.listen_locally(flags.operator_socket)
        logger.info("listening on %s", flags.operator_socket)


async def _hostname(flags: AgentFlags, ip: str) -> str:
    """What the flag says, or else the name of the address; that itself where it has none."""
    if flags.hostname is not None or not flags.hostname_lookup:
        return flags.hostname or ip
    with contextlib.suppress(OSError):
        name, _ = await asyncio.get_running_loop().getnameinfo((ip, 0), socket.NI_NAMEREQD)
        return name
    return ip


def _tell(flags: AgentFlags, host: str, port: int, *, secure: bool) -> None:
    where = f"http{'s' if secure else ''}://{f'[{host}]' if ':' in host else host}:{port}"
    remark = "" if flags.ip is not None else ", so for this machine only: --ip says otherwise"
    logger.info("listening on %s%s", where, remark)
    if not (ipaddress.ip_address(host).is_loopback or flags.authenticate_http_readwrite):
        logger.warning(
            "whoever reaches %s may run commands as root: --authenticate_http_readwrite asks for a password", where
        )


def _authenticator(flags: AgentFlags) -> Authenticator:
    """Raises FlagError."""
    asked = {Realm.READ_ONLY: flags.authenticate_http_readonly, Realm.READ_WRITE: flags.authenticate_http_readwrite}
    credentials = () if flags.http_credentials is None else load_credentials(flags.http_credentials)
    return Authenticator(credentials, [realm for realm, wanted in asked.items() if wanted])


@contextlib.contextmanager
def _signals(logs: Logs) -> Iterator[asyncio.Future[_Ending]]:
    """What the first signal asks for. SIGHUP has the log file opened again."""
    loop = asyncio.get_running_loop()
    ending: asyncio.Future[_Ending] = loop.create_future()

    def receive(number: signal.Signals) -> None:
        if not ending.done():
            ending.set_result(_SIGNALS[number])

    for number in _SIGNALS:
        loop.add_signal_handler(number, receive, number)
    loop.add_signal_handler(signal.SIGHUP, logs.reopen)
    try:
        yield ending
    finally:
        for number in (*_SIGNALS, signal.SIGHUP):
            loop.remove_signal_handler(number)
