"""Which devices the processes of a cgroup may open and make: rules, and the list of cgroup v1 (cgroup-v1/devices.rst).

Cgroup v2 has no list: see `mesocosm.linux.bpf`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress

from mesocosm.dataclass import dataclass
from mesocosm.linux.cgroup import files


@dataclass(frozen=True, slots=True)
class Rule:
    """Allows `access`, of `r`, `w` and `m` (mknod(2)), to a device of the `kind` `c` or `b`; None: whatever number."""

    kind: str
    major: int | None
    minor: int | None
    access: str

    @classmethod
    def parse(cls, text: str) -> Rule:
        """`c 1:3 rwm`, as the kernel writes it, `*` for any number. Raises ValueError."""
        kind, numbers, access = text.split()
        if kind not in ("b", "c") or not access or set(access) - set("rwm"):
            raise ValueError(f"{text!r} is no rule for devices")
        major, minor = (None if number == "*" else int(number) for number in numbers.split(":"))
        return cls(kind, major, minor, access)

    def __str__(self) -> str:
        major, minor = ("*" if number is None else number for number in (self.major, self.minor))
        return f"{self.kind} {major}:{minor} {self.access}"


def allow_only(group: str, rules: Iterable[Rule]) -> None:
    """Allows a cgroup of v1 what `rules` do, as far as the cgroup above may do it. It has no children yet.

    Raises OSError.
    """
    files.write(group, "devices.deny", "a")
    descriptor = os.open(f"{group}/devices.allow", os.O_WRONLY)
    try:
        for rule in rules:
            with suppress(PermissionError):  # Of what the one above has not.
                os.write(descriptor, str(rule).encode())
    finally:
        os.close(descriptor)


def allowed(group: str) -> set[str]:
    """The rules of a cgroup of v1, as the kernel writes them. Raises OSError."""
    return set(files.read(group, "devices.list").splitlines())
