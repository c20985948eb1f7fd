"""The isolator `environment_secret`: variables whose values are secrets."""

from __future__ import annotations

import asyncio
import os
from typing import Self

from mesocosm.container import ContainerConfig, ContainerID
from mesocosm.errors import ContainerError
from mesocosm.flags import Flags
from mesocosm.isolators.base import Isolator
from mesocosm.launcher.info import LaunchInfo
from mesocosm.secret_resolver import SecretResolver, create_resolver, resolve
from mesocosm.secrets import Secret


class EnvironmentSecretIsolator(Isolator):
    """Has secrets resolved, and gives them to the command in its environment, but to no record and no other container.

    Source: the Mesos page on secrets. It is always enabled.
    """

    def __init__(self, resolver: SecretResolver) -> None:
        self._resolver = resolver

    @classmethod
    def create(cls, flags: Flags) -> Self:
        """Works everywhere."""
        return cls(create_resolver(flags.secret_resolver))

    async def prepare(self, container_id: ContainerID, config: ContainerConfig) -> LaunchInfo | None:
        """The variables, resolved at the same time."""
        if not config.secret_environment:
            return None
        secrets = config.secret_environment.items()
        values = await asyncio.gather(*(self._value(container_id, name, secret) for name, secret in secrets))
        return LaunchInfo(secret_environment=dict(zip(config.secret_environment, values, strict=True)))

    async def _value(self, container_id: ContainerID, name: str, secret: Secret) -> str:
        if not name or "=" in name or "\0" in name:
            raise ContainerError(f"{container_id}: {name!r} is no name of an environment variable")
        value = await resolve(self._resolver, container_id, f"the variable {name!r}", secret)
        if b"\0" in value:
            raise ContainerError(f"{container_id}: the secret of the variable {name!r} has a NUL character")
        return os.fsdecode(value)
