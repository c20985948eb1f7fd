"""A process that can open few descriptors more."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator


@contextlib.contextmanager
def only(count: int) -> Iterator[None]:
    """This process can open so many more descriptors."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(open_descriptors())
    fillers = []
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + count, limits[1]))
        # Fills the gaps below, and leaves `count`.
        with contextlib.suppress(OSError):
            while True:
                fillers.append(os.open(os.devnull, os.O_RDONLY))
                stack.callback(os.close, fillers[-1])
        for descriptor in fillers[len(fillers) - count :]:
            os.close(descriptor)
        fillers = fillers[: len(fillers) - count]
        stack.pop_all()
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            for descriptor in fillers:
                os.close(descriptor)


def open_descriptors() -> set[int]:
    """Those that this process has open."""
    found = {int(entry) for entry in os.listdir("/proc/self/fd")}  # noqa: PTH208 - one more is open meanwhile.
    return {descriptor for descriptor in found if _is_open(descriptor)}


def _is_open(descriptor: int) -> bool:
    with contextlib.suppress(OSError):
        os.fstat(descriptor)
        return True
    return False
