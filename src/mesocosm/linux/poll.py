"""Waiting for descriptors with asyncio: readable ones, and files of the kernel that change."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import select
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

_CHUNK = 65536


async def readable(descriptor: int) -> None:
    """Returns once `descriptor` can be read: a pidfd when its process has ended, an eventfd when it was signalled."""
    await any_readable((descriptor,))


async def any_readable(descriptors: Iterable[int], unless: Iterable[asyncio.Future[Any]] = ()) -> None:
    """Returns once one of `descriptors` can be read, or a future of `unless` is done: one future for all, and no task.

    Of a socket, asyncio would make a text for each wait; it is to be given as its number.
    """
    loop = asyncio.get_running_loop()
    event: asyncio.Future[None] = loop.create_future()

    def wake(_done: object = None) -> None:
        if not event.done():
            event.set_result(None)

    descriptors, unless = tuple(descriptors), tuple(unless)
    for descriptor in descriptors:
        loop.add_reader(descriptor, wake)
    for future in unless:
        future.add_done_callback(wake)
    try:
        await event
    finally:
        for descriptor in descriptors:
            loop.remove_reader(descriptor)
        for future in unless:
            future.remove_done_callback(wake)


@contextlib.contextmanager
def on_hang_up(connection: int, callback: Callable[[], object]) -> Iterator[None]:
    """Calls back once the other side has ended a connection, also if nobody reads what it has sent before (epoll(7)).

    On other systems than Linux nothing tells of that.
    """
    if sys.platform != "linux":
        yield
        return
    loop = asyncio.get_running_loop()
    with select.epoll() as events:

        def tell() -> None:
            loop.remove_reader(events.fileno())
            callback()

        events.register(connection, select.EPOLLRDHUP)
        loop.add_reader(events.fileno(), tell)
        try:
            yield
        finally:
            loop.remove_reader(events.fileno())


class ChangeWatcher:
    """Calls back with the content of a file of kernfs, such as cgroup.events, each time that it has changed.

    The kernel tells of a change by POLLPRI until the file is read again through the same descriptor (cgroup-v2.rst).
    An event loop waits for POLLIN, which such a file always has: an epoll instance in between makes the difference.
    It has no limit such as that of inotify, whose default is 128 instances for a user.
    """

    def __init__(self) -> None:
        self._epoll: select.epoll | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._callbacks: dict[int, Callable[[str], None]] = {}

    def add(self, file: str, callback: Callable[[str], None]) -> int:
        """Watches `file` and returns the descriptor to give to `remove`. Raises OSError."""
        if self._epoll is None:
            self._loop, self._epoll = asyncio.get_running_loop(), select.epoll()
            self._loop.add_reader(self._epoll.fileno(), self._dispatch)
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.read(descriptor, _CHUNK)  # Only what changes from here on is news.
            self._epoll.register(descriptor, select.EPOLLPRI)
        except BaseException:
            os.close(descriptor)
            raise
        self._callbacks[descriptor] = callback
        return descriptor

    def remove(self, descriptor: int) -> None:
        """Ends a watch; one that has ended is no error."""
        if self._callbacks.pop(descriptor, None) is None:
            return
        if self._epoll is not None:
            self._epoll.unregister(descriptor)
        os.close(descriptor)

    def close(self) -> None:
        """Ends all watches."""
        for descriptor in tuple(self._callbacks):
            self.remove(descriptor)
        if self._loop is not None and self._epoll is not None:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._loop = self._epoll = None

    def _dispatch(self) -> None:
        if self._epoll is None:
            return
        for descriptor, _ in self._epoll.poll(0):
            callback = self._callbacks.get(descriptor)
            if callback is None:  # Removed by a callback just before.
                continue
            content = _reread(descriptor)
            if content is None:
                self.remove(descriptor)
            else:
                callback(content)


async def until(file: str, reached: Callable[[str], bool]) -> None:
    """Returns once `reached` holds for the content of a file of kernfs, or the file is gone. Raises OSError."""
    try:
        descriptor = os.open(file, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        with select.epoll() as changes:
            changes.register(descriptor, select.EPOLLPRI)
            while (content := _reread(descriptor)) is not None and not reached(content):
                await readable(changes.fileno())
    finally:
        os.close(descriptor)


def _reread(descriptor: int) -> str | None:
    """The content of an open file of kernfs, None if it was removed."""
    try:
        return os.pread(descriptor, _CHUNK, 0).decode()
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
        return None
