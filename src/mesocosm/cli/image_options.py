"""What the commands that deal with images have in common: where the store is, and how registries are asked."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mesocosm.images.settings import DEFAULT_REGISTRY, DEFAULT_STORE, ImageSettings

if TYPE_CHECKING:
    from mesocosm.images.store import ImageStore

Result = TypeVar("Result")
Command = TypeVar("Command", bound=Callable[..., Any])


def store_option(command: Command) -> Command:
    """`--store`."""
    text = "Directory of the images."
    return click.option(
        "--store",
        metavar="DIR",
        type=click.Path(path_type=Path, readable=False),
        default=DEFAULT_STORE,
        show_default=True,
        help=text,
    )(command)


def registry_options(command: Command) -> Command:
    """`--docker-registry`, `--docker-config` and `--mirror`."""
    for name, options in (
        ("--mirror", {"metavar": "URL", "multiple": True, "help": "Ask this registry before Docker's."}),
        (
            "--docker-config",
            {
                "metavar": "FILE",
                "type": click.Path(path_type=Path),
                "help": "File with credentials. Default: ~/.docker/config.json, if it is there.",
            },
        ),
        (
            "--docker-registry",
            {
                "metavar": "URL|PATH",
                "default": DEFAULT_REGISTRY,
                "show_default": True,
                "help": "Where images come from whose name does not say it: a registry, or files of this machine.",
            },
        ),
    ):
        command = click.option(name, **options)(command)  # type: ignore[arg-type]
    return command


def settings(docker_registry: str, docker_config: Path | None, mirror: tuple[str, ...] = ()) -> ImageSettings:
    """The settings that those options are. Raises FlagError."""
    from mesocosm.images.credentials import read_docker_config
    from mesocosm.images.reference import DOCKER_HUB

    return ImageSettings(
        registry=docker_registry,
        config=read_docker_config(docker_config),
        mirrors={DOCKER_HUB: mirror} if mirror else {},
    )


def with_store(
    directory: Path, chosen: ImageSettings | None, action: Callable[[ImageStore], Coroutine[Any, Any, Result]]
) -> Result:
    """What `action` makes of the store."""
    import asyncio

    from mesocosm.images.store import ImageStore

    async def run() -> Result:
        store = ImageStore(directory, chosen)
        try:
            return await action(store)
        finally:
            await store.close()

    return asyncio.run(run())
