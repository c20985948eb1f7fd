"""How an init executes the command, which often is to have less than the init: another user, fewer rights.

A command that differs by its user only is spawned: posix_spawn(3) shares the memory until the exec, which a fork would
have to copy. What else can be taken from it, it has to take from itself, between a fork and the exec.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from mesocosm.launcher import confinement, programs
from mesocosm.launcher.info import Command, Credentials, LaunchInfo
from mesocosm.launcher.messages import REPORT_SIZE, Kind, Report
from mesocosm.launcher.step import Failure, Step
from mesocosm.linux import process
from mesocosm.linux.libc import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, NoReturn

ALL_SIGNALS = frozenset(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}
FileAction = tuple[int, int, str, int, int] | tuple[int, int, int]
"""As posix_spawn(3) takes them: to open a file, or to copy a descriptor."""
_STREAMS = range(3)
_GO = b"G"
_ROOT = Credentials(0, 0)
_CRAMPED = Report(Kind.FAILED, errno.ENOMEM, step="execute the command with these limits").pack()
"""What is reported if there is no memory left to say more."""


def rehearse() -> None:
    """Does, to no effect, what the start of a command does."""
    # A root without all of its rights may not take on any credentials.
    with contextlib.suppress(Failure), Step("rehearsal"), _acting_as(_ROOT if os.geteuid() == 0 else None):
        spawn(Command("/", ("/",)), {})  # A directory cannot be executed.


def start(info: LaunchInfo, terminal: str | None) -> int:
    """Executes the command, with `terminal` as its own if there is one; returns its pid.

    Raises Failure. The init itself can do no more than the command afterwards, besides what it needs.
    """
    assert info.command is not None
    if info.confines or info.command.program is not None:
        return _fork(info, info.command, terminal)
    with Step("switch the user"), _acting_as(info.credentials):
        return spawn(info.command, info.variables, opening(terminal), session=terminal is not None)


def spawn(
    command: Command, environment: Mapping[str, str], actions: Sequence[FileAction] = (), *, session: bool = False
) -> int:
    """Executes it as a child, after the `actions`, and returns its pid. It takes over the credentials of its caller.

    It leads a process group of its own, in a new `session` if asked for. Raises Failure.
    """
    # Without one it stays in the init's, by which the POSIX launcher finds it.
    group: dict[str, Any] = {"setsid": True} if session else {"setpgroup": 0}

    def execute(path: str) -> int:
        return os.posix_spawn(
            path,
            command.argv,
            environment,
            file_actions=actions,
            setsigmask=(),
            setsigdef=ALL_SIGNALS,
            **group,
        )

    return _first(command, environment, execute)


def opening(terminal: str | None) -> Sequence[FileAction]:
    """What gives a command the terminal: opened by the leader of a new session, it becomes the controlling one."""
    if terminal is None:
        return ()
    return (
        (os.POSIX_SPAWN_OPEN, 0, terminal, os.O_RDWR, 0),
        *((os.POSIX_SPAWN_DUP2, 0, number) for number in _STREAMS[1:]),
    )


def _fork(info: LaunchInfo, command: Command, terminal: str | None) -> int:
    """Executes it as a child that confines itself before, after the init: it shall not find that stronger than itself.

    The child waits for the word that it may go on, and answers with what failed, or by its exec with the end.
    """
    confinement.limit_bounding(info)
    ours, theirs = socket.socketpair()
    with ours:
        with theirs, Step("fork"):
            pid = os.fork()
            if pid == 0:
                ours.close()
                _be_command(info, command, terminal, theirs)
        confinement.confine_init(info)
        ours.sendall(_GO)
        report = ours.recv(REPORT_SIZE)
    if report:
        os.waitpid(pid, 0)
        raise Failure(Report.unpack(report))
    return pid


def _be_command(info: LaunchInfo, command: Command, terminal: str | None, line: socket.socket) -> NoReturn:
    """Is the child, from the fork to the exec. Nothing may unwind into the init whose copy it is."""
    report = _CRAMPED
    try:
        if line.recv(len(_GO)) == _GO:
            _take_place(terminal)
            environment = info.variables
            if command.program is not None:
                confinement.confine_program(info)
                _be_program(command, environment, _STREAMS)
            confinement.confine_command(info)
            _first(command, environment, lambda path: _execute(path, command.argv, environment))
    except Failure as failure:
        report = failure.report.pack()
    finally:
        try:
            line.sendall(report)
        finally:
            os._exit(1)


def be_program_outside(command: Command, passed: Sequence[int]) -> NoReturn:
    """Is a built-in program in a process that was just forked, in a session of its own, with `passed` from 3 on."""
    try:
        os.setsid()
        os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR)
        for number in _STREAMS:
            os.dup2(null, number)
        first, most = len(_STREAMS), len(_STREAMS) + len(passed)
        moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, most) for descriptor in passed]
        for number, descriptor in enumerate(moved, first):
            os.dup2(descriptor, number)
        _reset_signals()
        _be_program(command, {}, range(most))
    finally:
        os._exit(1)


def _be_program(command: Command, environment: Mapping[str, str], kept: Iterable[int]) -> NoReturn:
    """Is a built-in program, with nothing of its init but the memory, which holds nothing of other containers."""
    status = 1
    assert command.program is not None
    try:
        process.close_descriptors_except(kept)
        if sys.platform == "linux":
            process.set_title(command.program)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Which Python handles; what it ignores has been reset.
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # As in all of Python, which gets an error instead.
        os.environ.clear()
        os.environ.update(environment)
        gc.enable()
        status = programs.find(command.program)(command)
    except BaseException as error:  # noqa: BLE001 - nothing may unwind into the process whose copy this is.
        os.write(2, f"mesocosm: {command.program} failed: {error!r}\n".encode())
    finally:
        os._exit(status)


def _execute(path: str, arguments: tuple[str, ...], environment: Mapping[str, str]) -> NoReturn:
    os.execve(path, arguments, environment)


def _take_place(terminal: str | None) -> None:
    """A session with the terminal or a group of its own, and every signal as the kernel has it in the beginning."""
    if terminal is None:
        os.setpgid(0, 0)
    else:
        with Step("open the terminal"):
            os.setsid()
            descriptor = os.open(terminal, os.O_RDWR)  # Which makes it the controlling terminal.
            for number in _STREAMS:
                os.dup2(descriptor, number)
            os.close(descriptor)
    _reset_signals()


def _reset_signals() -> None:
    """Every signal as the kernel has it in the beginning."""
    for number in ALL_SIGNALS:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _first(command: Command, environment: Mapping[str, str], execute: Callable[[str], int]) -> int:
    """What `execute` returns for the first candidate that can be executed, as execvp(3) does. Raises Failure."""
    problem = errno.ENOENT
    for candidate in _candidates(command.executable, environment.get("PATH", "")):
        try:
            return execute(candidate)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                problem = error.errno or problem
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
                break
    raise Failure(Report(Kind.NOT_EXECUTED, problem, path=command.executable))


def _candidates(executable: str, path: str) -> Iterator[str]:
    if "/" in executable:
        yield executable
    else:
        for directory in path.split(":"):
            yield f"{directory or '.'}/{executable}"


@contextlib.contextmanager
def _acting_as(credentials: Credentials | None) -> Iterator[None]:
    """Takes on `credentials`, and keeps the own ones as saved ids: an exec replaces these, so no program gets them."""
    if credentials is None:
        yield
        return
    before = os.getgroups()
    os.setgroups(credentials.groups)
    os.setresgid(credentials.gid, credentials.gid, -1)
    os.setresuid(credentials.uid, credentials.uid, -1)
    try:
        yield
    finally:
        os.setresuid(0, 0, -1)
        os.setresgid(0, 0, -1)
        os.setgroups(before)
