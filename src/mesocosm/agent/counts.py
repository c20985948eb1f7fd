"""The metrics of the agent, by Mesos's names (`docs/monitoring.md`): those that mean something without tasks."""

from __future__ import annotations

import time

from mesocosm.agent.agent import Agent
from mesocosm.agent.gc import GarbageCollector
from mesocosm.agent.metrics import Metrics, add_system_metrics
from mesocosm.agent.resources import total

_MB = 1 << 20

_WITHOUT_MASTER = (
    *(f"slave/{name}{kind}" for name in ("cpus", "mem", "disk", "gpus") for kind in ("_used", "_percent")),
    *(
        f"slave/{name}_revocable_{kind}"
        for name in ("cpus", "mem", "disk", "gpus")
        for kind in ("total", "used", "percent")
    ),
    *("slave/registered", "slave/frameworks_active", "slave/gpus_total", "resource_provider_manager/subscribed"),
    *(f"slave/tasks_{state}" for state in ("staging", "starting", "running", "killing")),
    *(f"slave/executors_{state}" for state in ("registering", "running", "terminating")),
)
"""Gauges of what only a master brings: frameworks, with their tasks and executors, and what these use.

They are 0, and not absent, for those who add them up over many agents.
"""
_COUNTED_WITHOUT_MASTER = (
    *(f"slave/tasks_{state}" for state in ("finished", "failed", "killed", "lost", "gone")),
    *("slave/executors_terminated", "slave/executors_preempted"),
    *(
        f"slave/{kind}_{message}"
        for kind in ("valid", "invalid")
        for message in ("framework_messages", "status_updates")
    ),
    *("resource_provider_manager/events/subscribe", "resource_provider_manager/events/disconnect"),
)
"""Counters of the same."""


def add_agent_metrics(metrics: Metrics, agent: Agent) -> None:
    """Adds all of them."""
    add_system_metrics(metrics)
    if (gids := agent.volume_gids) is not None:
        metrics.gauge("volume_gid_manager/volume_gids_total", lambda: gids.total, "Groups for volumes")
        metrics.gauge("volume_gid_manager/volume_gids_free", gids.free, "Those that no volume has")
    metrics.gauge("slave/uptime_secs", lambda: time.time() - agent.started, "Seconds since the agent has started")
    metrics.gauge("slave/cpus_total", lambda: total(agent.resources, "cpus"), "CPUs for containers")
    metrics.gauge("slave/mem_total", lambda: total(agent.resources, "mem"), "Memory for containers, MB")
    metrics.gauge("slave/disk_total", lambda: total(agent.resources, "disk"), "Disk for containers, MB")
    for name in _WITHOUT_MASTER:
        metrics.gauge(name, lambda: 0, "There is no master, so 0")
    for name in _COUNTED_WITHOUT_MASTER:
        metrics.counter(name, lambda: 0, "There is no master, so 0")
    _add_containerizer(metrics, agent)
    metrics.counter(
        "containerizer/mesos/provisioner/remove_container_errors",
        lambda: 0 if agent.containerizer.provisioner is None else agent.containerizer.provisioner.remove_errors,
        "Root file systems of images that could not be removed",
    )
    metrics.timer(
        "containerizer/mesos/provisioner/docker_store/image_pull",
        agent.image_pull_time,
        "Pulls of images, to their end",
    )
    _add_fetcher(metrics, agent)
    metrics.gauge("slave/recovery_time_secs", lambda: agent.recovery_time, "Seconds that the recovery took")
    metrics.counter("slave/recovery_errors", lambda: agent.recovery_errors, "What the recovery had to do without")
    for name, value in agent.containerizer.gauges().items():
        metrics.gauge(name, value)
    _add_garbage(metrics, agent.sandboxes.gc)


def _add_containerizer(metrics: Metrics, agent: Agent) -> None:
    metrics.counter("slave/container_launch_errors", lambda: agent.launch_errors, "Launches that failed")
    metrics.timer("containerizer/mesos/container_launch", agent.launch_time, "Launches, until the command runs")
    metrics.counter(
        "containerizer/mesos/container_destroy_errors",
        lambda: agent.containerizer.destroy_errors,
        "Containers that could not be taken apart",
    )
    metrics.gauge(
        "containerizer/mesos/filesystem/containers_new_rootfs",
        agent.containers_with_rootfs,
        "Running containers with a root file system of their own",
    )


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


def _add_garbage(metrics: Metrics, gc: GarbageCollector) -> None:
    metrics.gauge(
        "slave/executor_directory_max_allowed_age_secs",
        gc.allowed_age,
        "Seconds that sandboxes may be old, as full as the disk is",
    )
    metrics.counter("gc/path_removals_succeeded", lambda: gc.path_removals_succeeded, "Sandboxes removed")
    metrics.counter("gc/path_removals_failed", lambda: gc.path_removals_failed, "Removals that failed")
    metrics.gauge("gc/path_removals_pending", lambda: gc.path_removals_pending, "Sandboxes to be removed")
