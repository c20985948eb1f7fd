"""Directories with an entry for each container, as several isolators keep them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from mesocosm.container import ContainerID
from mesocosm.errors import ContainerError

logger = logging.getLogger(__name__)


def containers_in(directory: Path) -> Iterator[ContainerID]:
    """The containers that have a directory of their name in there; all else is named in the log, and left alone."""
    for entry in sorted(directory.iterdir()) if directory.exists() else ():
        try:
            container_id = ContainerID.parse(entry.name)
        except ContainerError as error:
            logger.error("%s is of no container: %s", entry, error)
            continue
        if entry.is_dir():
            yield container_id
        else:
            logger.error("%s is of no container: it is no directory", entry)
