"""What the command line says to people: one line each, on the standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from mesocosm.errors import MesocosmError, leaves

if TYPE_CHECKING:
    from mesocosm.container import ContainerID

FAILED = 125
"""The exit status of `mesocosm run` where there is no container, and of any command line that makes no sense."""


def complain(text: str) -> None:
    """Prints a line of this program, as opposed to one of the command that it runs: what others say may be in it."""
    if sys.stderr is not None:
        sys.stderr.write(f"mesocosm: {printable(text)}\n")
        sys.stderr.flush()


def printable(text: str) -> str:
    """`text` in one line, with nothing that a terminal would obey: a container chooses the names of its files."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def describe(error: Exception, container_id: ContainerID | None = None) -> str:
    """The error in one line; without the name of the container where there is no other."""
    prefix = "" if container_id is None else f"{container_id}: "
    return "; ".join(_text(leaf, prefix) for leaf in leaves(error))


def _text(error: Exception, prefix: str) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error).removeprefix(prefix)


def guard(action: Callable[[], int]) -> int:
    """The exit status that `action` returns; an error of it is one line."""
    try:
        return action()
    except (MesocosmError, OSError, ExceptionGroup) as error:
        complain(describe(error))
        return (isinstance(error, MesocosmError) and error.exit_status) or FAILED


def leave(status: int) -> NoReturn:
    """Ends the process at once, as there is nothing left to do."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            try:
                stream.flush()
            except OSError:
                status = status or 1
    os._exit(status)
