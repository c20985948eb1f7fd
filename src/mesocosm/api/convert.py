"""Between the messages of the wire and the values of the containerizer.

Messages are taken to be valid (`validation`). What they ask of a container and nothing in this version gives is refused
in one line that names the field, and the isolator that would give it. Left to the containerizer are fields of
`linux_info` whose isolator exists, but may be off: Mesos ignores those, with a warning.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace

from mesocosm.api import v1
from mesocosm.api.v1.agent import Call, Response
from mesocosm.api.validation import validate_secret
from mesocosm.container import (
    URI,
    BlkioStatistics,
    CommandInfo,
    ContainerClass,
    ContainerConfig,
    ContainerID,
    ContainerStatus,
    ContainerType,
    DiskStatistics,
    DockerVolume,
    Hidden,
    ImageRequest,
    ImageVolume,
    IPAddress,
    IpcMode,
    Label,
    LinuxInfo,
    MountPropagation,
    NetworkInfo,
    PerfStatistics,
    PersistentVolume,
    PortMapping,
    Resources,
    ResourceStatistics,
    RLimit,
    SandboxOf,
    SandboxPath,
    SeccompInfo,
    Secret,
    SecretReference,
    Termination,
    TTYInfo,
    Volume,
    VolumeMode,
)
from mesocosm.errors import ContainerError

Launch = Call.LaunchContainer | Call.LaunchNestedContainer | Call.LaunchNestedContainerSession

_ANY_CONTAINER = v1.ContainerInfo(type=v1.ContainerInfo.MESOS)
_MB = 1 << 20
_MOST = float(1 << 40)
"""Cores, or MB: far more than any machine has, and their bytes still are a 64-bit number."""
_SIDE_MAXIMUM = (1 << 16) - 1
"""Rows or columns of a terminal: `unsigned short` in `struct winsize` (ioctl_tty(2))."""


# What is asked for.


def container_id(message: v1.ContainerID) -> ContainerID:
    """The name of a container. Raises ContainerError for one that Mesos may have, but not we."""
    return ContainerID(message.value, container_id(message.parent) if message.HasField("parent") else None)


def container_config(
    launch: Launch, default: v1.ContainerInfo | None = None, *, switch_user: bool = True
) -> ContainerConfig:
    """What a call asks to launch; `default` is the ContainerInfo of a call that has none. Raises ContainerError.

    A session is a debug container. Without `switch_user`, the user that is asked for does not matter. A container of
    another type than MESOS is that and nothing else: the containerizer does not support it.
    """
    container = launch.container if launch.HasField("container") else default or _ANY_CONTAINER
    command = command_info(launch.command)
    if container.type != v1.ContainerInfo.MESOS:
        return ContainerConfig(command, type=ContainerType.DOCKER)
    _refuse_unserved(container)
    is_session = isinstance(launch, Call.LaunchNestedContainerSession)
    asked, bounds = (launch.resources, launch.limits) if isinstance(launch, Call.LaunchContainer) else ((), {})
    return ContainerConfig(
        command,
        user=(launch.command.user or None) if switch_user else None,
        environment=environment(launch.command.environment),
        secret_environment=secret_environment(launch.command.environment),
        volumes=tuple(
            _volume(index, volume) for index, volume in enumerate(container.volumes) if not volume.HasField("image")
        ),
        image_volumes=tuple(
            _image_volume(index, volume) for index, volume in enumerate(container.volumes) if volume.HasField("image")
        ),
        linux_info=linux_info(container.linux_info),
        persistent_volumes=persistent_volumes(asked),
        resources=resources(asked),
        limits=limits(bounds),
        container_class=ContainerClass.DEBUG if is_session else ContainerClass.DEFAULT,
        tty_info=tty_info(container.tty_info) if container.HasField("tty_info") else None,
        rlimits=rlimits(container.rlimit_info),
        network_infos=tuple(network_info(info) for info in container.network_infos if info.ListFields()),
        hostname=container.hostname if container.HasField("hostname") else None,
        image=image_request("container.mesos.image", container.mesos.image)
        if container.mesos.HasField("image")
        else None,
    )


def command_info(message: v1.CommandInfo) -> CommandInfo:
    """What to run, without its environment and its user."""
    return CommandInfo(
        value=message.value if message.HasField("value") else None,
        arguments=tuple(message.arguments),
        shell=message.shell,
        uris=tuple(_uri(uri) for uri in message.uris),
    )


def _uri(message: v1.CommandInfo.URI) -> URI:
    return URI(
        message.value,
        executable=message.executable,
        extract=message.extract,
        cache=message.cache,
        output_file=message.output_file if message.HasField("output_file") else None,
    )


def environment(message: v1.Environment) -> dict[str, str]:
    """The variables that are no secrets; of those with the same name, the last."""
    last = {variable.name: variable for variable in message.variables}.values()
    return {variable.name: variable.value for variable in last if variable.type == v1.Environment.Variable.VALUE}


def secret_environment(message: v1.Environment) -> dict[str, Secret]:
    """The variables that are secrets, in the same way."""
    last = {variable.name: variable for variable in message.variables}.values()
    return {
        variable.name: secret(variable.secret) for variable in last if variable.type == v1.Environment.Variable.SECRET
    }


def secret(message: v1.Secret) -> Secret:
    """A secret, which is valid."""
    if message.type == v1.Secret.REFERENCE:
        reference = message.reference
        return Secret(reference=SecretReference(reference.name, reference.key if reference.HasField("key") else None))
    return Secret(Hidden(message.value.data))


def linux_info(message: v1.LinuxInfo) -> LinuxInfo:
    """What is asked of the isolators on Linux that there are."""
    is_set = message.ipc_mode != v1.LinuxInfo.UNKNOWN
    return LinuxInfo(
        share_pid_namespace=message.share_pid_namespace,
        ipc_mode=IpcMode[v1.LinuxInfo.IpcMode.Name(message.ipc_mode)] if is_set else None,
        shm_size=message.shm_size * _MB if message.HasField("shm_size") else None,
        share_cgroups=message.share_cgroups,
        effective_capabilities=_effective_capabilities(message),
        bounding_capabilities=_capabilities(message, "bounding_capabilities"),
        seccomp=_seccomp_info(message.seccomp) if message.HasField("seccomp") else None,
    )


def _effective_capabilities(message: v1.LinuxInfo) -> tuple[str, ...] | None:
    """Those of either field: the older one is deprecated, but no less valid. Raises ContainerError for both."""
    if message.HasField("capability_info") and message.HasField("effective_capabilities"):
        raise ContainerError(
            "container.linux_info has both capability_info and effective_capabilities", "leave out capability_info"
        )
    return _capabilities(
        message, "capability_info" if message.HasField("capability_info") else "effective_capabilities"
    )


def _capabilities(message: v1.LinuxInfo, field: str) -> tuple[str, ...] | None:
    if not message.HasField(field):
        return None
    asked: v1.CapabilityInfo = getattr(message, field)
    names = tuple(v1.CapabilityInfo.Capability.Name(each) for each in asked.capabilities)
    if "UNKNOWN" in names:
        raise ContainerError(f"container.linux_info.{field}: UNKNOWN is no capability", "leave it out")
    return names


def _seccomp_info(message: v1.SeccompInfo) -> SeccompInfo:
    return SeccompInfo(message.profile_name if message.HasField("profile_name") else None, message.unconfined)


def rlimits(message: v1.RLimitInfo) -> tuple[RLimit, ...]:
    """The limits of processes. Raises ContainerError for one without a type."""
    return tuple(_rlimit(index, limit) for index, limit in enumerate(message.rlimits))


def _rlimit(index: int, message: v1.RLimitInfo.RLimit) -> RLimit:
    if message.type == v1.RLimitInfo.RLimit.UNKNOWN:
        raise ContainerError(f"container.rlimit_info.rlimits[{index}] has no type", "write one, such as RLMT_NOFILE")
    return RLimit(
        v1.RLimitInfo.RLimit.Type.Name(message.type).removeprefix("RLMT_"),
        soft=message.soft if message.HasField("soft") else None,
        hard=message.hard if message.HasField("hard") else None,
    )


def tty_info(message: v1.TTYInfo) -> TTYInfo:
    """A terminal, of the usual size if none is said. Raises ContainerError for one that no kernel makes."""
    if not message.HasField("window_size"):
        return TTYInfo()
    size = message.window_size
    if max(size.rows, size.columns) > _SIDE_MAXIMUM:
        raise ContainerError(
            f"tty_info.window_size: no terminal has {size.rows} rows and {size.columns} columns",
            f"ask for at most {_SIDE_MAXIMUM}",
        )
    return TTYInfo(size.rows, size.columns)


def _refuse_unserved(message: v1.ContainerInfo) -> None:
    if message.HasField("docker"):
        raise _unserved("container.docker", None)


def _unserved(what: str, isolator: str | None) -> ContainerError:
    hint = f"it takes the isolator {isolator}, which this version has not" if isolator else None
    return ContainerError(f"{what} is not supported", hint)


# Images.


def image_request(where: str, message: v1.Image) -> ImageRequest:
    """The image that a file system is to be made of. Raises ContainerError."""
    if message.type != v1.Image.DOCKER:
        raise ContainerError(f"{where}: there is no provider appc", "nobody makes Appc images; name one of Docker")
    if not message.docker.name:
        raise ContainerError(f"{where}: 'docker.name' is not set")
    if message.docker.HasField("credential"):
        raise ContainerError(f"{where}.docker.credential is not supported", "give docker.config")
    credentials = None
    if message.docker.HasField("config"):
        if message.docker.config.type != v1.Secret.VALUE:
            raise ContainerError(f"{where}.docker.config: only a secret of the type VALUE is supported")
        credentials = message.docker.config.value.data.decode(errors="replace")
    return ImageRequest(message.docker.name, cached=message.cached, credentials=credentials)


def image_names(messages: Iterable[v1.Image]) -> list[str]:
    """The names of those that can be here."""
    return [message.docker.name for message in messages if message.type == v1.Image.DOCKER]


def _image_volume(index: int, message: v1.Volume) -> ImageVolume:
    image = image_request(f"container.volumes[{index}].image", message.image)
    return ImageVolume(message.container_path, image, VolumeMode[v1.Volume.Mode.Name(message.mode)])


# Networks.


def network_info(message: v1.NetworkInfo) -> NetworkInfo:
    """A network to join, or that a container is in."""
    return NetworkInfo(
        name=message.name if message.HasField("name") else None,
        ip_addresses=tuple(
            IPAddress(
                v1.NetworkInfo.Protocol.Name(address.protocol),
                address.ip_address if address.HasField("ip_address") else None,
            )
            for address in message.ip_addresses
        ),
        groups=tuple(message.groups),
        labels=tuple(
            Label(label.key, label.value if label.HasField("value") else None) for label in message.labels.labels
        ),
        port_mappings=tuple(
            PortMapping(
                mapping.host_port, mapping.container_port, mapping.protocol if mapping.HasField("protocol") else None
            )
            for mapping in message.port_mappings
        ),
    )


def network_info_message(value: NetworkInfo) -> v1.NetworkInfo:
    """The inverse."""
    message = v1.NetworkInfo(name=value.name, groups=value.groups)
    for address in value.ip_addresses:
        protocol = v1.NetworkInfo.Protocol.Value(address.protocol)
        message.ip_addresses.add(protocol=protocol, ip_address=address.ip_address)
    for label in value.labels:
        message.labels.labels.add(key=label.key, value=label.value)
    for mapping in value.port_mappings:
        message.port_mappings.add(
            host_port=mapping.host_port, container_port=mapping.container_port, protocol=mapping.protocol
        )
    return message


# Volumes.


def _volume(index: int, message: v1.Volume) -> Volume:
    where = f"container.volumes[{index}]"
    mode = VolumeMode[v1.Volume.Mode.Name(message.mode)]
    if not message.HasField("source"):
        return Volume(message.container_path, message.host_path, mode, _propagation(message.host_path))
    source = message.source
    kind = v1.Volume.Source.Type.Name(source.type)
    if kind == "HOST_PATH":
        if not source.host_path.path.startswith("/"):
            raise ContainerError(f"{where}: Path {source.host_path.path!r} in HOST_PATH volume is not absolute")
        asked = source.host_path.mount_propagation.mode
        return Volume(message.container_path, source.host_path.path, mode, _propagation(source.host_path.path, asked))
    if kind == "SANDBOX_PATH":
        return Volume(message.container_path, mode=mode, sandbox_path=_sandbox_path(where, source.sandbox_path))
    if kind == "SECRET":
        if (reason := validate_secret(source.secret)) is not None:
            raise ContainerError(f"{where}: Invalid secret specified in volume: {reason}")
        return Volume(message.container_path, mode=mode, secret=secret(source.secret))
    if kind == "DOCKER_VOLUME":
        return Volume(message.container_path, mode=mode, docker_volume=_docker_volume(where, source.docker_volume))
    raise _unserved(f"{where}.source.{kind.lower()}", _SOURCES.get(kind))


def _docker_volume(where: str, message: v1.Volume.Source.DockerVolume) -> DockerVolume:
    if not message.HasField("driver"):
        raise ContainerError(f"{where}: The volume driver is not specified for volume {message.name!r}")
    return DockerVolume(
        message.driver, message.name, {each.key: each.value for each in message.driver_options.parameter}
    )


def _sandbox_path(where: str, message: v1.Volume.Source.SandboxPath) -> SandboxPath:
    if message.path.startswith("/"):
        raise ContainerError(f"{where}: Path {message.path!r} in SANDBOX_PATH volume is absolute")
    if message.type == v1.Volume.Source.SandboxPath.UNKNOWN:
        raise ContainerError(f"{where}: Unknown SANDBOX_PATH volume type", "write SELF or PARENT")
    return SandboxPath(message.path, SandboxOf[v1.Volume.Source.SandboxPath.Type.Name(message.type)])


_SOURCES = {
    "CSI_VOLUME": "volume/csi",
}


def _propagation(path: str, asked: v1.MountPropagation.Mode = v1.MountPropagation.UNKNOWN) -> MountPropagation | None:
    """Mesos lets mounts of the host reach the container if nothing else is asked for. In the sandbox there are none."""
    if not path.startswith("/"):
        return None
    if asked == v1.MountPropagation.UNKNOWN:
        return MountPropagation.HOST_TO_CONTAINER
    return MountPropagation[v1.MountPropagation.Mode.Name(asked)]


# Resources.


def resources(messages: Iterable[v1.Resource]) -> Resources:
    """The requests of cpus, mem, disk and ports, added up over all roles. Raises ContainerError.

    Others (gpus, or what an operator made up) are promises of the agent that no isolator of this version keeps track
    of; as Mesos without theirs, this does not look at them. What of the disk is a volume is not the sandbox's.
    """
    totals: dict[str, float] = {}
    revocable = False
    ports: tuple[tuple[int, int], ...] = ()
    for message in messages:
        if message.HasField("disk"):
            continue
        if message.HasField("revocable") and message.name != "cpus":
            raise ContainerError(f"resources: {message.name!r} is revocable, which only 'cpus' can be")
        revocable |= message.HasField("revocable")
        totals[message.name] = totals.get(message.name, 0.0) + message.scalar.value
        if message.name == "ports":
            ports += tuple((part.begin, part.end) for part in message.ranges.range)
    # A request for nothing is none.
    amounts = {name: total for name, total in totals.items() if name in (*_AMOUNTS, "disk") and total != 0}
    return replace(_amounts("resources", amounts), ports=ports or None, cpus_revocable=revocable)


def limits(messages: Mapping[str, v1.Value.Scalar]) -> Resources:
    """The limits of cpus and mem; infinite: none, though there is a request. Raises ContainerError for any other."""
    for name in messages:
        if name not in _AMOUNTS:
            raise ContainerError(f"limits: {name!r} is not supported", f"limit {' and '.join(_AMOUNTS)}")
    return _amounts("limits", {name: messages[name].value for name in messages}, infinite=True)


_AMOUNTS = ("cpus", "mem")


def _amounts(where: str, amounts: Mapping[str, float], *, infinite: bool = False) -> Resources:
    for name, amount in amounts.items():
        if not (0 < amount < _MOST or (infinite and amount == math.inf)):
            raise ContainerError(f"{where}: {amount:g} is no amount of {name!r}")
    cpus = amounts.get("cpus")
    mem = amounts.get("mem")
    return Resources(
        cpus=None if cpus is None else round(cpus, 3),  # All the digits that Mesos counts.
        mem=mem if mem is None or math.isinf(mem) else _bytes(mem),
        disk=_bytes(amounts["disk"]) if "disk" in amounts else None,
    )


def _bytes(megabytes: float) -> int:
    return round(megabytes * _MB)


def persistent_volumes(messages: Iterable[v1.Resource]) -> tuple[PersistentVolume, ...]:
    """The parts of the agent's own disk that outlive containers. Raises ContainerError for those of any other disk."""
    return tuple(_persistent_volume(message) for message in messages if message.HasField("disk"))


