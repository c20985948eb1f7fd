"""`python -m mesocosm.executors NAME`: an executor by its name, where it cannot be forked from a warm process.

That is in a container of an image which has Mesocosm, as an agent that runs in one itself has its executors.
"""

from __future__ import annotations

import sys

from mesocosm.errors import ContainerError
from mesocosm.executors.client import say
from mesocosm.launcher import programs
from mesocosm.launcher.info import Command


def main() -> int:
    """Returns the exit status."""
    if len(sys.argv) != 2:
        say("an executor is executed by its name, and with nothing else")
        return 2
    try:
        program = programs.load_one(sys.argv[1])
    except ContainerError as error:
        say(str(error))
        return 2
    return program(Command("", ()))


if __name__ == "__main__":
    sys.exit(main())
