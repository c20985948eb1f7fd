"""What goes on by itself."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from mesocosm.concurrency import Work

logger = logging.getLogger(__name__)


class Background(Work):
    """Work that nobody waits for. Begun in some order, it takes locks in that order; what it raises is logged."""

    def _ended(self, task: asyncio.Task[Any]) -> None:
        super()._ended(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("work on tasks failed: %s", error, exc_info=error)
