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
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from mesocosm.agent import tls
from mesocosm.agent.agent import Agent
from mesocosm.agent.authentication import Authenticator, Realm, load_credentials
from mesocosm.agent.authorization import Action
from mesocosm.agent.cluster import Cluster
from mesocosm.agent.counts import add_agent_metrics
from mesocosm.agent.flags import AgentFlags, Loaded
from mesocosm.agent.http.access import Access
from mesocosm.agent.http.actors import add_actor
from mesocosm.agent.http.endpoints import add_endpoints
from mesocosm.agent.http.routes import Routes
from mesocosm.agent.http.server import Server
from mesocosm.agent.http.state import Address
from mesocosm.agent.logs import VIRTUAL_PATH, Logs
from mesocosm.agent.metrics import Metrics
from mesocosm.agent.notify import Notifier
from mesocosm.agent.rate_limit import snapshot_limit
from mesocosm.agent.tasks.tasks import ACTOR
from mesocosm.agent.tokens import ExecutorTokens
from mesocosm.libprocess.address import host_name
from mesocosm.libprocess.inbox import Inbox

logger = logging.getLogger(__name__)

_LOOPBACK = "127.0.0.1"


class _Ending(enum.Enum):
    """What ends the agent, and with it what becomes of its containers."""

    LEAVE = "its containers go on"
    SHUT_DOWN = "its frameworks are shut down"
    DESTROY = "its containers are destroyed"


_SIGNALS = {signal.SIGTERM: _Ending.LEAVE, signal.SIGINT: _Ending.LEAVE, signal.SIGUSR1: _Ending.DESTROY}


async def serve(loaded: Loaded, logs: Logs) -> None:
    """Is the agent until a signal ends it. Raises MesocosmError, OSError or ExceptionGroup where it cannot be."""
    faulthandler.enable()  # For the SIGABRT of a watchdog.
    gc.freeze()  # The code stays: not to look through it again and again saves pauses of 50 ms.
    gc.enable()
    with _signals(logs) as ending:
        agent = Agent(loaded)
        cluster = None if agent.flags.master is None else Cluster(agent.flags, os.environ)
        routes, inbox = Routes(), Inbox()
        server = Server(routes, _authenticator(agent.flags, agent.tokens))
        async with contextlib.AsyncExitStack() as stack:
            await server.start()
            stack.push_async_callback(server.close)
            await agent.start()
            stack.push_async_callback(agent.close)  # Before the server: who waits for a container is told.
            if cluster is not None:
                stack.push_async_callback(cluster.close)
            address = await _listen(agent, server, routes, logs, cluster)
            agent.tasks.actors.listen(inbox)
            if cluster is not None:
                cluster.answer_pings(inbox, address)
            add_actor(routes, ACTOR, inbox, lambda: agent.tasks.awaits_executors)
            await _work(agent, ending, cluster, lambda joining: joining.join(agent, routes, inbox, address))


async def _work(
    agent: Agent,
    ending: asyncio.Future[_Ending],
    cluster: Cluster | None = None,
    join: Callable[[Cluster], Awaitable[None]] | None = None,
) -> None:
    """Recovers, joins the cluster, and waits for the end, which may come before."""
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
    if cluster is not None and join is not None:
        await join(cluster)
    how = await _watched(ending, cluster)
    logger.info("the agent ends, and %s", how.value)
    if how is not _Ending.LEAVE:
        await (agent.destroy_all() if how is _Ending.DESTROY else agent.tasks.shut_down())
        if cluster is not None:
            await cluster.forget(agent)


async def _watched(ending: asyncio.Future[_Ending], cluster: Cluster | None) -> _Ending:
    """Waits for the end, in the sight of the service manager."""
    manager = Notifier()
    manager.ready()
    alive = asyncio.ensure_future(manager.keep_alive())
    try:
        return await (ending if cluster is None else _membership(ending, cluster))
    finally:
        alive.cancel()
        manager.stopping()


async def _membership(ending: asyncio.Future[_Ending], cluster: Cluster) -> _Ending:
    """Is part of the cluster until the end, which a master may ask for. Raises MasterError and OSError."""
    membership = asyncio.ensure_future(cluster.run())
    try:
        waiting: list[asyncio.Future[Any]] = [ending, membership]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if not ending.done():
            logger.info("the master has the agent shut down: %s", membership.result() or "it does not say why")
            return _Ending.SHUT_DOWN
        if ending.result() is _Ending.DESTROY:
            await cluster.leave()
        return ending.result()
    finally:
        membership.cancel()
        await asyncio.wait([membership])


async def _listen(agent: Agent, server: Server, routes: Routes, logs: Logs, cluster: Cluster | None) -> Address:
    """Answers requests from now on, until the recovery that there is no answer yet; returns where. Raises FlagError.

    With a master elsewhere that is at the address that reaches it. Raises MasterError where there is none.
    """
    flags, metrics = agent.flags, Metrics()
    access = Access(agent.authorizer, agent.user_of)
    context = tls.server_context(os.environ)
    limit = snapshot_limit(os.environ)
    reaching = _LOOPBACK if flags.ip is not None or cluster is None else await cluster.local_address()
    host, port = await server.listen(flags.ip or reaching, flags.port, context)
    add_agent_metrics(metrics, agent)
    ip = flags.advertise_ip or host
    agent.tasks.listens(ip, flags.advertise_port or port)
    address = Address(await _hostname(flags, ip), ip, flags.advertise_port or port)
    server.names = frozenset({address.hostname})
    add_endpoints(routes, agent, access, metrics, limit, logs, address)
    if (log := flags.external_log_file or logs.path) is not None:
        agent.sandboxes.files.attach(VIRTUAL_PATH, log, lambda who: access.allows(who, Action.ACCESS_MESOS_LOGS))
    _tell(flags, host, port, secure=context is not None)
    if flags.operator_socket is not None:
        await server.listen_locally(flags.operator_socket)
        logger.info("listening on %s", flags.operator_socket)
    if agent.domain_socket is not None:
        await server.listen_for_executors(agent.domain_socket)
    return address


async def _hostname(flags: AgentFlags, ip: str) -> str:
    """What the flag says, or else the name of the address; that itself where it has none."""
    if flags.hostname is not None or not flags.hostname_lookup:
        return flags.hostname or ip
    return await host_name(ip)


def _tell(flags: AgentFlags, host: str, port: int, *, secure: bool) -> None:
    where = f"http{'s' if secure else ''}://{f'[{host}]' if ':' in host else host}:{port}"
    is_local = ipaddress.ip_address(host).is_loopback
    choice = "so for this machine only" if is_local else "the address that reaches the master"
    remark = "" if flags.ip is not None else f", {choice}: --ip says otherwise"
    logger.info("listening on %s%s", where, remark)
    if not (is_local or flags.authenticate_http_readwrite):
        logger.warning(
            "whoever reaches %s may run commands as root: --authenticate_http_readwrite asks for a password", where
        )


def _authenticator(flags: AgentFlags, tokens: ExecutorTokens | None) -> Authenticator:
    """Raises FlagError."""
    asked = {Realm.READ_ONLY: flags.authenticate_http_readonly, Realm.READ_WRITE: flags.authenticate_http_readwrite}
    credentials = () if flags.http_credentials is None else load_credentials(flags.http_credentials)
    proofs = tokens if flags.authenticate_http_executors else None
    return Authenticator(credentials, [realm for realm, wanted in asked.items() if wanted], proofs)


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
