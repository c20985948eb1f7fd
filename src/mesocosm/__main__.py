"""The program `mesocosm`, also as `python -m mesocosm`."""

from __future__ import annotations

import gc
import os
import signal
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Runs the command line of this process."""
    _fill_standard_descriptors()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # ^C ends it without a traceback while it is loaded.
    gc.disable()  # What is loaded is no garbage.
    if sys.argv[1:2] == ["run"]:
        _run(sys.argv[2:])
    from mesocosm.cli import main, messages

    gc.enable()
    messages.leave(main.run(sys.argv[1:]))


def _run(arguments: list[str]) -> None:
    """`mesocosm run` with nothing loaded that it can do without. Returns if the command line has to be explained."""
    from mesocosm.cli.options import parse_quickly

    if (values := parse_quickly(arguments)) is None:
        return
    from mesocosm.launcher import spawn

    # The other processor starts the launcher while this one loads the rest.
    spawn.begin()
    if "image" not in values:  # Which may have to be pulled.
        # What None is there for cannot be imported: asyncio does without, and loads faster.
        sys.modules["ssl"] = None  # type: ignore[assignment]
    from mesocosm.cli.execution import Options, execute
    from mesocosm.cli.messages import guard, leave

    gc.enable()
    status = guard(lambda: execute(Options(**values)))
    spawn.discard()
    leave(status)


def _fill_standard_descriptors() -> None:
    """Opens what the caller closed, lest something else becomes the standard output."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)  # The lowest number that is free.


if __name__ == "__main__":
    main()