def _persistent_volume(message: v1.Resource) -> PersistentVolume:
    disk = message.disk
    if disk.HasField("source") or message.HasField("shared") or not disk.HasField("persistence"):
        raise ContainerError("resources: of the resource 'disk', only persistent volumes of the agent are supported")
    if not disk.HasField("volume"):
        raise ContainerError(f"resources: the persistent volume {disk.persistence.id!r} has no container_path")
    persistence, volume = disk.persistence, disk.volume
    return PersistentVolume(
        persistence.id,
        message.reservations[-1].role if message.reservations else message.role,
        _bytes(message.scalar.value),
        volume.container_path,
        VolumeMode[v1.Volume.Mode.Name(volume.mode)],
        persistence.principal if persistence.HasField("principal") else None,
    )


# What became of it.


def container_id_message(container_id: ContainerID) -> v1.ContainerID:
    """A name, with those of the containers it is nested in."""
    message = v1.ContainerID(value=container_id.value)
    if container_id.parent is not None:
        message.parent.CopyFrom(container_id_message(container_id.parent))
    return message


def termination(value: Termination) -> Response.WaitContainer:
    """How a container ended. One that did so for a reason of the agent's has failed (TASK_FAILED)."""
    message = Response.WaitContainer(exit_status=value.status)
    if value.message is not None:
        message.message = value.message.encode(errors="backslashreplace").decode()
    if value.reason is None:
        return message
    # That of an isolator from elsewhere may have another name.
    reason = value.reason if value.reason in _REASONS else "REASON_CONTAINER_LIMITATION"
    message.MergeFrom(Response.WaitContainer(state=v1.TASK_FAILED, reason=reason))
    if value.limited_resource is not None:
        message.limitation.resources.append(_limited(value.limited_resource, value))
    return message


