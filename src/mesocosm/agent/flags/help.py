"""What `mesocosm agent --help` prints."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

from mesocosm.agent.flags.flag import Flag
from mesocosm.agent.flags.kinds import BOOLEAN
from mesocosm.agent.flags.table import SECTIONS

_WIDTH = 100
_HEAD = """\
Usage: mesocosm agent --work_dir=PATH [--FLAG=VALUE]...

Runs the agent: the containers of this machine as a service, with the HTTP interface of Mesos. Every flag can be a
variable, too: MESOS_PORT=5051 for --port=5051. The command line goes first. A value file:///PATH stands for the text
of that file. What is yes or no is set by --FLAG, --no-FLAG or --FLAG=true. Sizes have a unit, such as 64MB, and
durations as well: 30secs, 15mins, 1weeks. Flags of Mesos that nothing serves yet are named, and refused.
"""


def help_text() -> str:
    """The flags by section, within 100 columns."""
    head = "\n\n".join(textwrap.fill(part, _WIDTH) for part in _HEAD.split("\n\n"))
    return "\n".join([head, *(line for title, flags in SECTIONS.items() for line in _section(title, flags))]) + "\n"


def _spelling(flag: Flag) -> str:
    """How it is written: `--[no-]strict`, `--port=NUMBER`."""
    return f"--[no-]{flag.name}" if flag.kind is BOOLEAN else f"--{flag.name}={_value(flag)}"


def _value(flag: Flag) -> str:
    """What stands for its value: `PATH`, or the values themselves where there are few: `linux|posix`."""
    label = flag.kind.label
    return label if "|" in label else label.upper().replace(" ", "_")


def _section(title: str, flags: Iterable[Flag]) -> Iterator[str]:
    yield f"\n{title}:"
    unserved = [f"--{flag.name}" for flag in flags if flag.served_by is None]
    for flag in flags:
        if flag.served_by is not None:
            yield f"  {_spelling(flag)}"
            yield _indented(f"{flag.help}{_default(flag)}", 6)
    if unserved:
        yield _indented(f"not served: {', '.join(unserved)}", 2)


def _default(flag: Flag) -> str:
    if flag.required:
        return " Required."
    return "" if flag.default is None else f" Default: {flag.default}."


def _indented(text: str, columns: int) -> str:
    margin = " " * columns
    return textwrap.fill(
        text, _WIDTH, initial_indent=margin, subsequent_indent=margin, break_on_hyphens=False, break_long_words=False
    )
