"""What `docker create` is told of a container: a pure function of what was asked for.

Source: docker-containerizer.md and docker/docker.cpp of Mesos, docker-create(1).
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from mesocosm.cni.result import Dns
from mesocosm.container import ContainerConfig, LinuxInfo, MountPropagation, Resources, Volume, persistent_volume_path
from mesocosm.dataclass import dataclass, field
from mesocosm.docker.info import DockerInfo, DockerNetwork
from mesocosm.errors import ContainerError, FlagError
from mesocosm.flags import Flags
from mesocosm.linux.cgroup.cpu import quota, shares
from mesocosm.linux.cgroup.memory import oom_score

MEMORY_MINIMUM = 32 << 20
"""Bytes that a container has at least, as in Mesos (slave/containerizer/mesos/isolators/cgroups/constants.hpp)."""
NAME_PREFIX = "mesos-"
"""Of all containers that an agent has Docker make: the rest of the name is the container's id."""
_NETWORK_PARAMETERS = ("net", "network")
_DNS_PARAMETERS = ("dns", "dns-search", "dns-opt", "dns-option")
_PROPAGATION = {MountPropagation.HOST_TO_CONTAINER: "rslave", MountPropagation.BIDIRECTIONAL: "rshared"}
_WITHOUT_PORTS = ("host", "none")


@dataclass(frozen=True, slots=True)
class Run:
    """A container that is to be made: the `arguments` of `docker create`, and its `variables` beside them."""

    name: str
    arguments: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DefaultDns:
    """What `--default_container_dns` says of Docker's networks: of its bridge, and of others by name, or of any."""

    bridge: Dns | None = None
    networks: Mapping[str | None, Dns] = field(default_factory=dict)

    @classmethod
    def parse(cls, flag: Mapping[str, Any] | None) -> DefaultDns:
        """Raises FlagError."""
        entries = (flag or {}).get("docker", [])
        if not isinstance(entries, list) or any(not isinstance(entry, dict) for entry in entries):
            raise FlagError("--default_container_dns: 'docker' is no list of objects")
        found: dict[tuple[str, str | None], Dns] = {}
        for entry in entries:
            mode, name = entry.get("network_mode"), entry.get("network_name")
            if mode not in ("BRIDGE", "USER") or (mode == "BRIDGE" and name is not None):
                raise FlagError("--default_container_dns: a network of 'docker' is BRIDGE, or USER with a network_name")
            if (mode, name) in found:
                raise FlagError(f"--default_container_dns has two entries of {mode} {name or ''}", "remove one of them")
            try:
                found[mode, name] = Dns.parse(entry.get("dns") or {})
            except ValueError as error:
                raise FlagError(f"--default_container_dns: {error}") from error
        users = {name: dns for (mode, name), dns in found.items() if mode == "USER"}
        return cls(found.get(("BRIDGE", None)), users)

    def of(self, info: DockerInfo, network: str) -> Dns:
        """For a container that asks for `info`, in the network of this name."""
        if info.network is DockerNetwork.BRIDGE:
            return self.bridge or Dns()
        if info.network is DockerNetwork.USER:
            return self.networks.get(network) or self.networks.get(None) or Dns()
        return Dns()


def run(
    name: str, config: ContainerConfig, flags: Flags, default_dns: DefaultDns, labels: Mapping[str, str] | None = None
) -> Run:
    """The container `name` of `config`, which has a sandbox. Raises ContainerError for what Docker cannot be asked.

    It has the `labels`, also where a parameter says something else of them.
    """
    info, sandbox = config.docker, config.directory
    assert info is not None
    assert sandbox is not None
    _check(config)
    options = [f"--name={name}"]
    options += ["--privileged"] if info.privileged else []
    options += _amounts(config.resources, config.limits, cpus_are_bounded=flags.cgroups_enable_cfs)
    for volume in config.volumes:
        options += _volume(volume, info, sandbox, flags.sandbox_directory)
    options += _bind(str(sandbox), flags.sandbox_directory)
    for persistent in config.persistent_volumes:
        target = PurePosixPath(flags.sandbox_directory, persistent.container_path)
        source = persistent_volume_path(flags.work_dir, persistent)
        options += _bind(str(source), str(target), persistent.mode.value.lower())
    options += _volume_driver(config.volumes, info)
    options += _network(config, info, default_dns)
    options += [f"--label={key}={value}" for key, value in (labels or {}).items()]  # Of several, the last one counts.
    entrypoint, command = _command(config)
    return Run(name, (*options, *entrypoint, info.image, *command), _variables(name, config, flags))


def container_name(container_id: str) -> str:
    """What Docker calls the container."""
    return f"{NAME_PREFIX}{container_id}"


def _check(config: ContainerConfig) -> None:
    info = config.docker
    assert info is not None
    if not info.image or info.image.startswith("-"):
        raise ContainerError(f"{info.image!r} is no name of an image")
    asked = {
        "an image of the Mesos containerizer": config.images,
        "a root file system": config.rootfs,
        "a terminal": config.tty_info,
        "an input": config.interactive,
        "a tmpfs": config.tmpfs,
        "limits of setrlimit(2)": config.rlimits,
        "what isolators do": config.linux_info != LinuxInfo(),
    }
    for what, wish in asked.items():
        if wish:
            raise ContainerError(f"a container of Docker is given {what} by docker.parameters only")
    for key, _ in info.parameters:
        if key == "name":
            raise ContainerError("docker.parameters: the name of the container is the agent's to give", "leave it out")


def _variables(name: str, config: ContainerConfig, flags: Flags) -> Mapping[str, str]:
    return {**config.environment, "MESOS_SANDBOX": flags.sandbox_directory, "MESOS_CONTAINER_NAME": name}


