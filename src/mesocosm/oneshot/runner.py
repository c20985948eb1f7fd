"""`mesocosm.run`: a command in a container, by a containerizer that stays warm in a thread of its own."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import itertools
import os
import threading
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mesocosm.concurrency import together
from mesocosm.container import CommandInfo, ContainerConfig, ContainerID, Termination
from mesocosm.containerizer.base import ContainerIO
from mesocosm.containerizer.mesos import MesosContainerizer
from mesocosm.errors import ContainerError, MesocosmError, leaves
from mesocosm.images.image import Image
from mesocosm.images.settings import DEFAULT_STORE
from mesocosm.oneshot import janitor
from mesocosm.oneshot.choice import Choice, choose
from mesocosm.oneshot.images import command_of, directory_of, get_image
from mesocosm.oneshot.network import choose as choose_networks
from mesocosm.oneshot.output import Collector, Feeder
from mesocosm.oneshot.place import Place
from mesocosm.oneshot.request import check_limits, fit, make_config, needed_isolators, parse_tmpfs, parse_volume
from mesocosm.oneshot.result import Result
from mesocosm.oneshot.security import UNRESTRICTED, for_image, parse_rlimit
from mesocosm.oneshot.security import choose as choose_security
from mesocosm.units import format_duration, parse_duration, parse_size

MAX_OUTPUT = 16 << 20
"""How much of each of a command's two outputs is kept, in bytes, unless more is asked for."""

_TIMED_OUT = 124


def run(
    command: str | Sequence[str],
    *,
    mem: str | int | None = None,
    cpus: float | None = None,
    pids: int | None = None,
    disk: str | int | None = None,
    timeout: str | float | None = None,
    input: str | bytes | None = None,  # noqa: A002 - as in subprocess.
    env: Mapping[str, str] | None = None,
    user: str | None = None,
    workdir: str | None = None,
    image: str | None = None,
    store: str | os.PathLike[str] = DEFAULT_STORE,
    rootfs: str | os.PathLike[str] | None = None,
    read_only: bool = False,
    volumes: Iterable[str] = (),
    tmpfs: Iterable[str] = (),
    cap_add: Iterable[str] = (),
    cap_drop: Iterable[str] = (),
    seccomp: str | None = None,
    no_new_privileges: bool | None = None,
    privileged: bool = False,
    rlimits: Iterable[str] = (),
    network: str | Iterable[str] = (),
    publish: Iterable[str] = (),
    hostname: str | None = None,
    isolation: str | None = None,
    max_output: int = MAX_OUTPUT,
) -> Result:
    """Runs `command` in a container of its own, waits for it, and returns how it went.

    A sequence is executed as it is, or by the Entrypoint of the `image` and, if it is empty, as that says. A text is
    for the shell. The other arguments are the options of `mesocosm run`. May be called by many threads at once, also
    where an event loop runs, which it blocks meanwhile. Raises mesocosm.errors.CommandError for a command that cannot
    be executed, and MesocosmError for anything else.
    """
    sizes = [None if size is None else parse_size(size) for size in (mem, disk)]
    limits = check_limits(cpus, sizes[0], pids, sizes[1])
    security = choose_security(
        UNRESTRICTED if image is None else for_image(None if isolation is None else isolation.split(",")),
        add=cap_add,
        drop=cap_drop,
        seccomp=seccomp,
        no_new_privileges=no_new_privileges,
        privileged=privileged,
    )
    networks = choose_networks((network,) if isinstance(network, str) else network, publish, hostname)
    parsed = tuple(map(parse_rlimit, rlimits))
    needed = needed_isolators(limits, security, parsed, image=image)
    warm = _warm(isolation, needed, Path(store))
    found = None if image is None else warm.image(image)
    config = make_config(
        _command(command, found),
        limits,
        environment=dict(env or {}),
        volumes=map(parse_volume, volumes),
        tmpfs=map(parse_tmpfs, tmpfs),
        rootfs=None if rootfs is None else Path(rootfs),
        read_only=read_only,
        user=user,
        working_directory=workdir if found is None else directory_of(found.config, workdir),
        rlimits=parsed,
        networks=networks,
        image=image,
    )
    config = fit(config, warm.choice, security, (*networks.isolators, *needed))
    data = input.encode() if isinstance(input, str) else input
    return warm.run(_Job(config, data, None if timeout is None else parse_duration(timeout), max_output))


