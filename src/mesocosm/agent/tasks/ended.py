"""How a container ended, and what that makes of the tasks in it.

Source: `Slave::sendExecutorTerminatedStatusUpdate` of Mesos (slave/slave.cpp).
"""

from __future__ import annotations

from dataclasses import dataclass

from mesocosm.api import convert, v1
from mesocosm.container import Termination


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of tasks, and why. `limitation` has the resources that they ran out of."""

    state: v1.TaskState
    reason: v1.TaskStatus.Reason
    message: str
    limitation: v1.TaskResourceLimitation | None = None


def verdict(termination: Termination | str, pending: Verdict | None) -> Verdict:
    """What becomes of the tasks of an executor that has not told it itself.

    `termination` is how its container ended, or why nobody knows; `pending` why the agent ended it, if it did.
    """
    state, reason = v1.TASK_FAILED, v1.TaskStatus.REASON_EXECUTOR_TERMINATED
    messages, limitation = [], None
    if pending is not None:
        state, reason = pending.state, pending.reason
        messages.append(pending.message)
    if isinstance(termination, str):
        messages.append(f"Abnormal executor termination: {termination}")
    else:
        message = convert.termination(termination)
        if message.HasField("reason"):
            state, reason = message.state, message.reason
        if message.HasField("limitation"):
            limitation = message.limitation
        if message.HasField("message"):
            messages.append(message.message)
    return Verdict(state, reason, "; ".join(messages) or "Executor terminated", limitation)
