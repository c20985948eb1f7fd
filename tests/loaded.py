"""`mesocosm` forked of a process that has loaded all of it, for the many tests that need one, and not its start.

Loading takes most of the time of a short life. What is forked is in everything else what `python -m mesocosm` with the
same arguments would be: a child of the process of the tests, with the descriptors, the directory and the environment
that it is given. Only /proc shows the command line and the environment of the process that it was forked of.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import inspect
import json
import os
import pkgutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NoReturn, TextIO, cast

import mesocosm
import mesocosm.__main__
from mesocosm.linux.namespaces import Namespace
from mesocosm.linux.process import clone_with_pidfd, close_descriptors_except
from tests.command_line import MESOCOSM, TIMEOUT

_CONTROL = 0
"""The descriptor of the socket to the tests, in the process that is forked."""
_MOST = 1 << 20
"""Bytes of a request."""
_INTERPRETED = ("PYTHON", "LC_", "LANG", "LD_")
"""Variables that begin like this are read when an interpreter starts."""
_in_use: list[_Loaded] = []


class _Loaded:
    """The process that has loaded everything. It ends with the process of the tests."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MOST)
        self._control.settimeout(TIMEOUT)
        self._turn = threading.Lock()
        with theirs:
            self._process = subprocess.Popen([sys.executable, "-m", __name__], stdin=theirs, stdout=subprocess.DEVNULL)
        self._environment = _interpreted(os.environ)

    def can_be(self, argv: Sequence[str], environment: Mapping[str, str]) -> bool:
        """Whether a fork of it can be a process with these arguments and this environment."""
        return tuple(argv[: len(MESOCOSM)]) == MESOCOSM and _interpreted(environment) == self._environment

    def fork(self, argv: Sequence[str], environment: Mapping[str, str], descriptors: Sequence[int]) -> int:
        """The pid of a new child of this process, whose first descriptors are these."""
        os.umask(umask := os.umask(0))
        request = {"argv": list(argv), "environment": dict(environment), "umask": umask}
        directory = os.open(".", os.O_PATH | os.O_CLOEXEC)
        try:
            with self._turn:
                socket.send_fds(self._control, [json.dumps(request).encode()], [*descriptors, directory])
                answer = self._control.recv(16)
        finally:
            os.close(directory)
        assert answer, "the process that is forked has ended"
        return int(answer)

    def end(self) -> None:
        self._control.close()
        assert self._process.wait(TIMEOUT) == 0


class _Fork(subprocess.Popen[Any]):
    """As any other `Popen`, but for how it comes to its process."""

    def _execute_child(self, *given: Any) -> None:
        of = inspect.signature(super()._execute_child).bind(*given).arguments  # type: ignore[misc]
        environment = os.environ if of["env"] is None else of["env"]
        ends = [of[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        try:
            descriptors = [number if end == -1 else end for number, end in enumerate(ends)]
            self.pid = _in_use[-1].fork(of["args"], environment, descriptors)
            self._child_created = True
        finally:
            pipes = [of[name] for name in inspect.signature(super()._close_pipe_fds).parameters]  # type: ignore[misc]
            super()._close_pipe_fds(*pipes)  # type: ignore[misc]


def start(argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
    """`Popen` of a command line with `stdin`, `stdout`, `stderr`, `env` and `text`; forked if it can be."""
    forked = bool(_in_use) and _in_use[-1].can_be(argv, options.get("env") or os.environ)
    return (_Fork if forked else subprocess.Popen)(argv, **options)


def run(argv: Sequence[str], **options: Any) -> subprocess.CompletedProcess[Any]:
    """What one leaves that is started so, when it has ended. Raises subprocess.TimeoutExpired.

    Its output is kept unless `stdout` and `stderr` say otherwise, and `input` is written to it.
    """
    given = options.pop("input", None)
    streams = {"stdin": subprocess.DEVNULL if given is None else subprocess.PIPE}
    streams |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with start(argv, **(streams | options)) as process:
        try:
            output, errors = process.communicate(given, TIMEOUT)
        except BaseException:
            process.kill()
            raise
        return subprocess.CompletedProcess(argv, process.returncode, output, errors)


@contextmanager
def forking() -> Iterator[None]:
    """Meanwhile `start` forks."""
    _in_use.append(_Loaded())
    yield
    _in_use.pop().end()


def _interpreted(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_INTERPRETED)}


# In the process that is forked.


def _serve() -> None:
    control = socket.socket(fileno=os.dup(_CONTROL))
    for module in pkgutil.walk_packages(mesocosm.__path__, "mesocosm."):
        importlib.import_module(module.name)
    gc.freeze()  # Nor does a collection touch the pages that all of them share.
    while (received := socket.recv_fds(control, _MOST, 8))[0]:
        with ExitStack() as stack:
            for descriptor in received[1]:
                stack.callback(os.close, descriptor)
            control.send(b"%d" % _fork(json.loads(received[0]), received[1]))


def _fork(request: Mapping[str, Any], descriptors: Sequence[int]) -> int:
    """The pid of a new child of this process's parent, which does not return."""
    ctypes.pythonapi.PyOS_BeforeFork()
    pid, pidfd = clone_with_pidfd(Namespace(0), sibling=True)
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        _become(request, descriptors)
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    os.close(pidfd)
    return pid


def _become(request: Mapping[str, Any], descriptors: Sequence[int]) -> NoReturn:
    try:
        *standard, directory = descriptors
        for number, descriptor in enumerate(standard):
            os.dup2(descriptor, number)
        os.fchdir(directory)
        close_descriptors_except(range(len(standard)))
        os.umask(request["umask"])
        os.environ.clear()
        os.environ.update(request["environment"])
        sys.stdin, sys.stdout, sys.stderr = map(_opened, (sys.stdin, sys.stdout, sys.stderr), range(3))
        sys.argv = ["mesocosm", *request["argv"][len(MESOCOSM) :]]
        mesocosm.__main__.main()
    except BaseException:  # noqa: BLE001 Nothing is above it but the process that it was forked of.
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(1)


def _opened(like: TextIO, number: int) -> TextIO:
    """A standard stream of a descriptor as the interpreter opens it; the one that there is knows of another file."""
    buffering = 1 if like is sys.stderr else -1
    options = {"encoding": like.encoding, "errors": like.errors, "closefd": False}
    return cast(TextIO, open(number, like.mode, buffering, **options))


if __name__ == "__main__":
    _serve()
