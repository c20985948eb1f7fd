"""The init of a container: what happens between the clone and the exec, and until the command has ended.

Everything here runs in a process that was just cloned from the warm launcher, PID 1 where the container has a pid
namespace. It imports nothing, opens nothing of the host that it keeps, and allocates little, since every page it
touches is a page of its own. See `messages` for what it says to the containerizer.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import resource  # noqa: F401 - os.wait4 would import it, when there may be no file system to import from.
import signal
import socket
import sys
import termios
from collections.abc import Collection, Sequence

from mesocosm.launcher import execution
from mesocosm.launcher.execution import ALL_SIGNALS
from mesocosm.launcher.info import LaunchInfo
from mesocosm.launcher.kernel_filesystems import KernelFilesystems
from mesocosm.launcher.messages import CHANNEL, PEER, RELEASE, STOP_COMMAND, Kind, Report, Start, receive_object
from mesocosm.launcher.operations import Bind, Mount, Operation, Root
from mesocosm.launcher.status import write_status
from mesocosm.launcher.step import Failure, Step
from mesocosm.linux import descriptors, mount, prctl, process
from mesocosm.linux.libc import TYPE_CHECKING
from mesocosm.linux.mount import Attribute
from mesocosm.linux.namespaces import Namespace, unshare
from mesocosm.linux.path import make_directory

if TYPE_CHECKING:
    from typing import NoReturn

_REHEARSALS = 20
_STREAMS = 3
_NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)  # Not on macOS.
_MOST_RELEASED = 32


def run(channel: int, operations: Sequence[Operation], processors: Collection[int]) -> NoReturn:
    """Is the init of a container, from its first instruction to its exit.

    `channel` is its end of the container's channel. Of `operations`, which the container is likely to need, it makes
    in advance what it can. It may run on `processors`, or wherever it does if there are none.
    """
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, ALL_SIGNALS)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # A launcher ignores it, but nobody could reap then.
        if sys.platform == "linux":
            process.set_title("mesocosm-init")  # The arguments are of no concern to the container.
        _keep_only(channel)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, CHANNEL) as line:
            prepared = _prepare(operations)
            if operations:
                _warm_up()  # It was cloned in advance, and has the time.
            received = receive_object(line, 0)
            if processors:
                os.sched_setaffinity(0, processors)  # Which process.run_beside may have narrowed.
            if received is not None and isinstance(received[0], Start):
                _live(received[0], line, prepared)
    except BaseException as error:  # noqa: BLE001 - nothing may unwind into the launcher whose copy this is.
        with contextlib.suppress(OSError):
            os.write(2, f"mesocosm: the container's init failed: {error!r}\n".encode())
    finally:
        os._exit(1)


def rehearse() -> None:
    """Does, to no effect, much of what an init does, often enough that the interpreter specializes the code (PEP 659).

    An init inherits that. It would have to do it itself otherwise, in pages of its own.
    """
    for _ in range(_REHEARSALS):
        _warm_up()
        execution.rehearse()


def _warm_up() -> None:
    """Writes to much of the memory that a launch writes to, and so has it in pages of its own from now on."""
    pickle.loads(pickle.dumps(Start(LaunchInfo(operations=(Mount("tmpfs", "/"), Bind("/", "/"), KernelFilesystems())))))
    Report.unpack(Report(Kind.RUNNING, step="rehearsal").pack())
    root = Root(os.open("/", os.O_DIRECTORY | os.O_CLOEXEC))
    with contextlib.suppress(Failure), Step("rehearsal"):  # Not as another user than root.
        os.close(make_directory(root.descriptor, "/"))
        tree = mount.create("tmpfs", ())
        mount.change(tree, Attribute.READ_ONLY)
        os.close(tree)
        os.close(mount.clone_tree("/dev/null", recursive=False))
    with contextlib.suppress(OSError):  # As it is no directory.
        Bind("/dev/null", "/", read_only=True, create=True).apply(root)
    root.close()


def _keep_only(channel: int) -> None:
    """Moves the channel to its number, closes everything else that is open, and reserves the peer's number."""
    os.dup2(channel, CHANNEL, inheritable=False)
    process.close_descriptors_except((0, 1, 2, CHANNEL))
    os.dup2(0, PEER, inheritable=False)


def _prepare(operations: Sequence[Operation]) -> dict[object, tuple[int, ...]]:
    prepared: dict[object, tuple[int, ...]] = {}
    os.umask(0)
    for operation in operations:
        with contextlib.suppress(OSError):  # The launch will try it again, and report what fails.
            if trees := operation.prepare():
                prepared[operation.likeness] = trees
    return prepared


def _live(start: Start, line: socket.socket, prepared: dict[object, tuple[int, ...]]) -> None:
    info = start.info
    try:
        _set_up(info, prepared)
        terminal = _open_terminal(info, line)
        _await_release(line)
        command = execution.start(info, terminal)
    except Failure as failure:
        _say(line, failure.report)
        return
    _say(line, Report(Kind.RUNNING))
    for number in range(CHANNEL):  # Who reads what the command writes shall see when it closes it.
        os.close(number)
    report = _supervise(command)
    if start.status_file is not None:
        write_status(start.status_file, report.value)
    _say(line, report)
    while line.recv(1) != b"":
        pass
    os._exit(0)


