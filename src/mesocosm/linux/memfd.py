"""Files in memory (memfd_create(2)) that nobody can change any more."""

from __future__ import annotations

import errno
import fcntl
import os

MFD_EXEC = 0x10


def sealed_copy(path: str | os.PathLike[str], name: str) -> int:
    """A read-only descriptor, closed on exec, of a copy of `path` in memory that is sealed against any change.

    A program executed from it has no file on disk that a process could reach by /proc/PID/exe and overwrite
    (CVE-2019-5736). Raises OSError.
    """
    writable = _create(name)
    try:
        with open(path, "rb") as source:
            length = os.fstat(source.fileno()).st_size
            while (offset := os.lseek(writable, 0, os.SEEK_CUR)) < length:
                if os.sendfile(writable, source.fileno(), offset, length - offset) == 0:
                    break
        seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
        fcntl.fcntl(writable, fcntl.F_ADD_SEALS, seals)
        # execve(2) refuses a file that is open for writing (ETXTBSY).
        return os.open(f"/proc/self/fd/{writable}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(writable)


def _create(name: str) -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        # Said explicitly, it is executable also where vm.memfd_noexec is 1 (Linux 6.3).
        return os.memfd_create(name, flags | MFD_EXEC)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return os.memfd_create(name, flags)
