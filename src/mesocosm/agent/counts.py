"""The metrics of the agent, by Mesos's names (`docs/monitoring.md`): those that mean something without tasks."""

from __future__ import annotations

import time

from mesocosm.agent.agent import Agent
from mesocosm.agent.metrics import Metrics, add_system_metrics

_MB = 1 << 20


def add_agent_metrics(metrics: Metrics, agent: Agent) -> None:
    """Adds all of them."""
    add_system_metrics(metrics)
    metrics.gauge("slave/uptime_secs", lambda: time.time() - agent.started, "Seconds since the agent has started")
    metrics.gauge("slave/registered", lambda: 0, "Whether a master knows the agent")
    metrics.gauge("slave/cpus_total", lambda: agent.resources.cpus, "CPUs for containers")
    metrics.gauge("slave/mem_total", lambda: agent.resources.mem // _MB, "Memory for containers, MB")
    metrics.gauge("slave/disk_total", lambda: agent.resources.disk // _MB, "Disk for containers, MB")
    metrics.counter("slave/container_launch_errors", lambda: agent.launch_errors, "Launches that failed")
    metrics.counter(
        "containerizer/mesos/container_destroy_errors",
        lambda: agent.containerizer.destroy_errors,
        "Containers that could not be taken apart",
    )
    _add_fetcher(metrics, agent)
    metrics.gauge("slave/recovery_time_secs", lambda: agent.recovery_time, "Seconds that the recovery took")
    metrics.counter("slave/recovery_errors", lambda: agent.recovery_errors, "What the recovery had to do without")
    metrics.gauge(
        "slave/executor_directory_max_allowed_age_secs",
        agent.gc.allowed_age,
        "Seconds that sandboxes may be old, as full as the disk is",
    )
    metrics.counter("gc/path_removals_succeeded", lambda: agent.gc.path_removals_succeeded, "Sandboxes removed")
    metrics.counter("gc/path_removals_failed", lambda: agent.gc.path_removals_failed, "Removals that failed")
    metrics.gauge("gc/path_removals_pending", lambda: agent.gc.path_removals_pending, "Sandboxes to be removed")


def _add_fetcher(metrics: Metrics, agent: Agent) -> None:
    prefix = "containerizer/fetcher"
    fetcher = agent.fetcher
    metrics.counter(
        f"{prefix}/task_fetches_succeeded", lambda: fetcher.counters.task_fetches_succeeded, "Fetches that succeeded"
    )
    metrics.counter(f"{prefix}/task_fetches_failed", lambda: fetcher.counters.task_fetches_failed, "Those that failed")
    metrics.gauge(
        f"{prefix}/cache_size_total_bytes", lambda: fetcher.counters.cache_size_total_bytes, "What the cache may have"
    )
    metrics.gauge(f"{prefix}/cache_size_used_bytes", lambda: fetcher.counters.cache_size_used_bytes, "What it has")
