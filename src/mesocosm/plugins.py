"""Classes that other packages add to Mesocosm: each has a name in an entry point group."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import TypeVar

from mesocosm.errors import FlagError

Plugin = TypeVar("Plugin")


def find(flag: str, group: str, name: str, base: type[Plugin], built_in: Sequence[str] = ()) -> type[Plugin]:
    """The subclass of `base` that is called `name` in the entry point `group`.

    Raises FlagError, about the value of `flag`, if there is none. `built_in` are other names that it may have.
    """
    installed = entry_points(group=group)
    what = group.removeprefix("mesocosm.").removesuffix("s").replace("_", " ")
    for entry in installed.select(name=name):
        try:
            kind = entry.load()
        except Exception as error:
            raise FlagError(f"--{flag}: {name!r}, {entry.value}, cannot be loaded: {error}") from error
        if isinstance(kind, type) and issubclass(kind, base):
            return kind
        raise FlagError(f"--{flag}: the entry point {name!r}, {entry.value}, is no {what}")
    known = ", ".join(sorted({*built_in, *installed.names}))
    raise FlagError(
        f"--{flag}: there is no {what} {name!r}",
        f"there are: {known}" if known else f"install a package with an entry point of the group {group!r}",
    )
