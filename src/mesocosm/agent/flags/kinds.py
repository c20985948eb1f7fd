"""The kinds of flags: what is read, what its text means, and how Mesos writes the value."""

from __future__ import annotations

import enum
import ipaddress
import itertools
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesocosm.errors import FlagError
from mesocosm.linux import capabilities
from mesocosm.units import format_size, parse_duration, parse_size

_INTEGER = re.compile(r"\d{1,18}", re.ASCII)
_DECIMAL = re.compile(r"\d{1,18}(\.\d{0,18})?|\.\d{1,18}", re.ASCII)
_RANGE = re.compile(r"(\d{1,10})-(\d{1,10})", re.ASCII)
_RANGES = re.compile(rf"\[\s*({_RANGE.pattern}\s*(,\s*(?=\d)|(?=\])))*\]", re.ASCII)
_FILE_URL = "file://"
_LONGEST = (2**63 - 1) / 1e9
_LONGEST_SOCKET = 107
"""Bytes that `sun_path` has, but one (unix(7))."""
_WRITTEN_DURATIONS = {
    "weeks": 604_800_000_000_000,
    "days": 86_400_000_000_000,
    "hrs": 3_600_000_000_000,
    "mins": 60_000_000_000,
    "secs": 1_000_000_000,
    "ms": 1_000_000,
    "us": 1_000,
    "ns": 1,
}


class Source(enum.Enum):
    """Where the text of a flag may come from, besides the command line and the environment."""

    NONE = enum.auto()
    """From nowhere: it names a file for others to read (`Path` in Mesos)."""
    URL = enum.auto()
    """From the file of a `file://` URL."""
    OLD_PATH = enum.auto()
    """From the file of a `file://` URL or, as Mesos once had it, of a path."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What a flag's text means. `parse` raises FlagError; `show` writes a value as `/flags` of Mesos does."""

    label: str
    parse: Callable[[str], Any]
    show: Callable[[Any], str] = str
    source: Source = Source.URL
    absent: Any = None
    """The value of a flag that was not set and has no default."""

    def file_of(self, text: str) -> str | None:
        """The file whose text is meant, where `text` names one."""
        if self.source is Source.NONE:
            return None
        if text.startswith(_FILE_URL):
            return text.removeprefix(_FILE_URL)
        return text if self.source is Source.OLD_PATH and text.startswith("/") else None


def integer(least: int, most: int) -> Kind:
    """Whole numbers from `least` to `most`."""

    def parse(text: str) -> int:
        if not _INTEGER.fullmatch(text) or not least <= int(text) <= most:
            raise FlagError(f"{text!r} is no whole number from {least} to {most}")
        return int(text)

    return Kind("number", parse)


def fraction() -> Kind:
    """Numbers from 0 to 1."""

    def parse(text: str) -> float:
        if not _DECIMAL.fullmatch(text) or float(text) > 1:
            raise FlagError(f"{text!r} is no number from 0 to 1")
        return float(text)

    return Kind("number", parse, "{:g}".format)


def size(least: int = 0) -> Kind:
    """Bytes, `least` or more."""

    def parse(text: str) -> int:
        value = parse_size(text)
        if value < least:
            raise FlagError(f"{text!r} is too little", f"the least is {format_size(least)}")
        return value

    return Kind("size", parse, format_size)


def duration(*, zero: bool = True) -> Kind:
    """Seconds; not none unless `zero`."""

    def parse(text: str) -> float:
        seconds = parse_duration(text)
        if seconds > _LONGEST:
            raise FlagError(f"{text!r} is too long", "Mesos counts nanoseconds, up to 292 years")
        if not seconds and not zero:
            raise FlagError(f"{text!r} is too short", "write more than 0")
        return seconds

    return Kind("duration", parse, show_duration)


def choice(*names: str) -> Kind:
    """One of `names`."""

    def parse(text: str) -> str:
        if text not in names:
            raise FlagError(f"{text!r} is not possible", f"write {' or '.join(names)}")
        return text

    return Kind("|".join(names), parse)


def names_of(*known: str) -> Kind:
    """Names separated by commas, each once; those `known` if any are."""

    def parse(text: str) -> tuple[str, ...]:
        names = tuple(name.strip() for name in text.split(",") if name.strip())
        for name in names:
            if known and name not in known:
                raise FlagError(f"there is no {name!r} here", f"write {' or '.join(known)}")
            if names.count(name) > 1:
                raise FlagError(f"{name!r} is there twice", "remove one of them")
        return names

    return Kind("names", parse, ",".join, absent=())


def show_duration(seconds: float) -> str:
    """Seconds as `stringify(Duration)` writes them (stout/duration.hpp).

    The unit is the greatest that fits, or the next one if only that makes the number whole: `10days`, `1.5mins`.
    """
    nanoseconds = round(seconds * 1e9)
    units = list(_WRITTEN_DURATIONS.items())
    for (unit, length), (smaller, smaller_length) in itertools.pairwise(units):
        if nanoseconds >= length:
            if nanoseconds % length and not nanoseconds % smaller_length:
                return f"{nanoseconds // smaller_length}{smaller}"
            return f"{nanoseconds / length:.15g}{unit}"
    return f"{nanoseconds}ns"


