"""The older executors, which are actors of libprocess: what they say to the agent, by messages."""

from __future__ import annotations

import logging
from collections.abc import Callable

from google.protobuf.message import Message

from mesocosm.agent.tasks.executions import Executions
from mesocosm.agent.tasks.executor import Executor, ExecutorState
from mesocosm.agent.tasks.framework import Framework
from mesocosm.agent.tasks.links import ActorLink, HttpLink
from mesocosm.agent.tasks.parts import Parts
from mesocosm.agent.tasks.statuses import Statuses
from mesocosm.api import internal, v1
from mesocosm.libprocess.address import ActorAddress
from mesocosm.libprocess.inbox import Inbox
from mesocosm.libprocess.outbox import Outbox

logger = logging.getLogger(__name__)


class ActorExecutors:
    """Takes their messages. Whatever cannot be an executor of this agent is told to end."""

    def __init__(
        self,
        parts: Parts,
        executions: Executions,
        statuses: Statuses,
        message: Callable[[Framework, Executor, bytes], None],
        *,
        retries: bool,
    ) -> None:
        """`message` takes what an executor says to its framework. If the agent `retries`, one may come back twice."""
        self._parts = parts
        self._executions = executions
        self._statuses = statuses
        self._message = message
        self._retries = retries
        self._outbox: Outbox | None = None
        self.is_recovering = True

    def listen(self, inbox: Inbox) -> None:
        """Has the inbox of the agent hand over what executors say."""
        inbox.receive(internal.RegisterExecutorMessage, self._register)
        inbox.receive(internal.ReregisterExecutorMessage, self._reregister)
        inbox.receive(internal.StatusUpdateMessage, self._update)
        inbox.receive(internal.ExecutorToFrameworkMessage, self._to_framework)

    def link(self, address: ActorAddress, *, returns: bool = False) -> ActorLink:
        """The way to an executor; it `returns` to an agent that was started anew."""
        return ActorLink(address, self._send, returns=returns)

    async def close(self) -> None:
        """Says no more."""
        if self._outbox is not None:
            await self._outbox.close()

    def _send(self, to: ActorAddress, message: Message) -> None:
        if self._outbox is None:
            self._outbox = Outbox(self._parts.registration.address)
        self._outbox.send(to, message)

    def _register(self, sender: ActorAddress, message: Message) -> None:
        assert isinstance(message, internal.RegisterExecutorMessage)
        found = self._find(message.framework_id, message.executor_id)
        if found is None or self.is_recovering or found[1].state is not ExecutorState.REGISTERING:
            self._refuse(sender, message.executor_id)
            return
        logger.info("the executor %s registers, from %s", found[1].id, sender)
        self._executions.connected(*found, self.link(sender), (), ())

    def _reregister(self, sender: ActorAddress, message: Message) -> None:
        assert isinstance(message, internal.ReregisterExecutorMessage)
        found = self._find(message.framework_id, message.executor_id)
        if found is not None and found[1].state is ExecutorState.RUNNING and self._retries:
            return  # It was asked more than once.
        if found is None or found[1].state is not ExecutorState.REGISTERING:
            self._refuse(sender, message.executor_id)
            return
        logger.info("the executor %s registers again, from %s", found[1].id, sender)
        link = self.link(sender, returns=True)
        self._executions.connected(*found, link, tuple(message.updates), tuple(message.tasks))

    def _update(self, sender: ActorAddress, message: Message) -> None:
        assert isinstance(message, internal.StatusUpdateMessage)
        update = message.update
        framework = self._parts.frameworks.get(update.framework_id.value)
        executor = None if framework is None else framework.executor_of(update.status.task_id.value)
        if executor is not None and not _sends_messages(executor):
            logger.warning("an update of a task of the executor %s comes from %s: dropped", executor.id, sender)
            self._parts.counters.invalid_status_updates += 1
            return
        if executor is not None and isinstance(executor.link, ActorLink) and executor.link.address != sender:
            logger.warning("an update of a task of the executor %s comes from %s", executor.id, sender)
        if executor is not None and update.status.state == v1.TASK_STAGING:
            logger.error("the executor %s says that a task of it is staging, and has to end", executor.id)
            if framework is not None and not executor.ending:
                self._executions.shut_down(framework, executor)
            return
        executor_id = update.executor_id.value if executor is None else executor.id
        self._statuses.from_executor(update.framework_id.value, executor_id, update)

    def _to_framework(self, sender: ActorAddress, message: Message) -> None:
        assert isinstance(message, internal.ExecutorToFrameworkMessage)
        found = self._find(message.framework_id, message.executor_id)
        if found is None:
            self._parts.counters.invalid_framework_messages += 1
        else:
            self._message(*found, message.data)

    def _find(self, framework_id: v1.FrameworkID, executor_id: v1.ExecutorID) -> tuple[Framework, Executor] | None:
        framework = self._parts.frameworks.get(framework_id.value)
        executor = None if framework is None else framework.executors.get(executor_id.value)
        if framework is None or executor is None or not _sends_messages(executor):
            return None
        return framework, executor

    def _refuse(self, sender: ActorAddress, executor_id: v1.ExecutorID) -> None:
        logger.warning("the executor %s at %s is not expected, and told to end", executor_id.value, sender)
        self.link(sender).shut_down()


def _sends_messages(executor: Executor) -> bool:
    """Whether an executor may be an actor. Else whoever sends a message in its name is another one.

    An actor proves nothing, and would come to be what only a token makes an executor that speaks HTTP.
    """
    return not (executor.generated or executor.is_default or isinstance(executor.link, HttpLink))