_REASONS = frozenset(v1.TaskStatus.DESCRIPTOR.enum_types_by_name["Reason"].values_by_name)


def _limited(name: str, value: Termination) -> v1.Resource:
    """The resource that a container ran out of, and how much of it was used: 0 if nobody knows, as in Mesos."""
    if value.limited_ranges:
        ranges = [v1.Value.Range(begin=begin, end=end) for begin, end in value.limited_ranges]
        return v1.Resource(name=name, type=v1.Value.RANGES, ranges=v1.Value.Ranges(range=ranges))
    used = value.limited_amount
    if used is None and name == "mem" and value.usage is not None:
        used = value.usage.mem_maximum_bytes
    amount = 0.0 if used is None else round(used / _MB, 3)
    return v1.Resource(name=name, type=v1.Value.SCALAR, scalar=v1.Value.Scalar(value=amount))


def container_status(value: ContainerStatus) -> v1.ContainerStatus:
    """What a running container is."""
    identity = None if value.container_id is None else container_id_message(value.container_id)
    networks = map(network_info_message, value.network_infos or ())
    message = v1.ContainerStatus(container_id=identity, executor_pid=value.executor_pid, network_infos=networks)
    if value.net_cls_classid is not None:
        message.cgroup_info.net_cls.classid = value.net_cls_classid
    return message


