"""The agent itself: its life, its address, who may use it, its log, and what it clears away."""

from __future__ import annotations

from mesocosm.agent.flags.flag import Flag, own
from mesocosm.agent.flags.kinds import (
    ADDRESS,
    BOOLEAN,
    COUNT,
    DURATION,
    IPV6_ADDRESS,
    KEY_FILE,
    NAME,
    NAMES,
    OBJECT,
    PATH,
    PORT,
    TEXT,
    choice,
    duration,
    fraction,
    integer,
)

_ENTRY_POINTS = "register isolators and the like as Python entry points, in groups such as `mesocosm.isolators`"

LIFE = (
    Flag("help", BOOLEAN, "Print the flags and exit.", default="false", served_by="agent"),
    Flag("version", BOOLEAN, "Print the version and exit.", default="false", served_by="agent"),
    Flag(
        "recover",
        choice("reconnect", "cleanup"),
        "`reconnect` takes up the containers that an earlier agent left; `cleanup` ends them all, and then the agent.",
        default="reconnect",
        served_by="agent",
    ),
    Flag(
        "recovery_timeout",
        DURATION,
        "How long recovery may take; executors that wait for the agent give up then.",
        default="15mins",
        served_by="tasks",
    ),
    Flag(
        "strict",
        BOOLEAN,
        "Refuse to start where a record of a container is damaged, instead of doing without it.",
        default="true",
        served_by="agent",
    ),
    Flag(
        "reconfiguration_policy",
        choice("equal", "additive"),
        "Whether resources and attributes may change over a restart: not at all, or by being more.",
        default="equal",
        served_by="agent",
    ),
    Flag(
        "switch_user",
        BOOLEAN,
        "Run containers as the user that they ask for, instead of that of the agent.",
        default="true",
        served_by="agent",
    ),
    Flag("hooks", NAMES, "Hooks to call, in this order.", served_by="agent"),
    Flag("modules", OBJECT, "Shared libraries with modules of Mesos to load.", instead=_ENTRY_POINTS),
    Flag("modules_dir", PATH, "Directory of files with what `--modules` has.", instead=_ENTRY_POINTS),
    Flag(
        "launcher_dir",
        PATH,
        "Directory of the programs of Mesos.",
        default="/usr/local/libexec/mesos",
        instead="remove it; there are no programs to find",
    ),
    Flag(
        "memory_profiling",
        BOOLEAN,
        "Let libprocess profile memory by jemalloc.",
        default="false",
        instead="use a profiler for Python, such as memray",
    ),
    Flag(
        "systemd_enable_support",
        BOOLEAN,
        "Move executors to a slice of systemd's; `true` is refused, as `KillMode=process` in the unit is enough.",
        default="false",
        served_by="agent",
    ),
    Flag(
        "systemd_runtime_directory",
        PATH,
        "Where systemd keeps what it generates.",
        default="/run/systemd/system",
        instead="remove it; nothing is written there",
    ),
    Flag("agent_features", OBJECT, "The capabilities that the agent reports; those that Mesos requires among them."),
)

ADDRESSES = (
    Flag(
        "ip",
        ADDRESS,
        "Address to listen on; 0.0.0.0 is all of this host. Default: 127.0.0.1, which only this host can reach.",
        served_by="HTTP",
    ),
    Flag("port", PORT, "Port to listen on; 0 lets the system choose one.", default="5051", served_by="HTTP"),
    Flag(
        "ip_discovery_command",
        TEXT,
        "Command that prints the address to listen on; not with `--ip`.",
        instead='write --ip="$(COMMAND)"',
    ),
    Flag(
        "ip6",
        IPV6_ADDRESS,
        "IPv6 address to advertise for containers in the host's network, besides the agent's own.",
        served_by="tasks",
    ),
    Flag(
        "ip6_discovery_command",
        TEXT,
        "Command that prints the IPv6 address to advertise; not with `--ip6`.",
        instead='write --ip6="$(COMMAND)"',
    ),
    Flag("advertise_ip", ADDRESS, "Address at which others reach the agent. Default: its own.", served_by="HTTP"),
    Flag(
        "advertise_port", integer(1, 65535), "Port at which others reach the agent. Default: its own.", served_by="HTTP"
    ),
    Flag("hostname", NAME, "Name that the agent reports. Default: that of its address.", served_by="agent"),
    Flag(
        "hostname_lookup",
        BOOLEAN,
        "Look up the name of the agent's address; else the address is the name.",
        default="true",
        served_by="agent",
    ),
    Flag(
        "http_heartbeat_interval",
        duration(zero=False),
        "How often an answer that goes on, such as a session's, says so.",
        default="30secs",
        served_by="HTTP",
    ),
    Flag("firewall_rules", OBJECT, "Paths that are answered with 403, as `disabled_endpoints.paths`."),
)

