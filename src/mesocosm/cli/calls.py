"""What commands ask an agent for: messages of Mesos, in JSON."""

from __future__ import annotations

import os
from collections.abc import Sequence

from mesocosm.cli.terminal import window_size
from mesocosm.client import Json


def identity(text: str) -> Json:
    """The `ContainerID` of an id such as `parent.child`."""
    parent, dot, value = text.rpartition(".")
    return {"value": value, "parent": identity(parent)} if dot else {"value": text}


def command_info(argv: Sequence[str], user: str | None, env: Sequence[str], *, terminal: bool) -> Json:
    """A `CommandInfo` that executes `argv` as `user`, with the variables `env`. Raises FlagError.

    With a `terminal`, the command is told what that is. Without any `argv`, the image says what is executed.
    """
    variables = _variables(env)
    if terminal and "TERM" in os.environ:
        variables.setdefault("TERM", os.environ["TERM"])
    info: Json = {"shell": False}
    if argv:
        info |= {"value": argv[0], "arguments": list(argv)}
    if user is not None:
        info["user"] = user
    if variables:
        entries = [{"name": name, "type": "VALUE", "value": value} for name, value in variables.items()]
        info["environment"] = {"variables": entries}
    return info


def _variables(env: Sequence[str]) -> dict[str, str]:
    if not env:
        return {}
    from mesocosm.oneshot.request import parse_environment  # More to load than the rest.

    return parse_environment(env)


def terminal_info() -> Json:
    """A `TTYInfo` with the size of the caller's terminal."""
    rows, columns = window_size()
    return {"window_size": {"rows": rows, "columns": columns}}
