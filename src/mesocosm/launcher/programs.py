"""Programs that are built in: called in a process forked from a warm one, instead of executed from a file.

A container whose command names one costs no start of an interpreter, and needs no file of it in its root. The launcher
process that they are forked from is one of their own, in which they are imported before the first request.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType

from mesocosm.errors import ContainerError
from mesocosm.launcher.info import Command

Program = Callable[[Command], int]
"""Is given the command that it stands for, and returns its exit status. It finds everything else as any process."""

_MODULES = {
    "command-executor": "mesocosm.executors.command",
    "default-executor": "mesocosm.executors.default",
    "docker-executor": "mesocosm.executors.docker",
    "keeper": "mesocosm.switchboard.keeper",
}
"""Each has the function `main`."""
_REHEARSAL = "mesocosm.executors.rehearsal"


def check_known(name: str) -> None:
    """Raises ContainerError unless there is a program `name`."""
    if name not in _MODULES:
        raise ContainerError(f"there is no built-in program {name!r}", f"there are {', '.join(sorted(_MODULES))}")


def load_one(name: str) -> Program:
    """Imports the program `name`, and nothing else. Raises ContainerError if there is none."""
    check_known(name)
    importlib.import_module(_MODULES[name])
    return find(name)


def load() -> None:
    """Imports them all, and all that they will need: where they run there may be no file to import."""
    for module in (*_MODULES.values(), _REHEARSAL):
        importlib.import_module(module)


def rehearse() -> None:
    """Has them do what they will, so that those which are forked have less to do, if they are loaded."""
    rehearsal: ModuleType | None = sys.modules.get(_REHEARSAL)
    if rehearsal is not None:
        rehearsal.rehearse()


def find(name: str) -> Program:
    """The program `name`, which is loaded."""
    program: Program = sys.modules[_MODULES[name]].main
    return program
