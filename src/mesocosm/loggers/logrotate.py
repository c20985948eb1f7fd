"""The container logger `logrotate`: `stdout` and `stderr` of the sandbox, of a limited size, and the last full ones.

Sizes and their defaults are those of Mesos's module; `*_count` stands for the `rotate` of its logrotate options.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import sys
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Self

from mesocosm.container import ContainerConfig, ContainerID
from mesocosm.containerizer.base import ContainerIO
from mesocosm.containerizer.command import find_credentials
from mesocosm.containerizer.sandbox import open_sandbox
from mesocosm.dataclass import replace
from mesocosm.errors import ContainerError, FlagError, UnsupportedError
from mesocosm.loggers.base import ContainerLogger, LoggerSettings
from mesocosm.loggers.client import RotatorClient
from mesocosm.loggers.rotator import REQUEST, VERSION
from mesocosm.units import parse_size

_PREFIX = "environment_variable_prefix"
_DEFAULT_PREFIX = "CONTAINER_LOGGER_"
_MOST_FILES = 1000
"""Each of them is renamed when the newest is full."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """How large the logs of a container become, in bytes, and how many full ones are kept of each."""

    max_stdout_size: int = 10 << 20
    max_stderr_size: int = 10 << 20
    stdout_count: int = 4
    stderr_count: int = 4

    def changed(self, texts: Mapping[str, str]) -> Rotation:
        """This with what `texts` say, by the names of the fields. Raises FlagError."""
        for name in texts:
            if name not in _NAMES:
                raise FlagError(f"there is no {name!r}", f"there are: {', '.join(_NAMES)}")
        return replace(self, **{name: _parse(name, text) for name, text in texts.items()})


_NAMES = tuple(entry.name for entry in fields(Rotation))


def _parse(name: str, text: str) -> int:
    if name.endswith("_count"):
        if not text.isdecimal() or int(text) > _MOST_FILES:
            raise FlagError(f"{name}: {text!r} is no number of files", f"write one of 0 to {_MOST_FILES}")
        return int(text)
    try:
        size = parse_size(text)
    except FlagError as error:
        raise FlagError(f"{name}: {error.message}", error.hint) from error
    if size < mmap.PAGESIZE:
        raise FlagError(f"{name}: {text!r} is less than a page", f"write at least {mmap.PAGESIZE}")
    return size


class LogrotateContainerLogger(ContainerLogger):
    """Gives every container two pipes, which one process for all of them reads (`rotator.py`)."""

    def __init__(self, runtime_dir: Path, rotation: Rotation, prefix: str = _DEFAULT_PREFIX) -> None:
        """`prefix` is that of the environment variables by which a container changes its `rotation`."""
        self._rotation = rotation
        self._prefix = prefix
        self._rotator = RotatorClient(runtime_dir)

    @classmethod
    def create(cls, settings: LoggerSettings) -> Self:
        """Parameters are the fields of `Rotation`, and `environment_variable_prefix`."""
        if sys.platform != "linux":
            raise UnsupportedError("--container_logger: 'logrotate' needs Linux", "use 'sandbox'")
        parameters = dict(settings.parameters)
        prefix = parameters.pop(_PREFIX, _DEFAULT_PREFIX)
        try:
            return cls(settings.runtime_dir, Rotation().changed(parameters), prefix)
        except FlagError as error:
            raise FlagError(f"--container_logger: 'logrotate': {error.message}", error.hint) from error

    async def recover(self, containers: Collection[ContainerID]) -> None:
        """Finds the process of the earlier agent, else starts one: the first launch need not wait for it."""
        await self._rotator.start()

    async def prepare(self, container_id: ContainerID, config: ContainerConfig, sandbox: Path) -> ContainerIO:
        """Two pipes, whose other ends are in the process. The sandbox is made, if it is not there yet."""
        rotation = self._rotation_of(container_id, config)
        # A look-up of a name may ask the network.
        named = config.user is not None
        owner = await asyncio.to_thread(find_credentials, config) if named else find_credentials(config)
        uid, gid = (os.geteuid(), os.getegid()) if owner is None else (owner.uid, owner.gid)
        request = REQUEST.pack(VERSION, uid, gid, *asdict(rotation).values())
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            opened = theirs.enter_context(open_sandbox(container_id, sandbox, owner))
            reads, writes = [], []
            for _ in range(2):
                read, write = os.pipe()
                theirs.callback(os.close, read)
                ours.callback(os.close, write)
                os.fchown(write, uid, gid)  # Who opens /dev/stdout opens the pipe again.
                reads.append(read)
                writes.append(write)
            try:
                await self._rotator.add(request, (opened.descriptor, *reads))
            except OSError as error:
                raise ContainerError(
                    f"{container_id}: the logs in {sandbox} cannot be written: {error.strerror}"
                ) from error
            ours.pop_all()
        return ContainerIO(stdout=writes[0], stderr=writes[1])

    async def close(self) -> None:
        """Lets the process go on with what it has."""
        self._rotator.close()

    def _rotation_of(self, container_id: ContainerID, config: ContainerConfig) -> Rotation:
        texts = {
            name.removeprefix(self._prefix).lower(): value
            for name, value in config.environment.items()
            if name.startswith(self._prefix)
        }
        try:
            return self._rotation.changed(texts)
        except FlagError as error:
            raise ContainerError(f"{container_id}: {self._prefix}*: {error.message}", error.hint) from error