def show_json(value: Any) -> str:
    """A value as Mesos writes JSON: in one line, sorted by name."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def show_without_secrets(value: Any) -> str:
    """The same, without what the secrets are that are in it."""
    return show_json(_without_secrets(value))


def _without_secrets(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_secrets(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {key: {} if key == "secret" else _without_secrets(each) for key, each in value.items()}


def _without_password(address: str) -> str:
    """The address of a master, without the password for ZooKeeper that may be in it."""
    return re.sub("(?<=://)(.*)@", "…@", address)


def _parse_boolean(text: str) -> bool:
    if text not in ("true", "1", "false", "0"):
        raise FlagError(f"{text!r} is neither true nor false", "write true or false")
    return text in ("true", "1")


def _parse_name(text: str) -> str:
    if not text or not text.isprintable() or " " in text:
        raise FlagError(f"{text!r} is no name", "write at least one character, and no spaces")
    return text


def _parse_path(text: str) -> Path:
    if not text or "\0" in text:
        raise FlagError(f"{text!r} is no path")
    return Path(text).absolute()


def _parse_socket(text: str) -> Path:
    path = _parse_path(text)
    if len(os.fsencode(path)) > _LONGEST_SOCKET:
        raise FlagError(f"{text!r} is too long for a Unix socket", f"{_LONGEST_SOCKET} bytes are possible")
    return path


def _parse_inner_path(text: str) -> str:
    if not text.startswith("/") or "\0" in text:
        raise FlagError(f"{text!r} is no absolute path", "begin it with /")
    return text


def _parse_address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise FlagError(f"{text!r} is no IP address") from None


def _parse_ipv6_address(text: str) -> str:
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        raise FlagError(f"{text!r} is no address of IPv6") from None


def _ranges(noun: str, least: int, most: int) -> Kind:
    """Ranges of numbers, with both ends of each."""

    def parse(text: str) -> tuple[tuple[int, int], ...]:
        if not _RANGES.fullmatch(text):
            raise FlagError(f"{text!r} is no list of ranges", "write [FIRST-LAST], or more of them, with commas")
        ranges = tuple((int(first), int(last)) for first, last in _RANGE.findall(text))
        for first, last in ranges:
            if not least <= first <= last <= most:
                raise FlagError(f"{first}-{last} is no range of {noun}s", f"the last {noun} is {most}")
        return ranges

    return Kind("ranges", parse, _show_ranges)


def _show_ranges(ranges: tuple[tuple[int, int], ...]) -> str:
    return f"[{', '.join(f'{first}-{last}' for first, last in ranges)}]"


def _parse_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise FlagError(f"the value is no JSON: {reason}", "write an object, {…}, or file:///PATH of one") from None
    if not isinstance(value, dict):
        raise FlagError("the value is JSON, but no object", "write {…}")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _parse_capabilities(text: str) -> tuple[str, ...]:
    """A `CapabilityInfo`."""
    value = _parse_object(text)
    names = value.get("capabilities", [])
    if (
        value.keys() - {"capabilities"}
        or not isinstance(names, list)
        or not all(isinstance(name, str) for name in names)
    ):
        raise FlagError("the value is no CapabilityInfo", 'write {"capabilities": ["CHOWN", …]}')
    for name in names:
        if name not in capabilities.NAMES:
            raise FlagError(f"there is no capability {name!r}", "write it as in capabilities(7), without CAP_")
    return tuple(dict.fromkeys(names))


BOOLEAN = Kind("yes or no", _parse_boolean, lambda value: "true" if value else "false")
TEXT = Kind("text", str)
MASTER_ADDRESS = Kind("text", str.strip, _without_password)
NAME = Kind("name", _parse_name)
NAMES = names_of()
PATH = Kind("path", _parse_path)
INNER_PATH = Kind("path", _parse_inner_path)
"""A path within containers."""
KEY_FILE = Kind("path", lambda text: _parse_path(text.removeprefix(_FILE_URL)), source=Source.NONE)
"""A file that is read where it is needed; `file://` may precede it."""
SOCKET = Kind("path", _parse_socket)
ADDRESS = Kind("IP address", _parse_address)
IPV6_ADDRESS = Kind("IPv6 address", _parse_ipv6_address)
PORT = integer(0, 65535)
COUNT = integer(0, 2**31 - 1)
SIZE = size()
DURATION = duration()
RANGES = _ranges("port", 0, 65535)
"""Ports, with both ends of each range."""
GROUPS = _ranges("group", 1, 2**32 - 2)
"""The same of groups; the last number of all means none to the kernel."""
OBJECT = Kind("JSON", _parse_object, show_json, source=Source.OLD_PATH)
CONTAINER_INFO = Kind("JSON", _parse_object, show_without_secrets, source=Source.OLD_PATH)
CAPABILITIES = Kind(
    "JSON", _parse_capabilities, lambda names: show_json({"capabilities": list(names)}), source=Source.OLD_PATH
)
