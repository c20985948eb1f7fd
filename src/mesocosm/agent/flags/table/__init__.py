"""Every flag of the agent, by topic: one table for the parser, `--help`, `/flags` and the documentation.

Names, defaults and units are those of Mesos (docs/configuration, slave/flags.cpp, logging/flags.cpp). To serve a flag,
say so in its `served_by`, and make it a field of `AgentFlags` or of the containerizer's `Flags`.
"""

from __future__ import annotations

from mesocosm.agent.flags.flag import Flag
from mesocosm.agent.flags.table import agent, cluster, containers, images, networks, own

SECTIONS: dict[str, tuple[Flag, ...]] = {
    "The agent": (*containers.DIRECTORIES, *agent.LIFE),
    "Address and name": agent.ADDRESSES,
    "Authentication and authorization": agent.ACCESS,
    "Log": agent.LOG,
    "Garbage collection": agent.CLEARING,
    "Containerizer": containers.CONTAINERIZER,
    "Cgroups": containers.CGROUPS,
    "Security of containers": containers.SECURITY,
    "Fetcher": containers.FETCHER,
    "Images": images.IMAGES,
    "Disk and volumes": images.DISK,
    "Networks": networks.NETWORKS,
    "Port mapping": networks.PORT_MAPPING,
    "Docker containerizer": images.DOCKER,
    "Master": cluster.MASTER,
    "Resources": cluster.RESOURCES,
    "Executors": cluster.EXECUTORS,
    "Mesocosm's own": own.OWN,
}

FLAGS: dict[str, Flag] = {flag.name: flag for flags in SECTIONS.values() for flag in flags}
SPELLINGS: dict[str, str] = {
    spelling: flag.name for flag in FLAGS.values() for spelling in (flag.name, *flag.old_names)
}
"""The name of the flag for each spelling of it, old ones as well."""
