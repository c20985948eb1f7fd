"""Writes flags.md, next to this file, from the flags themselves: `python docs/generate.py`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

from mesocosm.agent.flags.flag import Flag
from mesocosm.agent.flags.table import FLAGS, SECTIONS
from mesocosm.flags import Flags

PAGE = Path(__file__).with_name("flags.md")
_HEAD = """\
# Flags

The flags of `mesocosm agent` are those of the Mesos agent, with the same names, defaults and meanings, and a few of
[its own](#mesocosms-own). All are here, with what serves each one. None is ignored: one that nothing serves yet stops
the agent with one line, as do a flag that there is not, and a value that makes no sense.

- `--gc_delay=2days` sets a flag, and so does the variable `MESOS_GC_DELAY=2days`, where the command line does not.
  `--gc-delay` is the same. Variables `MESOS_…` that are no flags are passed over, as executors have such.
- `--strict`, `--strict=true` and `--no-strict` are for what is yes or no.
- Sizes have the unit `B`, `KB`, `MB`, `GB` or `TB`, and durations `ns`, `us`, `ms`, `secs`, `mins`, `hrs`, `days` or
  `weeks`.
- `file:///path` stands for the text of that file, save where the value is a file itself. JSON can be given as it is:
  `--acls='{"permissive": false}'`.
- Old names work, with a warning: `slave` for `agent` in the name of a flag, those below that are *once* something else,
  and the isolators `process`, `cgroups` and `posix/disk`.

This page is written by `docs/generate.py`. Change the texts in `src/mesocosm/agent/flags/table` and
`src/mesocosm/flags.py`.
"""
_TABLE = """
## {title}

| flag | kind | default | served by | |
|---|---|---|---|---|
"""
_LIBRARY = """
## In the library

A containerizer is made with `mesocosm.flags.Flags`, whose fields are flags of the agent:

    from mesocosm import MesosContainerizer
    from mesocosm.flags import Flags

    containerizer = MesosContainerizer(Flags(isolation="filesystem/linux,namespaces/pid", cgroups_enable_cfs=True))

Sizes are bytes there, and durations seconds. `mesocosm run` and `mesocosm.run` set them themselves; the options that
they have are in [cli.md](cli.md).

{fields}
"""


def render() -> str:
    """The whole page."""
    return _HEAD + "".join(_section(title, flags) for title, flags in SECTIONS.items()) + _library()


def _section(title: str, flags: Iterable[Flag]) -> str:
    return _TABLE.format(title=title) + "".join(f"| {' | '.join(_row(flag))} |\n" for flag in flags)


def _row(flag: Flag) -> tuple[str, str, str, str, str]:
    served_by = flag.served_by or ("nothing yet" if flag.instead is None else "refused")
    return f"`{flag.name}`", flag.kind.label.replace("|", " or "), _default(flag), served_by, _meaning(flag)


def _default(flag: Flag) -> str:
    if flag.required:
        return "required"
    if flag.default is None:
        return "none"
    return f"`{flag.default}`" if flag.default else "empty"


def _meaning(flag: Flag) -> str:
    once = f" Once `{flag.renamed_from}`." if flag.renamed_from else ""
    instead = f" Instead: {flag.instead}." if flag.instead else ""
    return flag.help + once + instead


def _library() -> str:
    own = {entry.name: entry.default for entry in fields(Flags)}
    others = [f"`{name}`: `{value}`" for name, value in own.items() if value != _default_value(FLAGS[name])]
    text = (
        f"The fields are {', '.join(f'`{name}`' for name in own)}. Defaults are as above, but for {', '.join(others)}."
    )
    return _LIBRARY.format(fields=textwrap.fill(text, 120))


def _default_value(flag: Flag) -> object:
    return None if flag.default is None else flag.kind.parse(flag.default)


if __name__ == "__main__":
    PAGE.write_text(render())
