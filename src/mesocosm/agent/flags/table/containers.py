"""Containers: the containerizer, its launcher and cgroups, the security of containers, and what feeds them.

What `mesocosm.flags.Flags` has is described there, with its default.
"""

from __future__ import annotations

from mesocosm.agent.flags.flag import Flag, of_refused
from mesocosm.agent.flags.flag import own as _own
from mesocosm.agent.flags.kinds import (
    BOOLEAN,
    CAPABILITIES,
    CONTAINER_INFO,
    DURATION,
    INNER_PATH,
    NAME,
    NAMES,
    OBJECT,
    PATH,
    SIZE,
    TEXT,
    choice,
    names_of,
)
from mesocosm.flags import Flags

DIRECTORIES = (
    # As in Mesos, and unlike in the library, it has to be given.
    Flag("work_dir", PATH, Flags.help("work_dir"), served_by="containerizer", required=True),
    Flag("runtime_dir", PATH, Flags.help("runtime_dir"), default="/var/run/mesos", served_by="containerizer"),
)

CONTAINERIZER = (
    Flag(
        "containerizers",
        names_of("mesos", "docker"),
        "Containerizers to try, in this order.",
        default="mesos",
        served_by="agent",
    ),
    _own("isolation", TEXT, "containerizer"),
    _own("launcher", choice("linux", "posix"), "launcher"),
    _own("sandbox_directory", INNER_PATH, "filesystem/linux"),
    Flag(
        "default_container_info",
        CONTAINER_INFO,
        "The `ContainerInfo` of containers that have none, as JSON.",
        served_by="agent",
    ),
    _own("disallow_sharing_agent_pid_namespace", BOOLEAN, "namespaces/pid"),
    _own("disallow_sharing_agent_ipc_namespace", BOOLEAN, "namespaces/ipc"),
    _own("default_container_shm_size", SIZE, "namespaces/ipc"),
    Flag(
        "container_logger",
        NAME,
        "What writes the output of containers. Default: files in the sandbox that grow; `logrotate` rotates them.",
        served_by="container logger",
    ),
    *of_refused("gpu/nvidia", Flag("nvidia_gpu_devices", TEXT, "Numbers of the GPUs to offer.")),
)

CGROUPS = (
    _own("cgroups_hierarchy", PATH, "launcher"),
    _own("cgroups_root", NAME, "launcher"),
    _own("cgroups_destroy_timeout", DURATION, "launcher"),
    _own("cgroups_enable_cfs", BOOLEAN, "cgroups/cpu"),
    _own("cgroups_limit_swap", BOOLEAN, "cgroups/mem"),
    _own("cgroups_cpu_enable_pids_and_tids_count", BOOLEAN, "cgroups/cpu"),
    _own("cgroups_net_cls_primary_handle", TEXT, "cgroups/net_cls"),
    _own("cgroups_net_cls_secondary_handles", TEXT, "cgroups/net_cls"),
    _own("allowed_devices", OBJECT, "cgroups/devices, linux/devices"),
    _own("revocable_cpu_low_priority", BOOLEAN, "cgroups/cpu"),
    Flag(
        "agent_subsystems",
        NAMES,
        "Cgroup controllers in which the agent has a cgroup of its own, beside `--cgroups_root`.",
        served_by="agent",
    ),
    _own("perf_events", TEXT, "cgroups/perf_event"),
    _own("perf_interval", DURATION, "cgroups/perf_event"),
    _own("perf_duration", DURATION, "cgroups/perf_event"),
)

SECURITY = (
    _own("effective_capabilities", CAPABILITIES, "linux/capabilities", renamed_from="allowed_capabilities"),
    _own("bounding_capabilities", CAPABILITIES, "linux/capabilities"),
    _own("seccomp_config_dir", PATH, "linux/seccomp"),
    _own("seccomp_profile_name", NAME, "linux/seccomp"),
)

FETCHER = (
    Flag(
        "fetcher_cache_dir",
        PATH,
        "Directory of what was fetched and is kept for others; the agent clears it when it starts.",
        default="/tmp/mesos/fetch",
        served_by="fetcher",
    ),
    Flag("fetcher_cache_size", SIZE, "How much the cache of the fetcher may hold.", default="2GB", served_by="fetcher"),
    Flag(
        "fetcher_stall_timeout",
        DURATION,
        "How long a download may stand still, below a byte a second, before it fails.",
        default="1mins",
        served_by="fetcher",
    ),
    Flag("frameworks_home", TEXT, "Directory that relative URIs of executors begin in.", default=""),
    Flag(
        "hadoop_home",
        PATH,
        "Where Hadoop is installed.",
        instead="register a fetcher for hdfs:// through the entry point group `mesocosm.fetchers`",
    ),
)
