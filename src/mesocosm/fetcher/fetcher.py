"""The fetcher of an agent: who downloads what into the cache, and which worker puts what into a sandbox."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mesocosm.container import URI, CommandInfo, ContainerConfig, ContainerID
from mesocosm.containerizer.command import find_credentials
from mesocosm.containerizer.sandbox import open_sandbox
from mesocosm.errors import ContainerError, FlagError
from mesocosm.fetcher.base import FetchError
from mesocosm.fetcher.cache import Cache, Key
from mesocosm.fetcher.messages import Action, Request, Start
from mesocosm.fetcher.names import LOCAL, local_path, naming, scheme_of, shown, target_of
from mesocosm.fetcher.process import WorkerProcess, started
from mesocosm.launcher.info import Credentials


@dataclass(frozen=True, slots=True)
class Counters:
    """What `containerizer/fetcher/…` of Mesos's metrics has. Sizes are bytes."""

    task_fetches_succeeded: int
    task_fetches_failed: int
    cache_size_total_bytes: int
    cache_size_used_bytes: int


@dataclass(frozen=True, slots=True)
class _Fetch:
    """One call of `fetch`."""

    worker: WorkerProcess
    owner: Credentials
    log: int

    async def tell(self, uri: URI, text: str) -> None:
        await _write(self.log, f"{shown(uri.value)} {text}")


class Fetcher:
    """Fetches the URIs of commands, each container's in a process of its own that is the container's user.

    The cache takes at most `cache_size` bytes of `cache_dir`, where it is empty at every start. A server may be silent
    for `stall_timeout` seconds.
    """

    def __init__(self, cache_dir: Path, cache_size: int, stall_timeout: float) -> None:
        self._cache = Cache(cache_dir.absolute(), cache_size)
        self._stall_timeout = stall_timeout
        self._downloads: dict[Key, asyncio.Future[bool]] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._closed = False
        self._succeeded = self._failed = 0

    @property
    def counters(self) -> Counters:
        """What there was to do up to now, and how full the cache is."""
        return Counters(self._succeeded, self._failed, self._cache.size, self._cache.used)

    async def recover(self) -> None:
        """Empties the cache directory of what an earlier agent left. Raises FlagError or OSError."""
        await asyncio.to_thread(self._cache.check)
        await asyncio.to_thread(self._cache.clear)

    async def close(self) -> None:
        """Ends what is being fetched, which then fails, and empties the cache. Raises OSError."""
        self._closed = True
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)
        await asyncio.to_thread(self._cache.clear)

    async def fetch(
        self, container_id: ContainerID, uris: Sequence[URI], sandbox: Path, user: str | Credentials | None, log: int
    ) -> None:
        """Fetches `uris`, one after the other, into `sandbox`, as `user`: as the host knows him, or his ids.

        Progress and failure are told in `log`, a descriptor that stays the caller's. Raises FetchError, which says
        which URI it was. When it is cancelled, the process that fetches is killed, and the cache has nothing of it.
        """
        task = asyncio.create_task(self._fetch(container_id, uris, sandbox, user, log))
        self._running.add(task)
        try:
            await task
        except FetchError as error:
            self._failed += 1
            await _write(log, str(error))
            raise
        except asyncio.CancelledError:
            self._failed += 1
            if self._closed:
                raise FetchError(f"the URIs of {container_id} are not fetched: the agent ends") from None
            raise
        finally:
            self._running.discard(task)
        self._succeeded += 1

    async def _fetch(
        self, container_id: ContainerID, uris: Sequence[URI], sandbox: Path, user: str | Credentials | None, log: int
    ) -> None:
        if self._closed:
            raise asyncio.CancelledError
        for uri in uris:
            with naming(uri.value):
                _check(uri)
        if not uris:
            return
        credentials = await _credentials(user)
        owner = credentials or Credentials(os.geteuid(), os.getegid())
        start = Start(credentials, self._stall_timeout, tuple(uri.value for uri in uris))
        try:
            with open_sandbox(container_id, sandbox, credentials) as opened:
                async with started(start, opened.descriptor, log) as worker:
                    for uri in uris:
                        with naming(uri.value):
                            await self._fetch_one(_Fetch(worker, owner, log), uri)
        except OSError as error:
            raise FetchError(f"nothing can be fetched into {sandbox}: {error}") from error

    async def _fetch_one(self, fetch: _Fetch, uri: URI) -> None:
        key = Key(fetch.owner, uri.value)
        while uri.cache:
            with self._cache.reading(key) as descriptor:
                if descriptor is not None:
                    await fetch.worker.ask(Request(Action.COPY, uri), descriptor)
                    return
            if not await self._bring(fetch, uri, key):
                break
        await fetch.worker.ask(Request(Action.FETCH, uri))

    async def _bring(self, fetch: _Fetch, uri: URI, key: Key) -> bool:
        """Has the URI in the cache, where somebody else may be bringing it already. False if it cannot be there."""
        if (download := self._downloads.get(key)) is not None:
            await asyncio.wait([download])
            if download.cancelled():
                return True  # To be looked for, and then brought, again.
            if (error := download.exception()) is not None:
                assert isinstance(error, FetchError)
                raise FetchError(error.message, error.hint)
            return download.result()
        download = self._downloads[key] = asyncio.get_running_loop().create_future()
        try:
            cached = await self._download(fetch, uri, key)
        except FetchError as error:
            download.set_exception(error)
            download.exception()  # Nobody else may be waiting, which is no mistake.
            raise
        except BaseException:
            download.cancel()
            raise
        finally:
            del self._downloads[key]
        download.set_result(cached)
        return cached

    async def _download(self, fetch: _Fetch, uri: URI, key: Key) -> bool:
        """Downloads the URI into the cache. False if it has no room there, or the cache cannot be written to."""
        size = (await fetch.worker.ask(Request(Action.OPEN, uri))).size
        if size is None:
            await fetch.tell(uri, "is not cached: its size is not known before it is here")
            return False
        victims = self._cache.reserve(size)
        if victims is None:
            await fetch.tell(uri, f"is not cached: the cache has no room for {size} bytes")
            return False
        added = False
        try:
            await asyncio.to_thread(_remove, victims)
            with self._cache.partial(key) as (descriptor, path):
                if digest := (await fetch.worker.ask(Request(Action.STORE, uri), descriptor)).digest:
                    self._cache.add(key, path, size, digest)
                    added = True
        except (FlagError, OSError) as error:
            await fetch.tell(uri, f"is not cached: {error}")
        finally:
            if not added:
                self._cache.release(size)
        return added


def _check(uri: URI) -> None:
    """Raises FetchError for what can be seen to be wrong without opening anything."""
    target_of(uri)
    if scheme_of(uri.value) in LOCAL:
        local_path(uri.value)


async def _credentials(user: str | Credentials | None) -> Credentials | None:
    """Whom a worker is to become; None: nobody else. Raises FetchError."""
    if isinstance(user, Credentials):
        return user
    try:
        return await asyncio.to_thread(find_credentials, ContainerConfig(CommandInfo(), user=user))
    except ContainerError as error:
        raise FetchError(error.message, error.hint) from error


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


async def _write(log: int, text: str) -> None:
    """A line in the log, which may be a pipe. That it cannot be written is no reason not to fetch."""
    with contextlib.suppress(OSError):
        await asyncio.to_thread(os.write, log, f"fetcher: {text}\n".encode(errors="backslashreplace"))
