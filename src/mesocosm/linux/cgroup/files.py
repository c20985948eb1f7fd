"""The control files of a cgroup. A group is named by its directory, a plain string: these are on the launch path.

Every OSError names the file, and the value if one was written, which Python's own does not.
"""

from __future__ import annotations

import os

_CHUNK = 65536
_WHOLE = 2048
"""A part of fewer bytes is the last: the kernel fills a page of lines before a reader has to come again (seq_file)."""


def read(group: str, name: str) -> str:
    """The content of a control file. Raises OSError."""
    file = f"{group}/{name}"
    try:
        return _content(file)
    except OSError as error:
        raise OSError(error.errno, f"read: {error.strerror}", file) from error


def _content(file: str) -> str:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        content = part = os.read(descriptor, _CHUNK)
        while len(part) >= _WHOLE:
            part = os.read(descriptor, _CHUNK)
            content += part
    finally:
        os.close(descriptor)
    return content.decode()


def read_int(group: str, name: str) -> int | None:
    """The number in a control file, None where it says `max`. Raises OSError, ValueError."""
    text = read(group, name).strip()
    return None if text == "max" else int(text)


def read_keyed(group: str, name: str) -> dict[str, int]:
    """The numbers of a flat keyed file, such as memory.stat. Raises OSError, ValueError."""
    return parse_keyed(read(group, name))


def parse_keyed(text: str) -> dict[str, int]:
    """The numbers of lines `KEY NUMBER`. Raises ValueError."""
    words = text.split()
    return dict(zip(words[::2], map(int, words[1::2]), strict=True))


def write(group: str, name: str, value: str | int) -> None:
    """Writes `value` to a control file. Raises OSError."""
    file = f"{group}/{name}"
    try:
        descriptor = os.open(file, os.O_WRONLY)
        try:
            os.write(descriptor, str(value).encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise OSError(error.errno, f"write of {str(value)!r}: {error.strerror}", file) from error


def exists(group: str, name: str = "") -> bool:
    """Whether the group, or its control file `name`, exists."""
    return os.access(f"{group}/{name}", os.F_OK)


def unified(group: str) -> bool:
    """Whether an existing group is one of cgroup v2."""
    return exists(group, "cgroup.controllers")
