"""Draining: an agent that is to be taken out of the cluster ends its tasks, and says why."""

from __future__ import annotations

import time

from mesocosm.api import v1


class Drain:
    """Whether the agent is being drained, and how."""

    def __init__(self) -> None:
        self.config: v1.DrainConfig | None = None
        self.began = 0.0

    def begin(self, config: v1.DrainConfig) -> None:
        """Is being drained from now on."""
        self.config, self.began = config, time.time()

    def resume(self, config: v1.DrainConfig | None) -> None:
        """Is still being drained, if there is a config on record."""
        if config is not None:
            self.begin(config)

    def end(self) -> None:
        """Is not drained any more."""
        self.config = None

    def change(self, status: v1.TaskStatus, *, partition_aware: bool) -> None:
        """Has a task that is being killed, or was, tell that this is for the drain."""
        if self.config is None or status.state not in (v1.TASK_KILLING, v1.TASK_KILLED):
            return
        status.reason = v1.TaskStatus.REASON_AGENT_DRAINING
        if self.config.mark_gone and partition_aware:
            status.state = v1.TASK_GONE_BY_OPERATOR

    def kill_policy(self, own: v1.KillPolicy | None) -> v1.KillPolicy | None:
        """What a kill is to say where the task's `own` policy would take too long; None: nothing."""
        assert self.config is not None
        if not self.config.HasField("max_grace_period"):
            return None
        most = self.config.max_grace_period
        if own is not None and own.HasField("grace_period") and own.grace_period.nanoseconds <= most.nanoseconds:
            return None
        return v1.KillPolicy(grace_period=most)
