"""The agent as part of a cluster: its master, what it offers, and executors."""

from __future__ import annotations

from mesocosm.agent.flags.flag import Flag
from mesocosm.agent.flags.kinds import (
    BOOLEAN,
    COUNT,
    DURATION,
    KEY_FILE,
    MASTER_ADDRESS,
    NAME,
    OBJECT,
    PATH,
    TEXT,
    choice,
)

MASTER = (
    Flag(
        "master",
        MASTER_ADDRESS,
        "The master, as `host:port` or `zk://user:password@host:port,…/path`. Without one the agent is on its own.",
        served_by="agent",
    ),
    Flag(
        "master_detector",
        NAME,
        "What finds the master, instead of `--master`.",
        instead="give --master; modules of Mesos are not loaded",
    ),
    Flag(
        "zk_session_timeout",
        DURATION,
        "How long a session with ZooKeeper lasts unheard.",
        default="10secs",
        served_by="agent",
    ),
    Flag(
        "registration_backoff_factor",
        DURATION,
        "The first wait before registering, at most.",
        default="1secs",
        served_by="agent",
    ),
    Flag(
        "credential",
        KEY_FILE,
        "File with the `principal` and `secret` of the agent at the master.",
        served_by="agent",
    ),
    Flag(
        "authenticatee",
        choice("crammd5"),
        "How the agent authenticates at the master.",
        default="crammd5",
        served_by="agent",
    ),
    Flag(
        "authentication_backoff_factor",
        DURATION,
        "How fast the waits between attempts to authenticate grow.",
        default="1secs",
        served_by="agent",
    ),
    Flag(
        "authentication_timeout_min",
        DURATION,
        "The least wait before authenticating again.",
        default="5secs",
        served_by="agent",
    ),
    Flag(
        "authentication_timeout_max",
        DURATION,
        "The greatest wait before authenticating again.",
        default="1mins",
        served_by="agent",
    ),
    Flag("domain", OBJECT, "The region and zone of the agent, as `fault_domain`.", served_by="agent"),
)

RESOURCES = (
    Flag(
        "resources",
        TEXT,
        "What the agent offers, as JSON or `cpus:2;mem:4096`. Default: what the machine has.",
        served_by="agent",
    ),
    Flag("default_role", NAME, "The role of resources that name none.", default="*", served_by="agent"),
    Flag("attributes", TEXT, "What else is to be known of the machine, as `rack:2;zone:b`.", served_by="agent"),
    Flag("resource_provider_config_dir", PATH, "Directory of the configurations of resource providers."),
    Flag("resource_estimator", NAME, "What estimates how much can be offered twice."),
    Flag("qos_controller", NAME, "What ends containers that were offered too much."),
    Flag(
        "qos_correction_interval_min",
        DURATION,
        "The least time between corrections of `--qos_controller`.",
        default="0ns",
    ),
    Flag(
        "oversubscribed_resources_interval",
        DURATION,
        "How often the estimate of `--resource_estimator` is reported.",
        default="15secs",
    ),
)

EXECUTORS = (
    Flag("executor_environment_variables", OBJECT, "Variables for executors, by their names.", served_by="tasks"),
    Flag(
        "executor_registration_timeout",
        DURATION,
        "How long an executor may take to register.",
        default="1mins",
        served_by="tasks",
    ),
    Flag(
        "executor_reregistration_timeout",
        DURATION,
        "How long an executor may take to come back to a new agent; 15secs at most.",
        default="2secs",
        served_by="tasks",
    ),
    Flag(
        "executor_reregistration_retry_interval",
        DURATION,
        "How often v0 executors are asked to come back. Default: once.",
        served_by="tasks",
    ),
    Flag(
        "executor_shutdown_grace_period",
        DURATION,
        "How long an executor has to end by itself, unless it says otherwise.",
        default="5secs",
        served_by="tasks",
    ),
    Flag(
        "max_completed_executors_per_framework",
        COUNT,
        "How many executors that ended are remembered.",
        default="150",
        served_by="tasks",
    ),
    Flag(
        "http_command_executor",
        BOOLEAN,
        "What `MESOS_HTTP_COMMAND_EXECUTOR` says to executors. The built-in ones always speak HTTP.",
        default="false",
        served_by="tasks",
    ),
    Flag(
        "http_executor_domain_sockets",
        BOOLEAN,
        "Let executors reach the agent by a Unix socket.",
        default="false",
        served_by="HTTP, tasks",
    ),
    Flag(
        "domain_socket_location",
        TEXT,
        "The Unix socket for executors that see the files of the host. Default: `agent.sock` in `--runtime_dir`.",
        served_by="HTTP, tasks",
    ),
)
