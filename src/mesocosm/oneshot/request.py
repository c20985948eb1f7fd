"""From what people write to the config of a container."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath

from mesocosm.container import (
    CommandInfo,
    ContainerConfig,
    ImageRequest,
    IpcMode,
    Resources,
    RLimit,
    Tmpfs,
    TTYInfo,
    Volume,
    VolumeMode,
)
from mesocosm.dataclass import replace
from mesocosm.errors import FlagError
from mesocosm.oneshot.choice import DISK, Choice
from mesocosm.oneshot.images import RUNTIME
from mesocosm.oneshot.network import HOST, Networks
from mesocosm.oneshot.security import Security
from mesocosm.units import parse_size

_IPC = "namespaces/ipc"
_RLIMITS = "posix/rlimits"
_LEAST_MEMORY = 1 << 20


def parse_volume(text: str, *, here: bool = True) -> Volume:
    """`SRC:DST[:ro|rw]`. Raises FlagError if it is not that; or if there is no such source, which is to be `here`."""
    source, destination, mode = _fields(text, ":", 3)
    if not source or not destination:
        raise FlagError(f"--volume: {text!r} does not name a source and a place", "write SRC:DST[:ro|rw]")
    if mode not in ("", "ro", "rw"):
        raise FlagError(f"--volume: {mode!r} in {text!r} is no mode", "write ro or rw")
    _check_destination("--volume", destination)
    if not here and not source.startswith("/"):
        raise FlagError(f"--volume: {source!r} is no absolute path", "write where it is on the agent's machine")
    host_path = Path(source).absolute()
    if here and not host_path.exists():
        raise FlagError(f"--volume: there is no {host_path} to mount", "make it first")
    return Volume(destination, str(host_path), VolumeMode.RO if mode == "ro" else VolumeMode.RW)


def parse_tmpfs(text: str) -> Tmpfs:
    """`DST[:size]`. Raises FlagError."""
    destination, size = _fields(text, ":", 2)
    _check_destination("--tmpfs", destination)
    return Tmpfs(destination, parse_size(size) if size else None)


def _fields(text: str, separator: str, count: int) -> tuple[str, ...]:
    """The parts of `text`, the missing ones empty and the surplus ones with the last."""
    parts = text.split(separator, count - 1)
    return (*parts, *("" for _ in range(count - len(parts))))


def _check_destination(option: str, destination: str) -> None:
    if not PurePosixPath(destination).is_absolute():
        raise FlagError(f"{option}: the place {destination!r} is no absolute path", "begin it with a slash")


def parse_environment(assignments: Iterable[str]) -> dict[str, str]:
    """`NAME=VALUE`, or `NAME` for the value that the caller has. Raises FlagError."""
    environment = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not name:
            raise FlagError(f"--env: {assignment!r} has no name", "write NAME=VALUE")
        if equals:
            environment[name] = value
        elif name in os.environ:
            environment[name] = os.environ[name]
    return environment


def needed_isolators(
    limits: Resources, security: Security, rlimits: Collection[RLimit], *, image: str | None = None
) -> tuple[str, ...]:
    """The isolators that these take, and that a container has not otherwise."""
    asked = {_RLIMITS: bool(rlimits), DISK: limits.disk is not None, RUNTIME: image is not None}
    return (*security.isolators, *(name for name, is_asked in asked.items() if is_asked))


def make_config(
    command: CommandInfo,
    limits: Resources,
    *,
    environment: Mapping[str, str],
    volumes: Iterable[Volume] = (),
    tmpfs: Iterable[Tmpfs] = (),
    rootfs: Path | None = None,
    read_only: bool = False,
    user: str | None = None,
    working_directory: str | None = None,
    tty: TTYInfo | None = None,
    rlimits: tuple[RLimit, ...] = (),
    networks: Networks = HOST,
    image: str | None = None,
) -> ContainerConfig:
    """What is asked of a container, whatever isolators there will be. Raises FlagError for what makes no sense."""
    if image is not None and rootfs is not None:
        raise FlagError("--image and --rootfs contradict each other", "leave one out")
    if read_only and rootfs is None and image is None:
        raise FlagError("--read-only needs --image or --rootfs", "without one, the container's root is the host's")
    if rootfs is not None and not rootfs.is_dir():
        raise FlagError(f"--rootfs: {rootfs} is not a directory")
    if working_directory is not None and not PurePosixPath(working_directory).is_absolute():
        raise FlagError(f"--workdir: {working_directory!r} is no absolute path", "begin it with a slash")
    return ContainerConfig(
        command=command,
        rootfs=rootfs,
        rootfs_read_only=read_only,
        user=user,
        environment=environment,
        working_directory=working_directory,
        volumes=tuple(volumes),
        tmpfs=tuple(tmpfs),
        resources=limits,
        tty_info=tty,
        rlimits=rlimits,
        network_infos=networks.infos,
        loopback_only=networks.loopback_only,
        hostname=networks.hostname,
        image=None if image is None else ImageRequest(image),
    )


def fit(config: ContainerConfig, choice: Choice, security: Security, needed: Iterable[str]) -> ContainerConfig:
    """`config` for the isolators of `choice`, with what is to be asked of them besides.

    Raises FlagError for what they do not give, and where one is not there that is `needed`.
    """
    choice.check(config.resources)
    choice.check_isolators(name for name in needed if name != DISK)  # One of those that limit the disk.
    resources, info = config.resources, security.apply(config.linux_info, choice.isolation)
    if resources.pids is None:
        resources = replace(resources, pids=choice.default_pids())
    if not config.root_layers and config.image is None and _IPC in choice.isolation:
        # Without a root file system, only a private mode gives the container a /dev/shm of its own.
        info = replace(info, ipc_mode=IpcMode.PRIVATE)
    return replace(config, resources=resources, linux_info=info)


def check_limits(cpus: float | None, mem: int | None, pids: int | None, disk: int | None = None) -> Resources:
    """The amounts asked for. Raises FlagError for one that nothing could run with."""
    if cpus is not None and not 0 < cpus < float("inf"):
        raise FlagError(f"--cpus: {cpus:g} is no number of CPUs", "give one above 0")
    if mem is not None and mem < _LEAST_MEMORY:
        raise FlagError(f"--mem: {mem} bytes are too few for any program", "give at least 1MB")
    if pids is not None and pids < 1:
        raise FlagError(f"--pids: {pids} is no number of tasks", "give one above 0")
    if disk is not None and disk < 1:
        raise FlagError(f"--disk: {disk} bytes are too few for any file", "give more than 0")
    return Resources(cpus, mem, pids, disk=disk)