def _say(line: socket.socket, report: Report) -> None:
    """Reports to the containerizer, also to one that was killed just now: the container goes on without it.

    No SIGPIPE tells of that, which the init would pass on to the command: what is blocked is not ignored.
    """
    with contextlib.suppress(BrokenPipeError):
        line.sendall(report.pack(), _NO_SIGNAL)


def _await_release(line: socket.socket) -> None:
    """Blocks until the container is isolated, takes the command's streams, and enters the cgroups it is given.

    If the containerizer ends before, so does the init, and nothing has happened yet.
    """
    data, received = descriptors.receive(line, 1, _MOST_RELEASED)
    if data != RELEASE:
        os._exit(1)
    for number, descriptor in enumerate(received[:_STREAMS]):
        os.dup2(descriptor, number)
    if len(received) > _STREAMS:
        os.dup2(received[_STREAMS], PEER, inheritable=False)
    with Step("enter the cgroups"):
        for tasks in received[_STREAMS + 1 :]:
            os.write(tasks, b"0")  # Itself, which has one thread.
    for descriptor in received:
        os.close(descriptor)


def _set_up(info: LaunchInfo, prepared: dict[object, tuple[int, ...]]) -> None:
    """Makes the container as `info` describes it, and goes into it."""
    with Step("new session"):
        os.setsid()
    if sys.platform == "linux" and os.getpid() != 1:
        prctl.adopt_orphans()  # The POSIX launcher finds what leaves the session by its parent.
    os.umask(0)
    if sys.platform == "linux" and os.geteuid() == 0:
        _leave_host()
    if info.hostname is not None:
        with Step(f"set the host name {info.hostname}"):
            socket.sethostname(info.hostname)
    if Namespace.MOUNT in info.clone_namespaces:
        with Step("new mount namespace"):
            unshare(Namespace.MOUNT)
    with Step("open the root directory"):
        owner = (0, 0) if info.credentials is None else (info.credentials.uid, info.credentials.gid)
        root = Root(os.open("/", os.O_DIRECTORY | os.O_CLOEXEC), owner, prepared=prepared)
    for operation in info.changes:
        with Step(operation):
            operation.apply(root)
    if info.rootfs is not None:
        with Step(f"change the root to {info.rootfs}"):
            if info.rootfs_read_only:
                mount.change(root.descriptor, Attribute.READ_ONLY, recursive=False)
            mount.pivot_root(root.descriptor)
    root.close()
    os.umask(0o022)
    if info.working_directory is not None:
        with Step(f"enter the directory {info.working_directory}"):
            _enter(info.working_directory, make=info.rootfs is not None)


def _enter(directory: str, *, make: bool) -> None:
    try:
        os.chdir(directory)
    except FileNotFoundError:
        if not make:
            raise
        os.makedirs(directory, exist_ok=True)
        os.chdir(directory)


def _leave_host() -> None:
    """Gives up what would reach into the host although no namespace isolates it."""
    with Step("new session keyring"):
        try:
            process.join_new_keyring()
        except OSError as error:
            # No keyrings in this kernel, or the container that Mesocosm runs in may not use them.
            if error.errno not in (errno.ENOSYS, errno.EPERM):
                raise


def _open_terminal(info: LaunchInfo, line: socket.socket) -> str | None:
    """Makes a terminal in the container, whose master it sends; returns the name of the slave."""
    if info.tty is None:
        return None
    with Step("open a terminal"):
        master, slave = os.openpty()
        name = os.ttyname(slave)
        if info.credentials is not None:
            os.fchown(slave, info.credentials.uid, -1)
        termios.tcsetwinsize(slave, info.tty)
        os.close(slave)
        if info.rootfs is not None:
            _mount_console(name)
        descriptors.send(line, Report(Kind.TERMINAL).pack(), (master,))
        os.close(master)
    return name


def _mount_console(terminal: str) -> None:
    console = os.open("/dev/console", os.O_CREAT | os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY, 0o600)
    tree = mount.clone_tree(terminal)
    try:
        mount.attach(tree, console)
    finally:
        os.close(tree)
        os.close(console)


def _supervise(command: int) -> Report:
    """Reaps what ends and passes on every signal, until the command has ended; then ends the pid namespace's rest."""
    while True:
        number = signal.sigwait(ALL_SIGNALS)
        if number != signal.SIGCHLD:
            with contextlib.suppress(ProcessLookupError):
                os.kill(command, signal.SIGSTOP if number == STOP_COMMAND else number)
            continue
        report = _reap(command)
        if report is not None:
            break
    if os.getpid() == 1:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
    return report


def _reap(command: int) -> Report | None:
    """Waits for the children that have ended, at most until the command is among them, and returns the report on it."""
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == command:
                return Report(
                    Kind.EXITED,
                    status,
                    user_time=int(usage.ru_utime * 1e6),
                    system_time=int(usage.ru_stime * 1e6),
                    memory=usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
                )
    return None
