"""Volumes, but those of images and of the agent's own disk."""

from __future__ import annotations

from mesocosm.api import v1
from mesocosm.api.convert.environment import secret
from mesocosm.api.validation import validate_secret
from mesocosm.container import DockerVolume, MountPropagation, SandboxOf, SandboxPath, Volume, VolumeMode
from mesocosm.errors import ContainerError


def volume(index: int, message: v1.Volume, driver: str | None = None) -> Volume:
    """The volume number `index` of a container, which is of no image. Raises ContainerError.

    `driver` is that of a Docker volume that names none; without it, such a one is refused.
    """
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
        return Volume(
            message.container_path, mode=mode, docker_volume=_docker_volume(where, source.docker_volume, driver)
        )
    raise ContainerError(
        f"{where}.source.{kind.lower()} is not supported", "mount the volume on the host, and use a host path"
    )


def _docker_volume(where: str, message: v1.Volume.Source.DockerVolume, default: str | None) -> DockerVolume:
    driver = message.driver if message.HasField("driver") else default
    if driver is None:
        raise ContainerError(f"{where}: The volume driver is not specified for volume {message.name!r}")
    return DockerVolume(driver, message.name, {each.key: each.value for each in message.driver_options.parameter})


def _sandbox_path(where: str, message: v1.Volume.Source.SandboxPath) -> SandboxPath:
    if message.path.startswith("/"):
        raise ContainerError(f"{where}: Path {message.path!r} in SANDBOX_PATH volume is absolute")
    if message.type == v1.Volume.Source.SandboxPath.UNKNOWN:
        raise ContainerError(f"{where}: Unknown SANDBOX_PATH volume type", "write SELF or PARENT")
    return SandboxPath(message.path, SandboxOf[v1.Volume.Source.SandboxPath.Type.Name(message.type)])


def _propagation(path: str, asked: v1.MountPropagation.Mode = v1.MountPropagation.UNKNOWN) -> MountPropagation | None:
    """Mesos lets mounts of the host reach the container if nothing else is asked for. In the sandbox there are none."""
    if not path.startswith("/"):
        return None
    if asked == v1.MountPropagation.UNKNOWN:
        return MountPropagation.HOST_TO_CONTAINER
    return MountPropagation[v1.MountPropagation.Mode.Name(asked)]
