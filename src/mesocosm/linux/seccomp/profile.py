"""Profiles of system calls in the format of Docker, as JSON, and the programs that are made of them.

The format: https://docs.docker.com/engine/security/seccomp and the `LinuxSeccomp` of the OCI runtime specification.
"""

from __future__ import annotations

import errno
import itertools
import logging
import os
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from mesocosm.errors import FlagError
from mesocosm.linux import capabilities
from mesocosm.linux.seccomp import libseccomp
from mesocosm.linux.seccomp.libseccomp import ACTIONS, COMPARISONS, Comparison, Filter

SHIPPED = Path(__file__).parent / "profiles"
"""The directory of the profiles that come with Mesocosm."""
DEFAULT = "default.json"
"""That for containers of images: what ordinary programs use, and little else."""

_ARCHITECTURE = "SCMP_ARCH_"
_CAPABILITY = "CAP_"
_GO_ARCHITECTURES = {"386": "x86", "amd64": "x86_64", "arm64": "aarch64", "mipsle": "mipsel", "mips64le": "mipsel64"}
"""What profiles call architectures in `includes` and `excludes`, where libseccomp has another name."""
_LAX = frozenset({"SCMP_ACT_ALLOW", "SCMP_ACT_LOG"})
_ARGUMENTS = 6
_INSTRUCTION = struct.Struct("=HBBI")
_INIT = (
    *("brk", "capget", "clock_gettime", "clock_nanosleep", "close", "exit", "exit_group", "fstat", "futex", "getpid"),
    *("getrandom", "gettid", "kill", "lseek", "madvise", "mmap", "mprotect", "mremap", "munmap", "newfstatat"),
    *("openat", "poll", "ppoll", "read", "recvfrom", "recvmsg", "rename", "renameat", "renameat2"),
    *("restart_syscall", "rseq", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigtimedwait", "sendmsg"),
    *("sendto", "set_robust_list", "sigaltstack", "wait4", "waitid", "write"),
)
"""The system calls of an init whose command runs: those of an interpreter that waits, signals and reports."""


class _Argument(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    index: int
    op: str
    value: int
    value_two: int = 0


class _Condition(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """When a rule holds (`includes`) or does not (`excludes`): `caps` of the bounding set, and the native `arches`."""

    caps: tuple[str, ...] = ()
    arches: tuple[str, ...] = ()
    min_kernel: str | None = None


class _Rule(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    action: str
    names: tuple[str, ...] = ()
    name: str | None = None
    args: tuple[_Argument, ...] | None = ()
    errno_ret: int | None = None
    includes: _Condition | None = None
    excludes: _Condition | None = None
    comment: str | None = None

    @property
    def calls(self) -> tuple[str, ...]:
        """The names of the system calls, as old profiles have them, too."""
        return self.names if self.name is None else (self.name, *self.names)


class _Family(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    architecture: str
    sub_architectures: tuple[str, ...] | None


class _Document(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    default_action: str
    syscalls: tuple[_Rule, ...] | None
    default_errno_ret: int | None = None
    architectures: tuple[str, ...] | None = None
    arch_map: tuple[_Family, ...] | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile whose names have been found to be names."""

    document: _Document

    def compile(self, bounding: int) -> bytes:
        """The program for processes whose capabilities are within `bounding`. Takes milliseconds. Raises OSError."""
        document = self.document
        default = libseccomp.action(document.default_action, _code(document.default_errno_ret))
        with libseccomp.new_filter(default) as made:
            for name in self._architectures():
                made.add_architecture(_architecture(name))
            highest = 0
            for rule in document.syscalls or ():
                if _holds(rule, bounding):
                    highest = max(highest, *_add(made, rule, default))
            program = made.program()
        if document.default_action == "SCMP_ACT_ERRNO":
            return _prologue(highest) + program
        return program

    def _architectures(self) -> Iterable[str]:
        """Those whose system calls are filtered, and do not kill who makes one."""
        yield from self.document.architectures or ()
        for family in self.document.arch_map or ():
            if _architecture(family.architecture) == libseccomp.native_architecture():
                yield from (family.architecture, *(family.sub_architectures or ()))


def parse(data: bytes) -> Profile:
    """Reads a profile. Raises FlagError for what is none, and for names that do not exist."""
    try:
        document = msgspec.json.decode(data, type=_Document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FlagError(f"this is no seccomp profile: {error}") from error
    if document.architectures is None and document.arch_map is None:
        raise FlagError("a seccomp profile needs an 'archMap' or 'architectures'", "add one, which may be empty")
    families = document.arch_map or ()
    for name in (*(document.architectures or ()), *itertools.chain(*map(_names, families))):
        _architecture(name)
    _check_action(document.default_action)
    for rule in document.syscalls or ():
        _check_rule(rule, document.default_action)
    return Profile(document)


def compile_for_init() -> bytes:
    """The program of an init, which lets it do nothing of use to who might get hold of it. Raises OSError."""
    with libseccomp.new_filter(libseccomp.action("SCMP_ACT_ERRNO")) as made:
        for name in _INIT:
            if (number := libseccomp.system_call(name)) is not None:
                made.add_rule(libseccomp.ALLOW, number)
        return made.program()


def _names(family: _Family) -> tuple[str, ...]:
    return (family.architecture, *(family.sub_architectures or ()))


def _architecture(name: str) -> int:
    token = libseccomp.architecture(name.removeprefix(_ARCHITECTURE).lower())
    if token is None or not name.startswith(_ARCHITECTURE):
        raise FlagError(f"unknown architecture {name!r} in a seccomp profile")
    return token


def _check_action(name: str) -> None:
    if name not in ACTIONS:
        raise FlagError(f"unknown action {name!r} in a seccomp profile", f"write one of {', '.join(ACTIONS)}")


def _check_rule(rule: _Rule, default: str) -> None:
    _check_action(rule.action)
    if not rule.calls:
        raise FlagError("a rule of a seccomp profile has no 'names'")
    for argument in rule.args or ():
        _check_argument(argument, rule.calls[0])
    for condition in (rule.includes, rule.excludes):
        if condition is not None:
            _check_condition(condition)
    if default in _LAX and rule.action not in _LAX:
        for name in rule.calls:
            # Where everything else is allowed, a rule that is left out would be a hole.
            if libseccomp.system_call(name) is None:
                raise FlagError(f"unknown system call {name!r} in a seccomp profile")


def _check_argument(argument: _Argument, call: str) -> None:
    if argument.op not in COMPARISONS:
        raise FlagError(
            f"unknown operator {argument.op!r} in a seccomp profile", f"write one of {', '.join(COMPARISONS)}"
        )
    if argument.index not in range(_ARGUMENTS) or any(
        value not in range(1 << 64) for value in (argument.value, argument.value_two)
    ):
        raise FlagError(f"an argument of {call!r} is out of range in a seccomp profile")


def _check_condition(condition: _Condition) -> None:
    for name in condition.caps:
        if not name.startswith(_CAPABILITY) or name.removeprefix(_CAPABILITY) not in capabilities.NAMES:
            raise FlagError(f"unknown capability {name!r} in a seccomp profile")
    for name in condition.arches:
        if libseccomp.architecture(_GO_ARCHITECTURES.get(name, name)) is None:
            raise FlagError(f"unknown architecture {name!r} in a seccomp profile")
    if condition.min_kernel is not None:
        _version(condition.min_kernel)


def _holds(rule: _Rule, bounding: int) -> bool:
    """Whether the rule is for this machine, and for processes with these capabilities."""
    includes, excludes = rule.includes or _Condition(), rule.excludes or _Condition()
    needed = _set_of(includes.caps)
    return (
        needed & bounding == needed
        and (not includes.arches or _is_native(includes.arches))
        and (includes.min_kernel is None or _kernel() >= _version(includes.min_kernel))
        and not _set_of(excludes.caps) & bounding
        and not _is_native(excludes.arches)
        and (excludes.min_kernel is None or _kernel() < _version(excludes.min_kernel))
    )


def _set_of(names: Iterable[str]) -> int:
    return capabilities.set_of(name.removeprefix(_CAPABILITY) for name in names)


def _is_native(names: Iterable[str]) -> bool:
    native = libseccomp.native_architecture()
    return any(libseccomp.architecture(_GO_ARCHITECTURES.get(name, name)) == native for name in names)


def _kernel() -> tuple[int, int]:
    return _version(os.uname().release)


def _version(text: str) -> tuple[int, int]:
    try:
        major, minor = text.split(".")[:2]
        return int(major), int(minor.split("-")[0])
    except ValueError:
        raise FlagError(f"{text!r} is no version of a kernel") from None


def _code(errno_ret: int | None) -> int:
    return errno.EPERM if errno_ret is None else errno_ret


def _add(made: Filter, rule: _Rule, default: int) -> Iterator[int]:
    """Adds a rule for each name that the library knows, and yields its number, or else 0."""
    action = libseccomp.action(rule.action, _code(rule.errno_ret))
    yield 0
    for name in rule.calls:
        number = libseccomp.system_call(name)
        if number is None:
            logging.getLogger(__name__).debug("the system call %s of a profile is not known here", name)
            continue
        yield number
        if action == default:
            continue  # Which the library refuses, as it changes nothing.
        for comparisons in _alternatives(rule.args or ()):
            made.add_rule(action, number, comparisons)


def _alternatives(arguments: tuple[_Argument, ...]) -> Iterable[list[Comparison]]:
    """All arguments at once; but one after the other where they are about the same one, as Docker takes it."""
    made = [Comparison(each.index, COMPARISONS[each.op], each.value, each.value_two) for each in arguments]
    if len({each.index for each in arguments}) < len(arguments):
        return [[comparison] for comparison in made]
    return [made]


def _prologue(highest: int) -> bytes:
    """Instructions before a program that answer ENOSYS to system calls newer than any that the profile knows.

    Programs then use an older one. After EPERM, which the profile would have said, they give up. Those of x32 have bit
    30 set, and are left to the profile.
    """
    load, equal, at_least, above, answer = 0x20, 0x15, 0x35, 0x25, 0x06  # <linux/bpf_common.h>
    number, architecture = 0, 4  # struct seccomp_data
    instructions = (
        (load, 0, 0, architecture),
        (equal, 0, 4, libseccomp.native_architecture()),
        (load, 0, 0, number),
        (at_least, 2, 0, 1 << 30),
        (above, 0, 1, highest),
        (answer, 0, 0, libseccomp.action("SCMP_ACT_ERRNO", errno.ENOSYS)),
    )
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in instructions)
