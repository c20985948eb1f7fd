"""The warm launcher: one single-threaded process, started once, that clones the init of every container.

A process that already runs costs a millisecond to fork, a new interpreter twenty. It takes one request after the other
from the containerizer, its parent, and answers each with the pid and a pidfd of the new init, or with an errno. All
else the containerizer and the init tell each other directly. It needs nothing but the standard library, and imports
all that `init` needs before the first request.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import select
import signal
import socket
import struct
import sys

from mesocosm.launcher import execution, init, programs
from mesocosm.launcher.messages import receive_object
from mesocosm.launcher.requests import REPLY, CloneRequest, Farewell, JanitorRequest, ProgramRequest
from mesocosm.launcher.spawn import CONTROL
from mesocosm.linux import capabilities, descriptors, prctl, process
from mesocosm.linux.libc import TYPE_CHECKING
from mesocosm.linux.namespaces import Namespace, enter

if TYPE_CHECKING:
    from typing import NoReturn

_ERRNO = struct.Struct("=i")
_MOST_DESCRIPTORS = 4
_IDLE = 30
"""Milliseconds."""


def main() -> NoReturn:
    """Serves until the containerizer closes the socket."""
    # Ignored, children leave no zombies; whoever wants to know of their end has a pidfd.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    if sys.platform == "linux":
        process.set_title("mesocosm-launcher")
        _close_up()
    gc.collect()
    gc.disable()
    gc.freeze()
    janitor: tuple[str, ...] | None = None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, CONTROL) as control:
        rehearsed = False
        while True:
            rehearsed = rehearsed or _rehearse_if_idle(control)
            if (received := receive_object(control, _MOST_DESCRIPTORS)) is None:
                break
            request, passed = received
            if isinstance(request, Farewell):
                os._exit(0)
            if isinstance(request, JanitorRequest):
                janitor = request.arguments
            elif isinstance(request, CloneRequest):
                _serve(control, request, passed)
            elif isinstance(request, ProgramRequest):
                _serve_program(control, request, passed)
    if janitor is not None:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.execv(janitor[0], janitor)
    os._exit(0)


def _close_up() -> None:
    """Takes from itself, and so from every init, what a container's processes could use.

    Nobody without CAP_SYS_PTRACE may look into one, also where it enters a container (CVE-2016-9962), and the caller's
    inheritable capabilities end here.
    """
    if os.geteuid() == 0:
        prctl.hide_from_ptrace()
        capabilities.drop_inheritable()


def _rehearse_if_idle(control: socket.socket) -> bool:
    """Gets better at what inits do, unless there is a container to launch; whether it did."""
    poll = select.poll()
    poll.register(control, select.POLLIN)
    if poll.poll(_IDLE):
        return False
    init.rehearse()
    programs.rehearse()
    gc.freeze()
    return True


def _serve(control: socket.socket, request: CloneRequest, passed: list[int]) -> None:
    """Clones one init, by way of a helper if it is to be in namespaces of its parent container."""
    try:
        if not request.enter_namespaces:
            _reply(control, _clone(request, passed, sibling=False))
        elif process.clone_and_wait() == 0:
            _help(control, request, passed)
    except OSError as error:
        _refuse(control, error)
    finally:
        for descriptor in passed:
            os.close(descriptor)


def _serve_program(control: socket.socket, request: ProgramRequest, passed: list[int]) -> None:
    """Forks a program that is in no container."""
    try:
        pid, pidfd = process.clone_with_pidfd(Namespace.NONE) if sys.platform == "linux" else (os.fork(), -1)
        if pid == 0:
            execution.be_program_outside(request.command, passed)
        _reply(control, (pid, pidfd))
    except OSError as error:
        _refuse(control, error)
    finally:
        for descriptor in passed:
            os.close(descriptor)


def _help(control: socket.socket, request: CloneRequest, passed: list[int]) -> NoReturn:
    """Enters the parent container's namespaces, which nobody comes back from, and clones a sibling there."""
    try:
        # The parent container's processes may see this one from now on, but not look into it: it is hidden.
        enter(passed[1], request.enter_namespaces)
        if Namespace.PID in request.enter_namespaces & request.clone_namespaces:
            _reply(control, _clone_below(request, passed))
        else:
            _reply(control, _clone(request, passed, sibling=True))
    except OSError as error:
        _refuse(control, error)
    finally:
        os._exit(0)


def _clone_below(request: CloneRequest, passed: list[int]) -> tuple[int, int]:
    """The pid and pidfd of a new init in a new pid namespace, below the one that was entered. Raises OSError.

    Only a process that is in the one above can make it: a child of the one that entered. It may be killed at any time,
    with the parent container, and therefore does not answer itself.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if process.clone_and_wait(sibling=True) == 0:
        try:
            descriptors.send(theirs, _ERRNO.pack(0), (_clone(request, passed, sibling=True)[1],))
        except OSError as error:
            theirs.send(_ERRNO.pack(error.errno or errno.EIO))
        finally:
            os._exit(0)
    theirs.close()
    data, received = descriptors.receive(ours, _ERRNO.size, 1)
    ours.close()
    if not received:
        code = _ERRNO.unpack(data)[0] if data else errno.ESRCH
        text = "no deeper pid namespace is allowed" if code == errno.ENOSPC else os.strerror(code)
        raise OSError(code, f"clone3: {text}")
    return process.pid_of(received[0]), received[0]


def _clone(request: CloneRequest, passed: list[int], *, sibling: bool) -> tuple[int, int]:
    """The pid and pidfd of a new init. Its mount namespace it makes itself, when it knows that it is needed."""
    processors: set[int] = set()
    if sys.platform == "linux":
        processors = os.sched_getaffinity(0)
        cgroup = passed[-1] if request.into_cgroup else None
        pid, pidfd = process.clone_with_pidfd(
            request.clone_namespaces & ~Namespace.MOUNT, cgroup=cgroup, sibling=sibling
        )
    else:
        pid, pidfd = os.fork(), -1
    if pid == 0:
        init.run(passed[0], request.operations, processors)
    return pid, pidfd


def _reply(control: socket.socket, result: tuple[int, int]) -> None:
    pid, pidfd = result
    with contextlib.suppress(BrokenPipeError):
        descriptors.send(control, REPLY.pack(pid, 0, 0), () if pidfd == -1 else (pidfd,))
    if pidfd != -1:
        os.close(pidfd)


def _refuse(control: socket.socket, error: OSError) -> None:
    text = str(error.strerror).encode()
    with contextlib.suppress(BrokenPipeError):
        control.sendall(REPLY.pack(0, error.errno or 0, len(text)) + text)
