"""The isolator `docker/runtime`: what an image says of its command, variables, directory and user."""

from __future__ import annotations

import asyncio
import logging
import posixpath
from collections.abc import Mapping
from typing import Self

from mesocosm.container import CommandInfo, ContainerConfig, ContainerID
from mesocosm.dataclass import replace
from mesocosm.errors import ContainerError
from mesocosm.flags import Flags
from mesocosm.images.image import ImageConfig
from mesocosm.isolators.base import Isolator, Phase
from mesocosm.users import resolve

logger = logging.getLogger(__name__)


class DockerRuntimeIsolator(Isolator):
    """Fills in what a container leaves open, from the config of its image.

    Sources: the Mesos pages on the Mesos containerizer and on container images; the OCI image specification, config.md.
    """

    phase = Phase.FILESYSTEM
    requires = ("filesystem/linux",)
    requires_launcher = "linux"

    def __init__(self, *, ignores: bool = False) -> None:
        self._ignores = ignores

    @classmethod
    def create(cls, flags: Flags) -> Self:
        """Works everywhere; what images take, filesystem/linux has checked."""
        return cls(ignores=flags.docker_ignore_runtime)

    async def complete(self, container_id: ContainerID, config: ContainerConfig) -> ContainerConfig:
        """The command, the variables, the directory and the user of the image, where the container names none."""
        if config.provisioned is None or self._ignores:
            return config
        image = config.provisioned.config
        if config.user is None and image.user:
            # It has to be in the image itself: what the host calls so is another one.
            await asyncio.to_thread(resolve, image.user, config.provisioned.layers, on_host=False)
        return replace(
            config,
            command=launch_command(config.command, image),
            environment={**image_environment(container_id, image), **config.environment},
            working_directory=config.working_directory or image_directory(image),
            user=config.user or image.user or None,
        )


def launch_command(command: CommandInfo, image: ImageConfig) -> CommandInfo:
    """What is executed: `command`, or what the image has for one that is no shell's and has no value.

    That is the Entrypoint, and then the arguments, or without any the Cmd. Without an Entrypoint it is the first word
    of the Cmd, and then the arguments, or the rest of the Cmd. Raises ContainerError where there is nothing to execute.
    """
    if command.program is not None and command.shell:
        return command  # What it stands for, if anything, is the shell's.
    if command.shell and command.value is None:
        raise ContainerError("the command is the shell's, but has no value", "give one, or say `shell: false`")
    if command.value is not None:
        return command
    fixed = image.entrypoint or image.cmd[:1]
    if not fixed:
        raise ContainerError("the container has no command, and its image none either", "give one")
    own = image.cmd if image.entrypoint else image.cmd[1:]
    return replace(command, value=fixed[0], arguments=(*fixed, *(command.arguments or own)))


def image_environment(container_id: ContainerID, image: ImageConfig) -> Mapping[str, str]:
    """The variables of an image; those that are none are left out, as in Mesos."""
    variables = {}
    for assignment in image.environment:
        name, equals, value = assignment.partition("=")
        if name and equals:
            variables[name] = value
        else:
            logger.warning("%s: the image sets %r, which is no variable", container_id, assignment)
    return variables


def image_directory(image: ImageConfig) -> str | None:
    """The directory of an image, from its root: `..` leads nowhere else, and links are followed in the container."""
    directory = (image.working_directory or "").lstrip("/")
    return posixpath.normpath(f"/{directory}") if image.working_directory else None