ACCESS = (
    Flag(
        "authenticate_http_readonly",
        BOOLEAN,
        "Require a name and a password for what only reads.",
        default="false",
        served_by="HTTP",
    ),
    Flag(
        "authenticate_http_readwrite",
        BOOLEAN,
        "Require a name and a password for what changes something.",
        default="false",
        served_by="HTTP",
    ),
    Flag(
        "authenticate_http_executors",
        BOOLEAN,
        "Require a token of executors; not with v0.",
        default="false",
        served_by="HTTP, tasks",
    ),
    Flag(
        "http_credentials",
        KEY_FILE,
        "File with the names and passwords that are known: `credentials`, each with `principal` and `secret`.",
        served_by="HTTP",
    ),
    Flag("http_authenticators", NAMES, "How requests are authenticated. Default: `basic`."),
    Flag(
        "jwt_secret_key",
        KEY_FILE,
        "File with the key of the executors' tokens.",
        renamed_from="executor_secret_key",
        served_by="HTTP, tasks",
    ),
    Flag(
        "authorizer",
        choice("local"),
        "Who decides what a principal may do; `local` goes by `--acls`.",
        default="local",
        served_by="HTTP",
    ),
    Flag("acls", OBJECT, "What each principal may do, as the message `ACLs` of Mesos.", served_by="HTTP"),
    own("secret_resolver", NAME, "environment_secret, volume/secret"),
)

LOG = (
    Flag("quiet", BOOLEAN, "Log nothing to the standard error.", default="false", served_by="logging"),
    Flag(
        "logging_level",
        choice("INFO", "WARNING", "ERROR"),
        "The least severity that is logged; with `--quiet` it is about `--log_dir` alone.",
        default="INFO",
        served_by="logging",
    ),
    Flag("log_dir", PATH, "Directory to write the log to. Default: none is written.", served_by="logging"),
    Flag(
        "external_log_file",
        PATH,
        "File that something else writes the log to: shown where that of `--log_dir` would be.",
        served_by="logging",
    ),
    Flag(
        "logbufsecs",
        COUNT,
        "Seconds that lines of the log may wait for more.",
        default="0",
        instead="remove it; every line is written at once",
    ),
    Flag(
        "initialize_driver_logging",
        BOOLEAN,
        "Set up the logging of drivers.",
        default="true",
        instead="remove it; there are no drivers here",
    ),
)

CLEARING = (
    Flag(
        "gc_delay",
        DURATION,
        "How long a sandbox is kept after its container has ended, at most: less as the disk fills.",
        default="1weeks",
        served_by="agent",
    ),
    Flag(
        "gc_disk_headroom",
        fraction(),
        "Part of the disk to keep free: `gc_delay * max(0, 1 - gc_disk_headroom - used part)` is the age allowed.",
        default="0.1",
        served_by="agent",
    ),
    own("disk_watch_interval", duration(zero=False), "agent, disk/xfs"),
    Flag(
        "gc_non_executor_container_sandboxes",
        BOOLEAN,
        "Also remove the sandboxes of containers that were launched through the API of the agent.",
        default="false",
        served_by="agent",
    ),
)
