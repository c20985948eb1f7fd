"""What `mesocosm run` does once its options are read: one container, from its place to the exit status."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from mesocosm.cli.messages import FAILED, complain, describe
from mesocosm.cli.signals import forwarded
from mesocosm.cli.streams import Streams
from mesocosm.cli.terminal import RawTerminal, set_window_size, window_size
from mesocosm.container import CommandInfo, ContainerConfig, ContainerID, Resources, RLimit, Termination, TTYInfo
from mesocosm.containerizer.mesos import MesosContainerizer
from mesocosm.dataclass import dataclass, replace
from mesocosm.errors import CommandError, FlagError, MesocosmError
from mesocosm.oneshot import janitor
from mesocosm.oneshot.choice import Choice, choose
from mesocosm.oneshot.images import Pull, command_of, directory_of, get_image, parse_pull
from mesocosm.oneshot.network import Networks, check_described
from mesocosm.oneshot.network import choose as choose_networks
from mesocosm.oneshot.place import Place
from mesocosm.oneshot.request import (
    check_limits,
    fit,
    make_config,
    needed_isolators,
    parse_environment,
    parse_tmpfs,
    parse_volume,
)
from mesocosm.oneshot.security import UNRESTRICTED, Security, for_image, parse_rlimit
from mesocosm.oneshot.security import choose as choose_security
from mesocosm.units import format_duration, parse_duration, parse_size

TIMED_OUT = 124
"""The exit status of a command whose time was over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The command line of `mesocosm run`, as it was written."""

    command: tuple[str, ...]
    isolation: str | None = None
    name: str | None = None
    env: tuple[str, ...] = ()
    workdir: str | None = None
    user: str | None = None
    cpus: float | None = None
    mem: str | None = None
    pids: int | None = None
    disk: str | None = None
    volume: tuple[str, ...] = ()
    tmpfs: tuple[str, ...] = ()
    image: str | None = None
    entrypoint: str | None = None
    pull: str | None = None
    store: Path | None = None
    rootfs: Path | None = None
    read_only: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    seccomp: str | None = None
    no_new_privileges: bool = False
    allow_new_privileges: bool = False
    privileged: bool = False
    network: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()
    hostname: str | None = None
    network_config_dir: Path | None = None
    rlimit: tuple[str, ...] = ()
    interactive: bool = False
    tty: bool = False
    timeout: str | None = None
    task: Path | None = None
    agent: str | None = None
    detach: bool = False
    credential: Path | None = None
    ca_file: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    work_dir: Path | None = None
    runtime_dir: Path | None = None
    verbose: bool = False


def execute(options: Options) -> int:
    """Runs the container; returns the exit status of `mesocosm run`. Raises MesocosmError before there is one."""
    mem, disk = (None if size is None else parse_size(size) for size in (options.mem, options.disk))
    limits = check_limits(options.cpus, mem, options.pids, disk)
    timeout = None if options.timeout is None else parse_duration(options.timeout)
    if timeout is not None and timeout <= 0:
        raise FlagError(f"--timeout: {options.timeout} is no time to run", "leave it out for no limit")
    place = Place.choose(options.name, options.runtime_dir, options.work_dir, options.network_config_dir)
    place.store = (options.store or place.store).absolute()
    container_id = ContainerID(place.name)
    security, rlimits = _security(options), tuple(map(parse_rlimit, options.rlimit))
    needed = needed_isolators(limits, security, rlimits, image=options.image)
    networks = choose_networks(options.network, options.publish, options.hostname)
    config = _config(options, limits, rlimits, networks)
    choice = choose(options.isolation, needed, config)
    config = fit(config, choice, security, (*networks.isolators, *needed))
    check_described(config.networks, place.networks)
    if options.image is not None:
        config = _of_image(options, options.image, place, config)
    _tell(options, choice)
    sweeper = janitor.start_if_needed(place.base)
    try:
        return asyncio.run(_Execution(container_id, config, place, choice, timeout, options).run())
    except (MesocosmError, OSError, ExceptionGroup) as error:
        complain(describe(error, container_id))
        return FAILED
    finally:
        if sweeper is not None:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(sweeper, 0)


def _security(options: Options) -> Security:
    if options.no_new_privileges and options.allow_new_privileges:
        raise FlagError("--no-new-privileges and --allow-new-privileges contradict each other", "leave one out")
    chosen = options.no_new_privileges or options.allow_new_privileges
    default = UNRESTRICTED
    if options.image is not None:
        default = for_image(None if options.isolation is None else options.isolation.split(","))
    return choose_security(
        default,
        add=options.cap_add,
        drop=options.cap_drop,
        seccomp=options.seccomp,
        no_new_privileges=options.no_new_privileges if chosen else None,
        privileged=options.privileged,
    )


def _config(options: Options, limits: Resources, rlimits: tuple[RLimit, ...], networks: Networks) -> ContainerConfig:
    environment = parse_environment(options.env)
    if options.tty and "TERM" in os.environ:
        environment.setdefault("TERM", os.environ["TERM"])
    return make_config(
        CommandInfo.of(options.command) if options.image is None else CommandInfo(shell=False),
        limits,
        environment=environment,
        volumes=map(parse_volume, options.volume),
        tmpfs=map(parse_tmpfs, options.tmpfs),
        rootfs=options.rootfs,
        read_only=options.read_only,
        user=options.user,
        working_directory=options.workdir,
        tty=TTYInfo(*window_size()) if options.tty else None,
        rlimits=rlimits,
        networks=networks,
        image=options.image,
    )


def _of_image(options: Options, image: str, place: Place, config: ContainerConfig) -> ContainerConfig:
    """`config` with what is executed, and where. The image is pulled if it is not there."""
    from mesocosm.cli.progress import shown

    with shown() as progress:
        found = asyncio.run(
            get_image(
                image,
                place.store,
                pull=parse_pull(options.pull or Pull.MISSING.value),
                progress=progress,
            )
        )
    return replace(
        config,
        command=command_of(found.config, options.command, options.entrypoint),
        working_directory=directory_of(found.config, options.workdir),
    )


def _tell(options: Options, choice: Choice) -> None:
    if options.verbose:
        complain(f"isolation: {','.join(choice.isolation)}")
        for name, reason in choice.missing.items():
            complain(f"without {name}: {reason}")
    if options.image is not None and options.privileged:
        complain("--privileged: root in the container may do all that root of this machine may, with every system call")
    if not choice.isolates:
        complain("warning: nothing is isolated, neither files nor processes: that takes root on Linux")


@dataclass(slots=True)
class _Execution:
    """One container, and the signals that come meanwhile."""

    container_id: ContainerID
    config: ContainerConfig
    place: Place
    choice: Choice
    timeout: float | None
    options: Options
    task: asyncio.Task[int] | None = None
    containerizer: MesosContainerizer | None = None
    runs: bool = False
    caught: int | None = None

    async def run(self) -> int:
        """The whole way. Whatever happens, nothing is left of it."""
        self.task = asyncio.current_task()
        flags = self.place.flags(",".join(self.choice.isolation), self.choice.launcher)
        self.containerizer = MesosContainerizer(
            flags,
            sole=None if self.options.isolation is not None else self.config,
            janitor=janitor.command_line(self.place.base, self.place.name),
        )
        with self._signals():
            try:
                # In this order: the launcher knows whom to call should this process end, then there is what to remove.
                self.containerizer.warm_up()
                self.place.create(flags.isolation, flags.launcher)
                try:
                    async with self.containerizer:
                        return await self._run_container(self.containerizer)
                finally:
                    self.place.remove()
            except asyncio.CancelledError:
                if self.caught is None:
                    raise
                return 128 + self.caught
            finally:
                await self.containerizer.close()

    async def _run_container(self, containerizer: MesosContainerizer) -> int:
        with Streams(interactive=self.options.interactive, terminal=self.options.tty) as streams:
            try:
                await containerizer.launch(self.container_id, self.config, streams.io())
            except CommandError as error:
                complain(describe(error, self.container_id))
                return error.exit_status
            self.runs = True
            if self.options.verbose and self.place.keeps_work:
                complain(f"sandbox: {self.place.work_dir}/containers/{self.container_id}")
            return await self._run_command(containerizer, streams)

    async def _run_command(self, containerizer: MesosContainerizer, streams: Streams) -> int:
        with contextlib.ExitStack() as entered:
            master = None
            if self.options.tty:
                master = await containerizer.attach(self.container_id)
                if self.options.interactive:
                    self._follow(entered.enter_context(RawTerminal(0)), master)
            streams.start(master)
            termination = await self._wait(containerizer)
            self.runs = False
            error = await streams.finish()
        if error is not None:
            complain(f"the output could not be written: {error.strerror}")
            return FAILED
        return self._judge(termination)

    async def _wait(self, containerizer: MesosContainerizer) -> Termination | None:
        """How the container ended; None if its time was over."""
        try:
            async with asyncio.timeout(self.timeout):
                return await containerizer.wait(self.container_id)
        except TimeoutError:
            await containerizer.destroy(self.container_id)
            return None

    def _judge(self, termination: Termination | None) -> int:
        """The exit status; says what the status does not."""
        if termination is None:
            complain(f"timeout: the command ran for {format_duration(self.timeout or 0)}")
            return TIMED_OUT
        if termination.message is not None:
            complain(termination.message.partition("\n")[0])
        if termination.exit_status is None:
            complain("nobody saw how the command ended")
            return FAILED
        return termination.exit_status

    def _follow(self, terminal: RawTerminal, master: int) -> None:
        """Keeps both terminals alike."""
        loop = asyncio.get_running_loop()
        set_window_size(master)  # It may have changed since the launch.
        loop.add_signal_handler(signal.SIGWINCH, set_window_size, master)
        loop.add_signal_handler(signal.SIGCONT, terminal.apply)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Passes on the signals that ask a program for something, but for those that the caller ignores."""
        loop = asyncio.get_running_loop()
        for number in forwarded():
            loop.add_signal_handler(number, self._pass_on, number)
        yield

    def _pass_on(self, number: int) -> None:
        """To the command while it runs; before and after that, the signal ends this process."""
        assert self.task is not None
        if self.runs and self.containerizer is not None:
            kill = asyncio.ensure_future(self.containerizer.kill(self.container_id, number))
            kill.add_done_callback(_forget_failure)
        else:
            self.caught = number
            self.task.cancel()


def _forget_failure(kill: asyncio.Future[bool]) -> None:
    """A signal that came as the container ended is none of its any more."""
    if (
        not kill.cancelled()
        and isinstance(error := kill.exception(), Exception)
        and not isinstance(error, (MesocosmError, OSError))
    ):
        raise error
