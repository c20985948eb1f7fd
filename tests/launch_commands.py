"""Mesos's table of launch commands (docs/container-image.md): what is executed, for each command and each image.

With busybox, every one of these commands writes what its own process was executed with.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from mesocosm.container import CommandInfo
from mesocosm.images.image import ImageConfig

SHOW = "tr '\\0' '\\n' </proc/$$/cmdline; :"
"""For a shell: writes its command line, one word in each line, and does not become that last command."""
SCRIPTS = ("shells/sh", "shells/show")
"""Files that have to have SHOW in them."""

VALUE = "/bin/sh"
ENTRYPOINT = ("/bin/sh", "-c", SHOW)
CMD = ("/bin/ash", "-c", SHOW)
ARGUMENTS = ("/shells/sh", "/shells/show")
"""`arguments[0]` is a script for who gets it as an argument, and the name of a shell for who gets it as argv[0]."""

IMAGES = {
    "neither": ImageConfig(),
    "cmd": ImageConfig(cmd=CMD),
    "entrypoint": ImageConfig(entrypoint=ENTRYPOINT),
    "both": ImageConfig(entrypoint=ENTRYPOINT, cmd=CMD),
}


@dataclass(frozen=True)
class Cell:
    """A cell: whether the command is the shell's, has a value, and arguments; and what is executed (None: nothing)."""

    shell: bool
    value: bool
    argv: bool
    image: str
    executed: tuple[str, ...] | None

    @property
    def command(self) -> CommandInfo:
        value = SHOW if self.shell else VALUE
        return CommandInfo(value if self.value else None, ARGUMENTS if self.argv else (), shell=self.shell)

    @property
    def config(self) -> ImageConfig:
        return IMAGES[self.image]


_ERROR = None
_ROWS: dict[tuple[bool, bool, bool], tuple[tuple[str, ...] | None, ...]] = {
    (False, False, False): (_ERROR, CMD, ENTRYPOINT, (*ENTRYPOINT, *CMD)),
    (False, False, True): (_ERROR, (CMD[0], *ARGUMENTS), (*ENTRYPOINT, *ARGUMENTS), (*ENTRYPOINT, *ARGUMENTS)),
    (False, True, False): ((VALUE,),) * 4,
    (False, True, True): (ARGUMENTS,) * 4,
    (True, False, False): (_ERROR,) * 4,
    (True, False, True): (_ERROR,) * 4,
    (True, True, False): (("sh", "-c", SHOW),) * 4,
    (True, True, True): (("sh", "-c", SHOW),) * 4,
}
CELLS = [
    pytest.param(Cell(*row, image, executed), id=f"sh={row[0]:d} value={row[1]:d} argv={row[2]:d} {image}")
    for row, cells in _ROWS.items()
    for image, executed in zip(IMAGES, cells, strict=True)
]
