"""Whether what a container asks for is given by any isolator that is enabled."""

from __future__ import annotations

import logging
from collections.abc import Collection

from mesocosm.container import ContainerConfig, ContainerID, Volume, VolumeKind
from mesocosm.errors import ContainerError, FlagError

logger = logging.getLogger(__name__)

_VOLUMES = {
    VolumeKind.HOST_PATH: ("volume/host_path", "filesystem/shared"),
    VolumeKind.SANDBOX_PATH: ("volume/sandbox_path", "filesystem/shared"),
    VolumeKind.SECRET: ("volume/secret",),
    VolumeKind.DOCKER_VOLUME: ("docker/volume",),
}
_FOR_IMAGES = ("filesystem/linux", "docker/runtime")
_LIMITS = {"cpus": "cgroups/cpu", "mem": "cgroups/mem", "pids": "cgroups/pids"}
_NETWORKS = "network/cni"


def check_needs(container_id: ContainerID, config: ContainerConfig, isolation: Collection[str]) -> None:
    """Refuses what would be unsafe or wrong to leave out, and warns of what Mesos ignores.

    Requests are promises, which Mesos makes without an isolator, too. Limits are not. Raises ContainerError.
    """
    _check_limits(container_id, config, isolation)
    if (config.networks or config.loopback_only or config.hostname is not None) and _NETWORKS not in isolation:
        raise ContainerError(
            f"{container_id} asks for a network or a host name of its own",
            f"enable the isolator {_NETWORKS}, which comes with the launcher linux",
        )
    for volume in config.volumes:
        _check_volume(container_id, volume, isolation)
    if config.image_volumes and "volume/image" not in isolation:
        raise ContainerError(
            f"{container_id} asks for a volume of an image",
            "enable the isolator volume/image, which comes with filesystem/linux",
        )
    _check_root(container_id, config)
    for what, (is_asked, isolator) in _confinements(config).items():
        if is_asked and isolator not in isolation:
            raise ContainerError(f"{container_id} asks for {what}", f"enable the isolator {isolator}")
    for field, isolator in _ignored(config).items():
        if isolator not in isolation:
            logger.warning("%s: linux_info.%s is ignored, as %s is not enabled", container_id, field, isolator)


def _check_limits(container_id: ContainerID, config: ContainerConfig, isolation: Collection[str]) -> None:
    for name, isolator in _LIMITS.items():
        asked = getattr(config.limits, name)
        if name == "pids" and asked is None:
            asked = config.resources.pids
        if asked is not None and isolator not in isolation:
            raise ContainerError(f"{container_id} has a limit of {name}", f"enable the isolator {isolator}")


def _confinements(config: ContainerConfig) -> dict[str, tuple[bool, str]]:
    """What is to keep the container from something, whether it is asked for, and the isolator of each."""
    info = config.linux_info
    asks = info.effective_capabilities is not None or info.bounding_capabilities is not None
    filters = info.seccomp is not None and not info.seccomp.unconfined
    return {
        "capabilities": (asks, "linux/capabilities"),
        "a seccomp profile": (filters, "linux/seccomp"),
        "resource limits of processes": (bool(config.rlimits), "posix/rlimits"),
    }


def _check_volume(container_id: ContainerID, volume: Volume, isolation: Collection[str]) -> None:
    if volume.kind is None:
        raise ContainerError(f"{container_id}: the volume {volume.container_path} is made of nothing")
    isolators = _VOLUMES[volume.kind]
    if not any(name in isolation for name in isolators):
        how = "which comes with filesystem/linux, and takes root on Linux"
        raise ContainerError(
            f"{container_id} asks for the volume {volume.container_path} of the kind {volume.kind.value}",
            f"enable the isolator {isolators[0]}{f', {how}' if len(isolators) > 1 else ''}",
        )


def check_image_providers(providers: Collection[str], isolation: Collection[str]) -> None:
    """Raises FlagError where images would be used without what makes them what they are."""
    for isolator in _FOR_IMAGES:
        if providers and isolator not in isolation:
            raise FlagError(
                f"--image_providers={','.join(providers)} needs the isolator {isolator!r}",
                f"add {isolator!r} to --isolation",
            )


def _check_root(container_id: ContainerID, config: ContainerConfig) -> None:
    if config.rootfs is None and config.image is None and config.rootfs_read_only:
        raise ContainerError(f"{container_id} asks for a read-only root filesystem, but has none of its own")
    if config.images and config.debug:
        raise ContainerError(f"the debug container {container_id} can have no image: its files are those of its parent")
    if config.image is not None and config.rootfs is not None:
        raise ContainerError(f"{container_id} has both an image and a root filesystem", "leave one out")


def _ignored(config: ContainerConfig) -> dict[str, str]:
    """The fields of `linux_info` that are set, and the isolator of each."""
    info = config.linux_info
    asked = {
        "share_pid_namespace": (info.share_pid_namespace, "namespaces/pid"),
        "ipc_mode": (info.ipc_mode is not None, "namespaces/ipc"),
        "shm_size": (info.shm_size is not None, "namespaces/ipc"),
    }
    return {field: isolator for field, (is_asked, isolator) in asked.items() if is_asked}
