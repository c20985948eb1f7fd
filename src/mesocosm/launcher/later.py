"""Mounts in a container that runs already: made by a process that enters its mount namespace, and ends there."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys

from mesocosm.dataclass import dataclass, replace
from mesocosm.launcher.operations import Bind, HostDirectory, Root
from mesocosm.linux import helper
from mesocosm.linux import mount as mounts
from mesocosm.linux.mount import Propagation
from mesocosm.linux.namespaces import Namespace, enter
from mesocosm.linux.path import open_in_root


@dataclass(frozen=True, slots=True)
class _Unmount:
    target: str
    within: HostDirectory | None


def mount(pidfd: int, bind: Bind) -> None:
    """Makes a directory of the host visible in the container whose init `pidfd` names. Blocks; raises OSError."""
    _run(pidfd, bind)


def unmount(pidfd: int, target: str, within: HostDirectory | None) -> None:
    """Has nothing mounted at `target`, which is looked up as that of a Bind is. Blocks; raises OSError.

    What is open there stays so, and nothing else of it can be reached.
    """
    _run(pidfd, _Unmount(target, within))


def _run(pidfd: int, what: Bind | _Unmount) -> None:
    arguments = helper.command("mesocosm.launcher.later", str(pidfd))
    done = subprocess.run(
        arguments, input=pickle.dumps(what), stdout=subprocess.PIPE, env={}, cwd="/", pass_fds=[pidfd], check=False
    )
    if done.returncode != 0:
        code, text = pickle.loads(done.stdout) if done.stdout else (errno.EIO, "the process that mounts has failed")
        raise OSError(code, f"{what.target} cannot be changed while the container runs: {text}")


def main() -> None:
    """The process: does what it reads, and tells what failed. It imports nothing once it is inside."""
    what = pickle.loads(sys.stdin.buffer.read())
    try:
        _do(int(sys.argv[1]), what)
    except OSError as error:
        sys.stdout.buffer.write(pickle.dumps((error.errno, error.strerror)))
        sys.stdout.flush()
        os._exit(1)


def _do(pidfd: int, what: Bind | _Unmount) -> None:
    """Takes a tree of the host along, if there is one, as its path leads elsewhere in there. Raises OSError."""
    tree = mounts.clone_tree(what.source) if isinstance(what, Bind) else None
    enter(pidfd, Namespace.MOUNT)
    root = Root(os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    if isinstance(what, _Unmount):
        _unmount(root, what)
        return
    assert tree is not None
    mounts.change(tree, propagation=Propagation.PRIVATE)
    root.shared[what.source] = [tree]
    replace(what, propagation=Propagation.UNCHANGED).apply(root)


def _unmount(root: Root, what: _Unmount) -> None:
    top = root.descriptor if what.within is None else what.within.open()
    while True:
        directory = open_in_root(top, what.target)
        try:
            mounts.unmount_open(directory)
        except OSError as error:
            if error.errno != errno.EINVAL:  # Nothing is mounted there any more.
                raise
            return
        finally:
            os.close(directory)