def _command(command: str | Sequence[str], image: Image | None) -> CommandInfo:
    if isinstance(command, str):
        return CommandInfo(command)
    return CommandInfo.of(_checked(command)) if image is None else command_of(image.config, tuple(command))


def _checked(command: Sequence[str]) -> tuple[str, ...]:
    if not command:
        raise ContainerError("the container has no command")
    return tuple(command)


@dataclass(frozen=True, slots=True)
class _Job:
    config: ContainerConfig
    input: bytes | None
    timeout: float | None
    max_output: int


class _WarmContainerizer:
    """A containerizer in a thread with an event loop, in a place of its own."""

    _numbers = itertools.count(1)

    def __init__(self, isolation: str | None, more: tuple[str, ...], store: Path) -> None:
        """Raises MesocosmError or OSError, and has left nothing then."""
        self.choice: Choice = choose(isolation, more)
        if not self.choice.isolates:
            warnings.warn("nothing is isolated, neither files nor processes: that takes root on Linux", stacklevel=4)
        self._place = Place.choose()
        self._place.store = store
        self._flags = self._place.flags(",".join(self.choice.isolation), self.choice.launcher)
        self._containerizer = MesosContainerizer(
            self._flags, janitor=janitor.command_line(self._place.base, self._place.name), final_usage=True
        )
        self._sweeper = janitor.start_if_needed(self._place.base)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="mesocosm", daemon=True)
        self._jobs: set[asyncio.Task[Result]] = set()
        self._exits = False
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        except BaseException:
            self.close()
            raise

    async def _start(self) -> None:
        # In this order: the launcher knows whom to call should this process end, then there is what to remove.
        self._containerizer.warm_up()
        self._place.create(self._flags.isolation, self._flags.launcher)
        self._containerizer.start()

    def image(self, reference: str) -> Image:
        """The image of that name, pulled if it is not there. Raises MesocosmError."""
        return asyncio.run_coroutine_threadsafe(get_image(reference, self._place.store), self._loop).result()

    def run(self, job: _Job) -> Result:
        """Runs one container. Raises MesocosmError."""
        future = asyncio.run_coroutine_threadsafe(self._run(job), self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # A ^C in the caller's thread: the container ends in the background.
            raise

    async def _run(self, job: _Job) -> Result:
        task = asyncio.current_task()
        assert task is not None
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)
        try:
            return await self._run_job(job)
        except (OSError, ExceptionGroup) as error:
            raise ContainerError(_reasons(error)) from error

    async def _run_job(self, job: _Job) -> Result:
        container_id = ContainerID(f"run-{next(self._numbers)}")
        with contextlib.ExitStack() as opened:
            stdout, stderr = (opened.enter_context(contextlib.closing(Collector(job.max_output))) for _ in range(2))
            streams: list[Collector | Feeder] = [stdout, stderr]
            if job.input is not None:
                streams.append(opened.enter_context(contextlib.closing(Feeder(job.input))))
            io = ContainerIO(None if job.input is None else streams[-1].theirs, stdout.theirs, stderr.theirs)
            begin = time.monotonic()
            termination, timed_out = await self._run_container(container_id, job, io, streams)
            return _result(
                termination, None if not timed_out else job.timeout, time.monotonic() - begin, stdout, stderr
            )

    async def _run_container(
        self, container_id: ContainerID, job: _Job, io: ContainerIO, streams: Iterable[Collector | Feeder]
    ) -> tuple[Termination, bool]:
        """How the container ended, and whether its time was over. Nothing is left of it, whatever happens."""
        timed_out = False
        try:
            await self._containerizer.launch(container_id, job.config, io)
            for stream in streams:
                stream.close_theirs()
            async with asyncio.timeout(job.timeout):
                await self._containerizer.wait(container_id)
        except TimeoutError:
            timed_out = True
        finally:
            termination = await self._containerizer.destroy(container_id)
            if self._exits:  # Its caller has no use for a result, nor for an error.
                await asyncio.get_running_loop().create_future()
            if termination is not None:
                await self._containerizer.remove(container_id)
        return termination or Termination(None), timed_out

    def close(self, *, exits: bool = False) -> None:
        """Ends it, with every container and directory of it; what cannot be removed, a janitor removes later.

        `exits` if the whole process does. Raises MesocosmError.
        """
        self._exits = exits
        try:
            asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        except (OSError, ExceptionGroup) as error:
            raise MesocosmError(_reasons(error)) from error
        finally:
            self._end_thread()

    async def _close(self) -> None:
        async with contextlib.AsyncExitStack() as ending:
            ending.callback(self._place.forget)
            ending.push_async_callback(self._containerizer.close)
            await together(map(self._containerizer.destroy, await self._containerizer.containers()))
            if self._jobs and not self._exits:
                await asyncio.wait(self._jobs)
            self._place.remove()

    def _end_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        if not self._exits:
            self._loop.close()
        if self._sweeper is not None:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._sweeper, 0)

    def forget(self) -> None:
        """Lets go of what a fork copied: the parent still uses it, and its end must show."""
        self._place.forget()
        self._containerizer.forget_launcher()


