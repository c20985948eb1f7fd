"""Files with secrets in them, which only their owner should be able to read."""

from __future__ import annotations

import logging
import stat
from pathlib import Path

logger = logging.getLogger(__name__)


def warn_if_exposed(path: Path, setting: str) -> None:
    """Logs a warning if every user of the host may read, write or execute the file that `setting` names."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & stat.S_IRWXO:
        logger.warning("%s: %s has the mode %o, and secrets in it; `chmod o= %s`", setting, path, mode, path)
