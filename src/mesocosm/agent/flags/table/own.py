"""What Mesos has no flag for. There the logger that rotates is a module, with parameters for it."""

from __future__ import annotations

import mmap

from mesocosm.agent.flags.flag import Flag, own
from mesocosm.agent.flags.kinds import NAMES, SOCKET, duration, integer, size

LOGROTATE = "logrotate"
"""The name of the container logger that the flags `logrotate_…` are for."""
_FILES = integer(0, 1000)

OWN = (
    own("docker_registry_mirrors", NAMES, "images"),
    own("network_cni_plugin_timeout", duration(zero=False), "network/cni"),
    Flag(
        "operator_socket",
        SOCKET,
        "Path of a Unix socket on which the agent listens as well. Default: none.",
        served_by="HTTP",
    ),
    Flag(
        "logrotate_max_stdout_size",
        size(mmap.PAGESIZE),
        "Size at which the file of a container's standard output is rotated.",
        default="10MB",
        served_by="container logger",
    ),
    Flag(
        "logrotate_max_stderr_size",
        size(mmap.PAGESIZE),
        "Size at which that of its standard error is rotated.",
        default="10MB",
        served_by="container logger",
    ),
    Flag(
        "logrotate_stdout_count",
        _FILES,
        "How many rotated files of the standard output are kept.",
        default="4",
        served_by="container logger",
    ),
    Flag(
        "logrotate_stderr_count",
        _FILES,
        "How many rotated files of the standard error are kept.",
        default="4",
        served_by="container logger",
    ),
)
