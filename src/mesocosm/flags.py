"""The flags of the containerizer: names, defaults and units are those of Mesos (docs/configuration)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from mesocosm.dataclass import dataclass, field
from mesocosm.images.settings import DEFAULT_REGISTRY, DEFAULT_STORE

AGENT_PORTS = ((31000, 32000),)
"""The ports that an agent offers, as ranges with both ends (`DEFAULT_PORTS` of Mesos's slave/constants.hpp)."""
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def names_in(text: str) -> list[str]:
    """The names in a list that is separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def flag(default: Any, text: str) -> Any:
    """A flag with its default value and the text of its help."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """How containers are made. Sizes are bytes, durations are seconds."""

    work_dir: Path = flag(Path("/var/lib/mesocosm"), "Directory of the sandboxes.")
    runtime_dir: Path = flag(
        Path("/run/mesocosm"),
        "Directory of the state that a restart recovers and a reboot ends. It belongs on a tmpfs.",
    )
    isolation: str = flag(
        "posix/cpu,posix/mem",
        "Isolators, separated by commas. The order of those that come with Mesocosm does not matter.",
    )
    launcher: str | None = flag(None, "`linux` or `posix`. Default: `linux` for root on Linux, else `posix`.")
    sandbox_directory: str = flag(
        "/mnt/mesos/sandbox", "Where the sandbox is mounted in a container that has its own root filesystem."
    )
    cgroups_hierarchy: Path = flag(Path("/sys/fs/cgroup"), "Where the cgroup file systems are mounted.")
    cgroups_root: str = flag("mesos", "The cgroup below which the containers' cgroups are made.")
    cgroups_enable_cfs: bool = flag(False, "Limit the CPU time of a container to its `cpus`, by the CFS quota.")
    cgroups_cpu_enable_pids_and_tids_count: bool = flag(False, "Count processes and threads, in `cgroups/cpu`.")
    revocable_cpu_low_priority: bool = flag(True, "Give containers with revocable CPUs a hundredth of the share.")
    cgroups_limit_swap: bool = flag(False, "Limit memory and swap together, instead of memory alone.")
    cgroups_net_cls_primary_handle: str | None = flag(
        None, "The upper 16 bits of the handles of `cgroups/net_cls`, as `0xAAAA`. Default: the operator manages them."
    )
    cgroups_net_cls_secondary_handles: str | None = flag(
        None, "The range of the lower 16 bits of these handles, as `0xAAAA,0xBBBB`. Default: all but 0."
    )
    cgroups_destroy_timeout: float = flag(
        60.0, "How long the end of a container's processes and the removal of its cgroups is tried."
    )
    allowed_devices: dict[str, Any] | None = flag(
        None,
        "Devices that `cgroups/devices` allows besides those that all may use, and `linux/devices` makes, as JSON.",
    )
    perf_events: str | None = flag(
        None, "Events that `cgroups/perf_event` counts, by their names in perf-list(1), separated by commas."
    )
    perf_interval: float = flag(60.0, "How often `cgroups/perf_event` counts.")
    perf_duration: float = flag(10.0, "How long `cgroups/perf_event` counts each time.")
    disallow_sharing_agent_pid_namespace: bool = flag(
        False, "Refuse a top-level container that asks for `share_pid_namespace`."
    )
    disallow_sharing_agent_ipc_namespace: bool = flag(
        False, "Refuse a top-level container whose `ipc_mode` is SHARE_PARENT."
    )
    default_container_shm_size: int | None = flag(
        None, "The size of a container's own /dev/shm where it asks for none. Default: half of the memory."
    )
    enforce_container_disk_quota: bool = flag(
        False, "End a container that uses more disk than it asked for; with `disk/xfs`, its writes fail instead."
    )
    disk_watch_interval: float = flag(
        60.0, "How often the disk is looked at: for sandboxes to remove, and for those that are gone (`disk/xfs`)."
    )
    xfs_project_range: str = flag("[5000-10000]", "Ids of projects that are `disk/xfs`'s alone: ranges, with commas.")
    xfs_kill_containers: bool = flag(
        False, "Let `disk/xfs` end containers that use more disk than they asked for, instead of failing writes."
    )
    xfs_quota_headroom: int = flag(10 << 20, "How much more than it asked for such a container can write until then.")
    docker_volume_checkpoint_dir: Path = flag(
        Path("/var/run/mesos/isolators/docker/volume"), "Where `docker/volume` remembers which volumes are in use."
    )
    docker_volume_chown: bool = flag(False, "Give volumes of `docker/volume` to the user of the container.")
    container_disk_watch_interval: float = flag(15.0, "How often the disk that a container uses is measured.")

    effective_capabilities: tuple[str, ...] | None = flag(
        None,
        "Capabilities of containers that ask for none, for `linux/capabilities`. Default: those of their user.",
    )
    bounding_capabilities: tuple[str, ...] | None = flag(
        None, "Capabilities that containers may have at most, for `linux/capabilities`. Default: all."
    )
    seccomp_config_dir: Path | None = flag(
        None, "Directory of the profiles of `linux/seccomp`. Default: that of those that come with Mesocosm."
    )
    seccomp_profile_name: str | None = flag(
        None, "Profile in `--seccomp_config_dir` of containers that name none. Default: none."
    )
    volume_gid_range: tuple[tuple[int, int], ...] | None = flag(
        None, "Groups for paths in sandboxes that containers of other users have as volumes, as `[10000-20000]`."
    )
    secret_resolver: str | None = flag(None, "What resolves secrets that are references. Default: none does.")
    host_path_volume_force_creation: str | None = flag(
        None, "Directories, separated by `:`, below which the sources of volumes are made where they are missing."
    )
    network_cni_config_dir: Path | None = flag(None, "Directory of the configurations of CNI networks.")
    network_cni_plugins_dir: str | None = flag(None, "Directories of CNI plugins, separated by `:`.")
    network_cni_root_dir_persist: bool = flag(
        False, "Keep the state of `network/cni` in the work directory, from where it is cleaned up after a boot."
    )
    network_cni_metrics: bool = flag(True, "Report what the interfaces of containers have carried.")
    network_cni_plugin_timeout: float = flag(60.0, "How long a CNI plugin may take for one command.")
    default_container_dns: dict[str, Any] | None = flag(
        None,
        "Name servers and search domains, as JSON, for CNI networks whose plugins tell none, and for those of Docker.",
    )
    container_ports_watch_interval: float = flag(30.0, "How often `network/ports` looks for ports.")
    enforce_container_ports: bool = flag(False, "End containers that listen on ports that they do not hold.")
    check_agent_port_range_only: bool = flag(False, "Let containers use any port that the agent does not offer.")
    container_ports_isolated_range: tuple[tuple[int, int], ...] | None = flag(
        None, "The only ports that `network/ports` looks at, as `[0-35000]`."
    )

    image_providers: tuple[str, ...] = flag(
        (), "Kinds of images that containers may have: `docker`, which are those of OCI, too. Default: none."
    )
    image_provisioner_backend: str | None = flag(
        None,
        "How the layers of images become a root: `bind`, `copy` or `overlay`. Default: `overlay` where that works, "
        "else `copy`.",
    )
    docker_registry: str = flag(
        DEFAULT_REGISTRY, "Registry that Docker images come from, or directory of archives of `docker save`."
    )
    docker_registry_mirrors: tuple[str, ...] = flag((), "URLs of registries that are asked before Docker's own.")
    docker_store_dir: Path = flag(DEFAULT_STORE, "Directory of Docker images.")
    docker_config: Mapping[str, Any] | None = flag(None, "Credentials for registries, as in `~/.docker/config.json`.")
    docker: str = flag("docker", "The program of Docker, or of Podman.")
    docker_socket: str = flag("/var/run/docker.sock", "The socket of Docker's daemon.")
    docker_kill_orphans: bool = flag(True, "Remove containers that Docker has for an agent, and that nobody knows.")
    docker_mesos_image: str | None = flag(
        None,
        "The image that the agent itself runs from, in a container. The executors of Docker's tasks do, too, then.",
    )
    docker_remove_delay: float = flag(6 * 3600.0, "How long a container of Docker is kept after its end.")
    docker_stop_timeout: float = flag(0.0, "How long a container of Docker that is destroyed has to end by itself.")
    docker_ignore_runtime: bool = flag(False, "Ignore the image's directory, variables, user and command.")

    @property
    def isolators(self) -> list[str]:
        """The names in `isolation`. To `Isolator.create` these are all that there are, with those that others bring."""
        return names_in(self.isolation)

    @classmethod
    def help(cls, name: str) -> str:
        """The help text of the flag `name`."""
        return next(str(entry.metadata["help"]) for entry in fields(cls) if entry.name == name)