def _amounts(resources: Resources, limits: Resources, *, cpus_are_bounded: bool) -> Iterator[str]:
    """The options for what the container may use. Without a limit that is the request too: for memory always."""
    if resources.cpus is not None:
        yield f"--cpu-shares={shares(resources.cpus)}"
    cpus = resources.cpus if limits.cpus is None and cpus_are_bounded else limits.cpus
    if cpus is not None and (microseconds := quota(cpus)) is not None:
        yield f"--cpu-quota={microseconds}"
    mem = resources.mem if limits.mem is None else limits.mem
    if mem is not None and not math.isinf(mem):
        yield f"--memory={max(int(mem), MEMORY_MINIMUM)}"
    if resources.mem is not None and limits.mem is not None:
        yield f"--memory-reservation={max(int(resources.mem), MEMORY_MINIMUM)}"
        if resources.mem < limits.mem:
            yield f"--oom-score-adj={oom_score(int(resources.mem))}"


def _volume(volume: Volume, info: DockerInfo, sandbox: Path, mapped: str) -> Sequence[str]:
    target = str(PurePosixPath(mapped, volume.container_path))  # A relative path is below the sandbox.
    mode = volume.mode.value.lower()
    if volume.propagation is not None:
        mode += f",{_PROPAGATION[volume.propagation]}"
    if volume.docker_volume is not None:
        return [f"--volume={volume.docker_volume.name}:{target}:{mode}"]
    if volume.host_path is None:
        raise ContainerError(f"the volume at {volume.container_path} has no host_path and no volume of Docker's")
    if PurePosixPath(volume.host_path).is_absolute():
        return _bind(volume.host_path, target, mode)
    if not PurePosixPath(volume.container_path).is_absolute():
        raise ContainerError(
            f"Both host_path {volume.host_path!r} and container_path {volume.container_path!r} of a volume are relative"
        )
    if info.volume_driver is not None:
        return [f"--volume={volume.host_path}:{target}:{mode}"]
    return _bind(str(sandbox / volume.host_path), target, mode)


def _bind(source: str, target: str, mode: str = "rw") -> Sequence[str]:
    """The options that mount a path of the host. Where a colon is in it, `--volume` would take that for its own."""
    if ":" not in source + target:
        return [f"--volume={source}:{target}:{mode}"]
    access, _, propagation = mode.partition(",")
    fields = ["type=bind", f"source={source}", f"target={target}"]
    fields += ["readonly"] if access == "ro" else []
    fields += [f"bind-propagation={propagation}"] if propagation else []
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(fields)
    return [f"--mount={line.getvalue()}"]


def _volume_driver(volumes: Sequence[Volume], info: DockerInfo) -> Sequence[str]:
    drivers = {volume.docker_volume.driver for volume in volumes if volume.docker_volume is not None}
    drivers |= {info.volume_driver} if info.volume_driver is not None else set()
    if len(drivers) > 1:
        raise ContainerError(f"Only one volume driver is supported, and there are {', '.join(sorted(drivers))}")
    return [f"--volume-driver={driver}" for driver in drivers]


def _network(config: ContainerConfig, info: DockerInfo, default_dns: DefaultDns) -> Iterator[str]:
    """The options for the network. One among the parameters comes first: it takes the place of what else was asked."""
    others = list(info.parameters)
    asked = next((each for each in others if each[0] in _NETWORK_PARAMETERS), None)
    if asked is not None:
        others.remove(asked)
    network = _name(config, info) if asked is None else asked[1]
    yield f"--net={network}"
    if config.hostname is not None:
        if network == "host":
            raise ContainerError("Unable to set hostname with host network mode")
        yield f"--hostname={config.hostname}"
    yield from _ports(config, info, network)
    if not any(key in _DNS_PARAMETERS for key, _ in others):
        dns = default_dns.of(info, network)
        yield from (f"--dns={server}" for server in dns.nameservers)
        yield from (f"--dns-search={domain}" for domain in dns.search)
        yield from (f"--dns-opt={option}" for option in dns.options)
    yield from (f"--{key}={value}" for key, value in others)


def _name(config: ContainerConfig, info: DockerInfo) -> str:
    if info.network is not DockerNetwork.USER:
        return str(info.network.value).lower()
    if not config.network_infos:
        raise ContainerError("No network info found in container info")
    if len(config.network_infos) > 1:
        raise ContainerError("Only a single network can be defined in Docker run")
    if (name := config.network_infos[0].name) is None:
        raise ContainerError("No network name found in network info")
    return name


def _ports(config: ContainerConfig, info: DockerInfo, network: str) -> Iterator[str]:
    if not info.port_mappings:
        return
    if network in _WITHOUT_PORTS:
        raise ContainerError("Port mappings are only supported for bridge and user-defined networks")
    if config.resources.ports is None:
        raise ContainerError("Port mappings require port resources")
    for mapping in info.port_mappings:
        if not any(first <= mapping.host_port <= last for first, last in config.resources.ports):
            raise ContainerError(f"Port [{mapping.host_port}] not included in resources")
        protocol = f"/{mapping.protocol.lower()}" if mapping.protocol else ""
        yield f"--publish={mapping.host_port}:{mapping.container_port}{protocol}"


def _command(config: ContainerConfig) -> tuple[Sequence[str], Sequence[str]]:
    """The option, and what follows the image. A shell takes the place of the image's entry point (MESOS-1770)."""
    command = config.command
    if not command.shell:
        return [], [*([command.value] if command.value is not None else []), *command.arguments]
    if command.value is None:
        raise ContainerError("Shell specified but no command value provided")
    return ["--entrypoint=/bin/sh"], ["-c", command.value]
