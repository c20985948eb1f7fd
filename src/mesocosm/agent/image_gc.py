"""The removal of images that no container uses, when the disk of the store gets full: `--image_gc_config`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesocosm.agent.gc import used_part
from mesocosm.errors import FlagError, MesocosmError

logger = logging.getLogger(__name__)

_FLAG = "--image_gc_config"


@dataclass(frozen=True, slots=True)
class ImageGcConfig:
    """What Mesos's message of that name says (messages/flags.proto).

    Images are removed when less than `headroom` of the disk, from 0 to 1, is free, which is looked at every `interval`
    seconds; but never those that are `excluded`, by name.
    """

    headroom: float
    interval: float
    excluded: tuple[str, ...] = ()

    @classmethod
    def parse(cls, value: Mapping[str, Any]) -> ImageGcConfig:
        """That of the flag. Raises FlagError."""
        known = {"image_disk_headroom", "image_disk_watch_interval", "excluded_images"}
        if unknown := sorted(set(value) - known):
            raise FlagError(f"{_FLAG} has no field {unknown[0]!r}", f"it has {', '.join(sorted(known))}")
        headroom = value.get("image_disk_headroom")
        if isinstance(headroom, bool) or not isinstance(headroom, int | float) or not 0 <= headroom <= 1:
            raise FlagError(f"{_FLAG}: image_disk_headroom is no number from 0 to 1")
        interval = value.get("image_disk_watch_interval")
        nanoseconds = interval.get("nanoseconds") if isinstance(interval, dict) else None
        if isinstance(nanoseconds, bool) or not isinstance(nanoseconds, int) or nanoseconds <= 0:
            raise FlagError(
                f"{_FLAG}: image_disk_watch_interval is no duration", 'write {"nanoseconds": N}, with N above 0'
            )
        return cls(headroom, nanoseconds / 1e9, tuple(map(_name, value.get("excluded_images", ()))))


def _name(image: Any) -> str:
    try:
        name = image["docker"]["name"]
    except (KeyError, TypeError):
        name = None
    if not isinstance(name, str) or not name:
        raise FlagError(f"{_FLAG}: there is no image in {image!r}", 'write {"type": "DOCKER", "docker": {"name": "…"}}')
    return name


async def watch(
    config: ImageGcConfig,
    store: Path,
    prune: Callable[[], Awaitable[object]],
    used: Callable[[Path], float] = used_part,
) -> None:
    """Looks at the disk of `store` until it is cancelled, and has images pruned where that is too full."""
    while True:
        try:
            part = await asyncio.to_thread(used, store)
            if part + config.headroom > 1:
                logger.info("%.0f %% of the disk of images is in use: those that no container uses go", 100 * part)
                await prune()
        except FileNotFoundError:
            logger.debug("there is no %s yet", store)
        except (MesocosmError, OSError) as error:
            logger.error("images are not removed: %s", error)
        await asyncio.sleep(config.interval)
