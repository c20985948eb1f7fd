"""The metrics of the agent, by Mesos's names (`docs/monitoring.md`): all of those that an agent has by itself."""

from __future__ import annotations

import time
from functools import partial

from mesocosm.agent.agent import Agent
from mesocosm.agent.gc import GarbageCollector
from mesocosm.agent.metrics import Metrics, add_system_metrics
from mesocosm.agent.resources import total
from mesocosm.agent.tasks.executor import ExecutorState
from mesocosm.agent.tasks.tasks import Tasks
from mesocosm.api import v1

_MB = 1 << 20

_RESOURCES = ("cpus", "mem", "disk", "gpus")

_NEVER = (
    *(f"slave/{name}_revocable_{kind}" for name in _RESOURCES for kind in ("total", "used", "percent")),
    "resource_provider_manager/subscribed",
)
"""Gauges of what there is not here: resources that are offered twice, and resource providers.

They are 0, and not absent, for those who add them up over many agents.
"""
_NEVER_COUNTED = (
    "slave/executors_preempted",
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
    for name in _NEVER:
        metrics.gauge(name, lambda: 0, "There is none here, so 0")
    for name in _NEVER_COUNTED:
        metrics.counter(name, lambda: 0, "There is none here, so 0")
    _add_resources(metrics, agent)
    _add_tasks(metrics, agent.tasks)
    _add_containerizer(metrics, agent)
    metrics.counter(
        "containerizer/mesos/provisioner/remove_container_errors",
        lambda: 0 if agent.containerizer.provisioner is None else agent.containerizer.provisioner.remove_errors,
        "Root file systems of images that could not be removed",
    )
    for name, times in agent.pull_times.items():
        metrics.timer(name, times, "Pulls of images, to their end")
    _add_fetcher(metrics, agent)
    metrics.gauge("slave/recovery_time_secs", lambda: agent.recovery_time, "Seconds that the recovery took")
    metrics.counter("slave/recovery_errors", lambda: agent.recovery_errors, "What the recovery had to do without")
    for name, value in agent.containerizer.gauges().items():
        metrics.gauge(name, value)
    _add_garbage(metrics, agent.sandboxes.gc)


def _add_resources(metrics: Metrics, agent: Agent) -> None:
    def offered(name: str) -> float:
        return total(agent.tasks.resources(), name)

    def used(name: str) -> float:
        return total(agent.tasks.used(), name)

    def part(name: str) -> float:
        return used(name) / offered(name) if offered(name) else 0.0

    for name in _RESOURCES:
        what = f"{name}, in MB" if name in ("mem", "disk") else name
        metrics.gauge(f"slave/{name}_total", partial(offered, name), f"What is offered of {what}")
        metrics.gauge(f"slave/{name}_used", partial(used, name), f"What executors and tasks have of {what}")
        metrics.gauge(f"slave/{name}_percent", partial(part, name), f"Which part that is of {name}, 0 to 1")


def _add_tasks(metrics: Metrics, tasks: Tasks) -> None:
    counters, frameworks = tasks.counters, tasks.frameworks
    metrics.gauge("slave/registered", lambda: tasks.registration.send is not None, "Whether there is a master")
    metrics.gauge("slave/frameworks_active", lambda: len(frameworks), "Frameworks that have executors")
    for state in (ExecutorState.REGISTERING, ExecutorState.RUNNING, ExecutorState.TERMINATING):
        name = f"slave/executors_{state.value.lower()}"
        metrics.gauge(name, partial(frameworks.count_executors, state), "Executors in this state")
    metrics.counter("slave/executors_terminated", lambda: counters.executors_terminated, "Executors that have ended")
    for kind in ("STAGING", "STARTING", "RUNNING", "KILLING"):
        count = partial(frameworks.count_tasks, v1.TaskState.Value(f"TASK_{kind}"))
        metrics.gauge(f"slave/tasks_{kind.lower()}", count, "Tasks in this state")
    for kind in ("FINISHED", "FAILED", "KILLED", "LOST", "GONE"):
        count = partial(counters.ended.__getitem__, v1.TaskState.Value(f"TASK_{kind}"))
        metrics.counter(f"slave/tasks_{kind.lower()}", count, "Tasks that came to this end")
    for what in ("framework_messages", "status_updates"):
        for kind in ("valid", "invalid"):
            name = f"{kind}_{what}"
            metrics.counter(f"slave/{name}", partial(getattr, counters, name), f"Those that were {kind}")


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
