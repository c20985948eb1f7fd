"""Where the mounts go that a container asks for, for all isolators that make them."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TypedDict

from mesocosm.container import ContainerConfig, ContainerID, ProvisionedImage, sandbox_parts
from mesocosm.errors import ContainerError
from mesocosm.launcher.operations import HostDirectory, MountOverlay


class Target(TypedDict):
    """The parameters of an operation that say where it mounts."""

    target: str
    create: bool
    target_within: HostDirectory | None


def target(container_id: ContainerID, path: str, config: ContainerConfig, sandbox_directory: str) -> Target:
    """The place of `path` in a container. A missing mount point is made, but never in the host's file system.

    A relative path is below the sandbox, which a container with a root file system has at `sandbox_directory`. Raises
    ContainerError for a path where nothing can be mounted, and for any in a debug container: that is in the mount
    namespace of its parent.
    """
    if config.debug:
        raise ContainerError(f"the debug container {container_id} can have no root filesystem, volume or tmpfs")
    refuse_parents(container_id, "container path", path)
    if not PurePosixPath(path).is_absolute():
        if config.rootfs is not None:
            return Target(target=f"{sandbox_directory}/{path}", create=True, target_within=None)
        return Target(target=path, create=True, target_within=sandbox(container_id, config.directory))
    if PurePosixPath(path) == PurePosixPath("/"):
        raise ContainerError(f"{container_id}: nothing can be mounted on /", "give another root filesystem instead")
    if config.rootfs is None:
        _check_on_host(container_id, path, config.directory)
    return Target(target=path, create=config.rootfs is not None, target_within=None)


def _check_on_host(container_id: ContainerID, path: str, sandbox: Path | None) -> None:
    if not Path(path).exists():
        raise ContainerError(
            f"{container_id}: the container path {path} does not exist on the host",
            "without a root filesystem of its own a container can only cover what is there",
        )
    if sandbox is not None and sandbox.is_relative_to(path):
        raise ContainerError(
            f"{container_id}: what is mounted on {path} would hide the sandbox, {sandbox}", "keep sandboxes elsewhere"
        )


def sandbox(container_id: ContainerID, directory: Path | None) -> HostDirectory:
    """The sandbox of a container, whose config says that it is `directory`."""
    assert directory is not None
    base, inside = sandbox_parts(container_id, directory)
    return HostDirectory(str(base), inside)


def layers(provisioned: ProvisionedImage) -> tuple[MountOverlay, ...]:
    """What has to be mounted before the files of an image are at its path on the host; nothing if they are there."""
    if (overlay := provisioned.overlay) is None:
        return ()
    return (MountOverlay.on(provisioned.path, overlay.layers, overlay.upper, overlay.work),)


def refuse_parents(container_id: ContainerID, what: str, path: str) -> None:
    """Raises ContainerError for a path that goes up."""
    if ".." in PurePosixPath(path).parts:
        raise ContainerError(f"{container_id}: the {what} {path} has a '..'")
