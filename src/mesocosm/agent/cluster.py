"""The agent in a cluster, as its flags have it: which master it looks for, and what it says that it is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from mesocosm.agent import tls
from mesocosm.agent.agent import Agent
from mesocosm.agent.authentication import load_credential
from mesocosm.agent.flags import AgentFlags
from mesocosm.agent.flags.parsed import parsed
from mesocosm.agent.http.actors import add_actor
from mesocosm.agent.http.routes import Routes
from mesocosm.agent.http.state import Address
from mesocosm.agent.tasks import disk
from mesocosm.agent.tasks.paths import Layout
from mesocosm.agent.tasks.tasks import ACTOR
from mesocosm.api import internal, v1
from mesocosm.api.json import from_json
from mesocosm.errors import FlagError
from mesocosm.libprocess.address import ActorAddress
from mesocosm.libprocess.inbox import Inbox
from mesocosm.libprocess.outbox import Outbox
from mesocosm.master.authentication import CramMd5, Patience
from mesocosm.master.detector import create_detector, local_address
from mesocosm.master.link import MasterLink
from mesocosm.master.registration import check_reconfiguration, slave_info

logger = logging.getLogger(__name__)


class Cluster:
    """What the flags say of it, and the link to its masters from `join` on."""

    def __init__(self, flags: AgentFlags, environment: Mapping[str, str]) -> None:
        """Raises FlagError."""
        assert flags.master is not None
        self._flags = flags
        self._tls = tls.client_context(environment)
        self._detector = create_detector(flags.master, flags.zk_session_timeout)
        self._credential = None if flags.credential is None else load_credential(flags.credential)
        self._domain = _domain(flags)
        self._link: MasterLink | None = None
        self._answers: Outbox | None = None

    async def local_address(self) -> str:
        """The address of this machine that masters reach. Raises MasterError."""
        return await local_address(self._detector)

    def is_registered(self) -> bool:
        """Whether a master has the agent."""
        return self._link is not None and self._link.master is not None

    def answer_pings(self, inbox: Inbox, address: Address) -> None:
        """Until it has joined: a master that knows the agent would give it up while it waits for its executors."""
        answers = self._answers = self._outbox(ActorAddress(ACTOR, address.ip, address.port))
        inbox.receive(internal.PingSlaveMessage, lambda sender, _: answers.send(sender, internal.PongSlaveMessage()))

    async def join(self, agent: Agent, routes: Routes, inbox: Inbox, address: Address) -> None:
        """Makes the link of an agent that has recovered.

        Raises FlagError where it may not be what it has become, and OSError.
        """
        actor = ActorAddress(ACTOR, address.ip, address.port)
        slave = slave_info(address.hostname, address.port, agent.resources, agent.attributes, self._domain)
        if (before := agent.tasks.slave) is not None:
            if self._is_same(agent, before, slave):
                slave.id.CopyFrom(before.id)
            else:  # Also for one that is started again before it has registered.
                await self.forget(agent)
        self._link = link = MasterLink(
            slave,
            agent.tasks,
            self._detector,
            inbox,
            self._outbox(actor),
            backoff=self._flags.registration_backoff_factor,
            authenticatee=self._authenticatee(actor, routes),
        )
        agent.master_hostname = lambda: link.master_hostname

    async def run(self) -> str:
        """Is part of the cluster until a master has the agent shut down; returns why. Raises MasterError, OSError."""
        assert self._link is not None
        return await self._link.run()

    async def leave(self) -> None:
        """Tells the master that the agent, with all that it runs, ends for good."""
        if self._link is not None:
            await self._link.unregister()

    async def forget(self, agent: Agent) -> None:
        """Has the agent be a new one when it starts again, as no master will take this one back. Raises OSError."""
        await asyncio.to_thread(disk.remove, Layout(agent.work_dir).latest)

    async def close(self) -> None:
        """Ends the link without a word."""
        if self._answers is not None:
            await self._answers.close()
        if self._link is not None:
            await self._link.close()
        else:
            await self._detector.close()

    def _is_same(self, agent: Agent, before: internal.SlaveInfo, now: internal.SlaveInfo) -> bool:
        """Whether it goes on as the agent that it was; after a boot it need not. Raises FlagError."""
        try:
            check_reconfiguration(self._flags.reconfiguration_policy, before, now)
        except FlagError as error:
            if not agent.has_booted:
                raise
            logger.warning("the agent registers as a new one, as the machine was booted: %s", error.message)
            return False
        return True

    def _authenticatee(self, actor: ActorAddress, routes: Routes) -> CramMd5 | None:
        if self._credential is None:
            return None
        flags = self._flags
        patience = Patience(
            flags.authentication_timeout_min, flags.authentication_timeout_max, flags.authentication_backoff_factor
        )

        def listen(name: str, inbox: Inbox) -> Callable[[], None]:
            add_actor(routes, name, inbox, lambda: True)
            return lambda: routes.remove(f"/{name}")

        credential = self._credential
        return CramMd5(credential.principal, credential.secret, actor, listen, patience, self._outbox)

    def _outbox(self, sender: ActorAddress) -> Outbox:
        return Outbox(sender, tls=self._tls)


def _domain(flags: AgentFlags) -> v1.DomainInfo | None:
    """Raises FlagError."""
    if flags.domain is None:
        return None
    return parsed("domain", lambda: from_json(flags.domain, v1.DomainInfo))
