"""Writes flags.md, next to this file, from the flags themselves: `python docs/generate.py`."""

from __future__ import annotations

from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from mesocosm.flags import Flags

PAGE = Path(__file__).with_name("flags.md")
_HEAD = """\
# Flags

The fields of `mesocosm.flags.Flags`, which a containerizer is made with:

    from mesocosm import MesosContainerizer
    from mesocosm.flags import Flags

    containerizer = MesosContainerizer(Flags(isolation="filesystem/linux,namespaces/pid", cgroups_enable_cfs=True))

Names, defaults and meanings are those of Apache Mesos, but for the two directories. Messages write them as `--name`.
Sizes are bytes, and durations seconds. `mesocosm run` and `mesocosm.run` set them themselves; the options that they
have are in [cli.md](cli.md).

This page is written by `docs/generate.py`. Change the texts in `src/mesocosm/flags.py`.

| flag | kind | default | |
|---|---|---|---|
"""
_KINDS = {"bool": "yes or no", "float": "seconds", "int": "bytes", "Path": "path", "str": "text"}


def render() -> str:
    """The whole page."""
    return _HEAD + "".join(f"| {' | '.join(_row(flag))} |\n" for flag in fields(Flags))


def _row(flag: Field[Any]) -> tuple[str, str, str, str]:
    kind = _KINDS[str(flag.type).removesuffix(" | None")]
    return f"`{flag.name}`", kind, _default(flag.default), Flags.help(flag.name)


def _default(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


if __name__ == "__main__":
    PAGE.write_text(render())
