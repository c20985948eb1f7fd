"""The caller's terminal: passed through to that of a container, and given back as it was."""

from __future__ import annotations

import contextlib
import os
import termios
import tty
from types import TracebackType
from typing import Self


class RawTerminal:
    """Raw mode while it is entered: every key goes to the container, also ^C, whose terminal makes a signal of it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._before = termios.tcgetattr(descriptor) if os.isatty(descriptor) else None

    def __enter__(self) -> Self:
        self.apply()
        return self

    def apply(self) -> None:
        """Raw mode, also once more: a shell changes it when it continues a job."""
        if self._before is not None:
            tty.setraw(self._descriptor, termios.TCSADRAIN)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.restore()

    def restore(self) -> None:
        """Gives it back as it was; once more is no error."""
        if self._before is not None:
            with contextlib.suppress(termios.error):  # It has been closed.
                termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)


def window_size() -> tuple[int, int]:
    """Rows and columns of the terminal that one of the standard streams is, else 24 and 80."""
    for descriptor in (0, 1, 2):
        with contextlib.suppress(OSError, termios.error):
            rows, columns = termios.tcgetwinsize(descriptor)
            if rows and columns:
                return rows, columns
    return 24, 80


def set_window_size(terminal: int) -> None:
    """Gives the terminal with the master `terminal` the size of the caller's."""
    with contextlib.suppress(OSError, termios.error):  # It is gone with its container.
        termios.tcsetwinsize(terminal, window_size())
