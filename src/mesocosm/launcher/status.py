"""The exit status of a container's command, as a file in the container's runtime directory."""

from __future__ import annotations

import os


def write_status(path: str, status: int) -> None:
    """Records a wait(2) status, whole or not at all. Raises OSError.

    Plain text and no imports: it is also written by the init of a container without isolation.
    """
    temporary = f"{path}.new"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, b'{"version": 1, "status": %d}\n' % status)
    finally:
        os.close(descriptor)
    os.rename(temporary, path)
