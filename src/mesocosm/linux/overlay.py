"""Mounts of overlayfs (kernel: filesystems/overlayfs.rst), of as many layers as it takes.

Its options have to fit into one page (mount(2)), a string of the newer fsconfig(2) even into 256 bytes, and the path
of one layer may have as many. So layers are named by their descriptors, as seen from /proc/self/fd. That also keeps the
paths of the host out of what a container reads in /proc/self/mountinfo.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Sequence

from mesocosm.linux.libc import declare

MS_NODEV = 4
MOST_LAYERS = 500
"""OVL_MAX_STACK of fs/overlayfs/params.h. So many four-digit numbers fit into a page."""
_OPTIONS = (
    # An image may bring attributes with which one layer refers to files of others.
    *("redirect_dir=nofollow", "metacopy=off"),
    # Nothing has to survive the machine, so nothing is written to the disk at the end, or when a program asks for it.
    *("index=off", "volatile"),
)

_mount = declare(
    "mount", ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p
)


def mount(target: str, layers: Sequence[str], upper: str, work: str) -> None:
    """Mounts directories on top of one another, the lowest of `layers` first and `upper`, which is written to, last.

    `work` is an empty directory next to `upper`. Changes the working directory, so it is for a process with one
    thread. Raises OSError with `target`.
    """
    with contextlib.ExitStack() as opened:
        numbers = [str(_open(path, opened)) for path in (*reversed(layers), upper, work)]
        *lower, above, beside = numbers
        options = (f"lowerdir={':'.join(lower)}", f"upperdir={above}", f"workdir={beside}", *_OPTIONS)
        os.chdir("/proc/self/fd")
        try:
            _mount(b"overlay", os.fsencode(target), b"overlay", MS_NODEV, ",".join(options).encode())
        except OSError as error:
            raise OSError(error.errno, error.strerror, target) from None
        finally:
            os.chdir("/")


def _open(path: str, opened: contextlib.ExitStack) -> int:
    descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    opened.callback(os.close, descriptor)
    return descriptor