def _reasons(error: Exception) -> str:
    return "; ".join(map(str, leaves(error)))


def _result(
    termination: Termination, timeout: float | None, wall_time: float, stdout: Collector, stderr: Collector
) -> Result:
    usage = termination.usage
    status = termination.exit_status
    limit, message = termination.limited_resource, termination.message
    if timeout is not None:
        status, limit, message = _TIMED_OUT, "timeout", f"the command ran for {format_duration(timeout)}"
    output, errors = stdout.finish(), stderr.finish()
    return Result(
        exit_status=128 if status is None else status,
        status=termination.status,
        stdout=output,
        stderr=errors,
        truncated=stdout.truncated or stderr.truncated,
        limit=limit,
        message=None if message is None else message.partition("\n")[0],
        wall_time=wall_time,
        user_time=(usage.cpus_user_time_secs if usage is not None else None) or 0.0,
        system_time=(usage.cpus_system_time_secs if usage is not None else None) or 0.0,
        peak_memory=None if usage is None else usage.mem_maximum_bytes,
    )


_all: dict[tuple[str | None, tuple[str, ...], Path], _WarmContainerizer] = {}
_lock = threading.Lock()


def _warm(isolation: str | None, more: tuple[str, ...], store: Path) -> _WarmContainerizer:
    """That for these isolators, `more` if they are not all that are wanted, and the images in `store`."""
    wanted = (isolation, more, store.absolute())
    with _lock:
        if wanted not in _all:
            try:
                _all[wanted] = _WarmContainerizer(*wanted)
            except OSError as error:
                raise MesocosmError(str(error)) from error
        return _all[wanted]


def close() -> None:
    """Ends what `run` keeps warm. The next `run` starts anew. Raises MesocosmError."""
    with _lock, contextlib.ExitStack() as ending:
        while _all:
            ending.callback(_all.popitem()[1].close)


@atexit.register
def _exit() -> None:
    with _lock:
        for warm in _all.values():
            # What cannot be done this late, as there can be no new threads, the janitor does.
            with contextlib.suppress(MesocosmError, OSError, RuntimeError):
                warm.close(exits=True)


def _forget_all() -> None:
    """In a fork's child, which has no such thread."""
    global _lock  # Somebody may have held it at the fork.
    _lock = threading.Lock()
    while _all:
        _all.popitem()[1].forget()


os.register_at_fork(after_in_child=_forget_all)