def resource_statistics(value: ResourceStatistics) -> v1.ResourceStatistics:
    """What a container uses, without what Mesos has no field for; at the time 0 if that is not known."""
    known = {name: amount for name in _STATISTICS if (amount := getattr(value, name)) is not None}
    disks = map(_disk_statistics, value.disk_statistics or ())
    message = v1.ResourceStatistics(**{"timestamp": 0.0, **known, "disk_statistics": disks})
    if value.blkio_statistics is not None:
        message.blkio_statistics.throttling.extend(map(_blkio_statistics, value.blkio_statistics))
    if value.perf is not None:
        message.perf.CopyFrom(_perf_statistics(value.perf))
    return message


def _perf_statistics(value: PerfStatistics) -> v1.PerfStatistics:
    message = v1.PerfStatistics(timestamp=value.timestamp, duration=value.duration)
    for name, count in value.counts.items():
        setattr(message, name, count)
    return message


def _blkio_statistics(value: BlkioStatistics) -> v1.CgroupInfo.Blkio.Throttling.Statistics:
    message = v1.CgroupInfo.Blkio.Throttling.Statistics(
        io_serviced=_blkio_values(value.io_serviced), io_service_bytes=_blkio_values(value.io_service_bytes)
    )
    if value.device is not None:
        message.device.major_number, message.device.minor_number = value.device
    return message


def _blkio_values(amounts: Mapping[str, int]) -> list[v1.CgroupInfo.Blkio.Value]:
    known = v1.CgroupInfo.Blkio.Operation.keys()
    return [v1.CgroupInfo.Blkio.Value(op=name, value=amount) for name, amount in amounts.items() if name in known]


def _disk_statistics(value: DiskStatistics) -> v1.DiskStatistics:
    message = v1.DiskStatistics(limit_bytes=value.limit_bytes, used_bytes=value.used_bytes)
    if value.id is not None:
        message.persistence.id = value.id
        if value.principal is not None:
            message.persistence.principal = value.principal
    return message


_STATISTICS = tuple(
    field.name
    for field in fields(ResourceStatistics)
    if (known := v1.ResourceStatistics.DESCRIPTOR.fields_by_name.get(field.name)) and known.message_type is None
)
