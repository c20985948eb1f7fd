"""Sizes and durations as people write them: `64MB` and `15secs` as in Mesos, `512m` and `5s` as elsewhere."""

from __future__ import annotations

import math
import re

from mesocosm.errors import FlagError

_NUMBER = re.compile(r"\s*(\d{1,30}(?:\.\d{0,30})?|\.\d{1,30})\s*([A-Za-z]*)\s*", re.ASCII)

_SIZES = {"": 1, "B": 1} | {
    f"{letter}{suffix}": 1024**power for power, letter in enumerate("KMGT", 1) for suffix in ("", "B", "IB")
}

_DURATIONS = {
    **dict.fromkeys(("", "s", "sec", "secs"), 1.0),
    "ns": 1e-9,
    "us": 1e-6,
    "ms": 1e-3,
    **dict.fromkeys(("m", "min", "mins"), 60.0),
    **dict.fromkeys(("h", "hr", "hrs"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
    **dict.fromkeys(("w", "week", "weeks"), 604800.0),
}

_UNITS = ("B", "KB", "MB", "GB", "TB")
_MOST_BYTES = 2**63 - 1


def parse_size(value: str | int) -> int:
    """Bytes, of a number or a text such as `64MB`. Raises FlagError."""
    if not isinstance(value, str):
        return _checked_size(value, str(value))
    match = _NUMBER.fullmatch(value)
    unit = None if match is None else _SIZES.get(match[2].upper())
    if match is None or unit is None:
        raise FlagError(f"{value!r} is no size", "write bytes, or a number with KB, MB, GB or TB")
    # Not by way of a float where it is whole: that has 53 bits.
    return _checked_size(int(match[1]) * unit if match[1].isdigit() else int(float(match[1]) * unit), value)


def _checked_size(amount: int, text: str) -> int:
    if not 0 <= amount <= _MOST_BYTES:
        raise FlagError(f"{text!r} is no size that a machine could have")
    return amount


def format_size(amount: int) -> str:
    """Bytes in the greatest unit that they are whole in, as `stringify(Bytes)` of Mesos (stout/bytes.hpp): 96MB."""
    for unit in ("B", "KB", "MB", "GB"):
        if not amount or amount % 1024:
            return f"{amount}{unit}"
        amount //= 1024
    return f"{amount}TB"


def round_size(size: int) -> str:
    """Bytes for people: `512 B`, `3.1 MB`."""
    power = min(max(size.bit_length() - 1, 0) // 10, len(_UNITS) - 1)
    return f"{size / 1024**power:.1f} {_UNITS[power]}" if power else f"{size} B"


def parse_duration(value: str | float) -> float:
    """Seconds, of a number or a text such as `15secs`. Raises FlagError."""
    if not isinstance(value, str):
        seconds = float(value)
    else:
        match = _NUMBER.fullmatch(value)
        unit = None if match is None else _DURATIONS.get(match[2].lower())
        if match is None or unit is None:
            raise FlagError(
                f"{value!r} is no duration", "write seconds, or a number with ms, secs, mins, hrs, days or weeks"
            )
        seconds = float(match[1]) * unit
    if not 0 <= seconds < math.inf:
        raise FlagError(f"{value!r} is no duration")
    return seconds


def format_duration(seconds: float) -> str:
    """Seconds for people: `0.5 s`, `90 s`."""
    return f"{seconds:g} s"
