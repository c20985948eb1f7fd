"""The variables of an executor, by which it finds the agent (docs/executor-http-api.md of Mesos)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesocosm.agent.flags.kinds import show_duration
from mesocosm.api import v1
from mesocosm.libprocess.address import ActorAddress


@dataclass(frozen=True, slots=True)
class ExecutorEnvironment:
    """What all executors of an agent are told. Times are in seconds."""

    variables: Mapping[str, Any] | None
    shutdown_grace_period: float
    recovery_timeout: float
    reregistration_timeout: float
    http_command_executor: bool
    domain_socket: Path | None = None
    secure: bool = False
    """Whether the agent speaks TLS, and nothing else."""

    def of(
        self,
        executor: v1.ExecutorInfo,
        *,
        directory: Path,
        agent_id: str,
        agent: ActorAddress,
        checkpoint: bool,
        token: str | None = None,
    ) -> dict[str, str]:
        """The variables of one executor. `checkpoint` if it outlives the agent; `token` is its proof who it is."""
        environment = {
            "LIBPROCESS_IP": agent.ip,
            **({"LIBPROCESS_SSL_ENABLED": "true"} if self.secure else {}),
            **(self.variables or {}),
            "LIBPROCESS_PORT": "0",
            "MESOS_FRAMEWORK_ID": executor.framework_id.value,
            "MESOS_EXECUTOR_ID": executor.executor_id.value,
            "MESOS_DIRECTORY": str(directory),
            "MESOS_SLAVE_ID": agent_id,
            "MESOS_SLAVE_PID": str(agent),
            "MESOS_AGENT_ENDPOINT": agent.authority,
            "MESOS_CHECKPOINT": "1" if checkpoint else "0",
            "MESOS_HTTP_COMMAND_EXECUTOR": "1" if self.http_command_executor else "0",
            "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD": show_duration(self.grace_period(executor)),
        }
        if self.domain_socket is not None:
            environment["MESOS_DOMAIN_SOCKET"] = str(self.domain_socket)
        if checkpoint:
            environment["MESOS_RECOVERY_TIMEOUT"] = show_duration(self.recovery_timeout)
            environment["MESOS_SUBSCRIPTION_BACKOFF_MAX"] = show_duration(self.reregistration_timeout)
        if token is not None:
            environment["MESOS_EXECUTOR_AUTHENTICATION_TOKEN"] = token
        return environment

    def grace_period(self, executor: v1.ExecutorInfo) -> float:
        """Seconds that an executor has to end by itself."""
        if executor.HasField("shutdown_grace_period"):
            return executor.shutdown_grace_period.nanoseconds / 1e9
        return self.shutdown_grace_period
