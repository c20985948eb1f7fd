"""Values of flags that somebody else reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from mesocosm.errors import FlagError

Result = TypeVar("Result")


def parsed(flag: str, parse: Callable[[], Result]) -> Result:
    """What `parse` returns. Raises FlagError, which names the flag, where that raises ValueError."""
    try:
        return parse()
    except ValueError as error:
        raise FlagError(f"--{flag}: {error}") from None
