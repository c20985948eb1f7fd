"""The isolator `linux/seccomp`: which system calls a container may make, by a profile in the format of Docker."""

from __future__ import annotations

import asyncio
import os
from functools import cached_property
from pathlib import Path
from typing import Self

from mesocosm.container import ContainerConfig, ContainerID
from mesocosm.errors import ContainerError, FlagError, UnsupportedError
from mesocosm.flags import Flags
from mesocosm.isolators.base import Isolator
from mesocosm.isolators.linux.base import find_capabilities
from mesocosm.launcher.info import LaunchInfo, SystemCallFilters
from mesocosm.linux import capabilities, seccomp

CAPABILITIES = "linux/capabilities"
_MOST = 1 << 20
"""Bytes of a profile: many times those of any that there is."""
_KEPT = 64
"""Compiled profiles. Clients choose capabilities, of which there are more sets than memory."""


class LinuxSeccompIsolator(Isolator):
    """Filters the system calls of a container by `LinuxInfo.seccomp`, or else by `--seccomp_profile_name` (seccomp(2)).

    A profile is compiled once for each set of capabilities that it is used with, as its rules may depend on them. The
    init of the container gets a filter of its own, so that who traces it gains nothing.
    """

    def __init__(self, flags: Flags, default: bytes | None) -> None:
        self._flags = flags
        self._default = default
        self._limits_capabilities = CAPABILITIES in flags.isolators
        self._programs: dict[tuple[bytes, int], bytes] = {}
        self._compiling = asyncio.Lock()

    @classmethod
    def create(cls, flags: Flags) -> Self:
        """Refuses where nothing can be filtered, and a default profile that is none."""
        if os.geteuid() != 0 or not capabilities.has(capabilities.SYS_ADMIN):
            raise UnsupportedError("filtering system calls takes root with CAP_SYS_ADMIN on Linux", "run as root")
        if not seccomp.supported():
            raise UnsupportedError("this kernel has no seccomp filters", "remove the name")
        from mesocosm.linux.seccomp import libseccomp, profile

        libseccomp.check()
        default = None
        if flags.seccomp_profile_name is not None:
            try:
                default = _read(_directory(flags), flags.seccomp_profile_name)
                profile.parse(default)
            except (FlagError, ContainerError) as error:
                raise FlagError(f"--seccomp_profile_name: {error.message}", error.hint) from error
        return cls(flags, default)

    async def prepare(self, container_id: ContainerID, config: ContainerConfig) -> LaunchInfo | None:
        """The filters, unless the container is to have none."""
        asked = config.linux_info.seccomp
        if asked is not None and asked.unconfined and asked.profile_name is not None:
            raise ContainerError(
                f"{container_id} asks for the seccomp profile {asked.profile_name!r}, and to be unconfined",
                "choose one",
            )
        if asked is not None and not asked.unconfined and asked.profile_name is None:
            raise ContainerError(f"{container_id} asks for a seccomp profile, but names none", "set profile_name")
        content = self._default
        if asked is not None:
            name = asked.profile_name
            content = None if name is None else await asyncio.to_thread(_read, _directory(self._flags), name)
        if content is None:
            return None
        program = await self._compile(container_id, content, self._bounding(container_id, config))
        return LaunchInfo(system_calls=SystemCallFilters(program, self._init))

    def _bounding(self, container_id: ContainerID, config: ContainerConfig) -> int:
        """What rules may depend on: the capabilities that the container has at most."""
        own = capabilities.bounding()
        found = find_capabilities(self._flags, container_id, config) if self._limits_capabilities else None
        return own if found is None else own & found.bounding

    async def _compile(self, container_id: ContainerID, content: bytes, bounding: int) -> bytes:
        from mesocosm.linux.seccomp import profile

        async with self._compiling:
            if (known := self._programs.get((content, bounding))) is None:
                try:
                    known = await asyncio.to_thread(lambda: profile.parse(content).compile(bounding))
                except (FlagError, OSError) as error:
                    raise ContainerError(f"{container_id}: its seccomp profile cannot be used: {error}") from error
                if len(self._programs) >= _KEPT:
                    del self._programs[next(iter(self._programs))]  # The oldest one.
                self._programs[content, bounding] = known
        return known

    @cached_property
    def _init(self) -> bytes:
        from mesocosm.linux.seccomp import profile

        return profile.compile_for_init()


def _directory(flags: Flags) -> Path:
    from mesocosm.linux.seccomp import profile

    return flags.seccomp_config_dir or profile.SHIPPED


def _read(directory: Path, name: str) -> bytes:
    """The content of a profile. Raises ContainerError if there is no such file in the directory."""
    parts = Path(name).parts
    if not parts or Path(name).is_absolute() or ".." in parts:
        raise ContainerError(f"{name!r} is no name of a seccomp profile", f"name a file in {directory}")
    path = directory / name
    try:
        with open(path, "rb") as file:
            content = file.read(_MOST + 1)
    except OSError as error:
        raise ContainerError(f"the seccomp profile {str(path)!r} cannot be read: {error.strerror}") from error
    if len(content) > _MOST:
        raise ContainerError(f"the seccomp profile {str(path)!r} is too long")
    return content
