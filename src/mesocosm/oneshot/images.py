"""The image of one container: pulled if it is not there, and what is executed of it, as users of Docker expect."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING

from mesocosm.container import CommandInfo
from mesocosm.errors import FlagError
from mesocosm.images.image import Image, ImageConfig
from mesocosm.images.settings import DEFAULT_STORE, ImageSettings

if TYPE_CHECKING:
    from mesocosm.images.progress import Progress

RUNTIME = "docker/runtime"
"""The isolator that a container of an image takes."""


class Pull(enum.Enum):
    """When the place that an image comes from is asked for it."""

    MISSING = "missing"
    ALWAYS = "always"


def parse_pull(text: str) -> Pull:
    """Raises FlagError."""
    try:
        return Pull(text)
    except ValueError:
        raise FlagError(f"--pull: {text!r} is not possible", "write missing or always") from None


async def get_image(
    reference: str,
    store: Path = DEFAULT_STORE,
    *,
    pull: Pull = Pull.MISSING,
    progress: Progress | None = None,
) -> Image:
    """The image, which is in the store then; pulled with the credentials that Docker has for this user.

    Raises MesocosmError.
    """
    # Much to load for who has no image.
    from mesocosm.images.credentials import read_docker_config
    from mesocosm.images.store import ImageStore

    images = ImageStore(store, ImageSettings(config=read_docker_config()))
    try:
        return await images.get(reference, cached=pull is Pull.MISSING, progress=progress)
    finally:
        await images.close()


def command_of(image: ImageConfig, command: tuple[str, ...], entrypoint: str | None = None) -> CommandInfo:
    """What is executed: the `entrypoint`, else that of the image, with the `command`, else the image's Cmd.

    An `entrypoint` that is given replaces both of the image; an empty one is none. Raises FlagError for nothing.
    """
    if entrypoint is None:
        argv = (*image.entrypoint, *(command or image.cmd))
    else:
        argv = (*filter(None, (entrypoint,)), *command)
    if not argv:
        raise FlagError("there is no command to run, and the image has none either", "write one after --")
    return CommandInfo.of(argv)


def directory_of(image: ImageConfig, asked: str | None) -> str | None:
    """Where a command runs if the image does not say: at the root, as Docker has it. None: where the image says."""
    return asked if asked is not None or image.working_directory else "/"
