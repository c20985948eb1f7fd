"""Profiles in the format of Docker: what is read, what is refused, and what becomes of it."""

from __future__ import annotations

import copy
import errno
import json
import struct
from typing import Any

import pytest

from mesocosm.errors import FlagError, UnsupportedError
from mesocosm.linux import capabilities
from mesocosm.linux.seccomp import libseccomp, profile

try:
    libseccomp.check()
except UnsupportedError as missing:
    pytest.skip(str(missing), allow_module_level=True)

SHIPPED = (profile.SHIPPED / profile.DEFAULT).read_bytes()
VALID: dict[str, Any] = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "archMap": [
        {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
    ],
    "syscalls": [
        {
            "names": ["accept", "writev"],
            "action": "SCMP_ACT_ALLOW",
            "args": [],
            "comment": "",
            "includes": {},
            "excludes": {},
        },
        {
            "names": ["clone"],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": 2080505856, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}],
            "excludes": {"caps": ["CAP_SYS_ADMIN"], "arches": ["s390", "s390x"]},
        },
    ],
}
Path = tuple[str | int, ...]


def parsed(document: object) -> profile.Profile:
    return profile.parse(json.dumps(document).encode())


def changed(path: Path, value: object) -> dict[str, Any]:
    """The valid profile with another value at `path`; without what is there if it is None."""
    document = copy.deepcopy(VALID)
    place: Any = document
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return document


def test_a_valid_profile() -> None:
    found = parsed(VALID)
    document = found.document
    assert document.default_action == "SCMP_ACT_ERRNO"
    assert document.syscalls is not None
    first, second = document.syscalls
    assert (first.calls, first.action, first.args) == (("accept", "writev"), "SCMP_ACT_ALLOW", ())
    (argument,) = second.args or ()
    assert (argument.index, argument.value, argument.value_two) == (0, 2080505856, 0)
    assert argument.op == "SCMP_CMP_MASKED_EQ"
    assert second.excludes is not None
    assert second.excludes.caps == ("CAP_SYS_ADMIN",)


def test_only_the_family_of_this_machine_counts() -> None:
    native = libseccomp.native_architecture()
    names = list(parsed(VALID)._architectures())
    if native == libseccomp.architecture("x86_64"):
        assert sorted(names) == ["SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"]
    elif native == libseccomp.architecture("aarch64"):
        assert sorted(names) == ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    else:
        assert names == []


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        (("defaultAction",), None, "`defaultAction`"),
        (("archMap",), None, "needs an 'archMap' or 'architectures'"),
        (("syscalls",), None, "`syscalls`"),
        (("unknown",), 1, "`unknown`"),
        (("defaultAction",), "SCMP_ACT_!!BUG", "unknown action 'SCMP_ACT_!!BUG'"),
        (("defaultAction",), "SCMP_ACT_NOTIFY", "unknown action"),
        (("archMap", 0, "architecture"), "SCMP_ARCH_!!BUG", "unknown architecture 'SCMP_ARCH_!!BUG'"),
        (("archMap", 0, "architecture"), "X86_64", "unknown architecture 'X86_64'"),
        (("archMap", 0, "subArchitectures"), ["SCMP_ARCH_X86", "SCMP_ARCH_!!BUG"], "unknown architecture"),
        (("archMap", 0, "subArchitectures"), None, "`subArchitectures`"),
        (("syscalls", 0, "names"), None, "has no 'names'"),
        (("syscalls", 0, "names"), [], "has no 'names'"),
        (("syscalls", 0, "action"), None, "`action`"),
        (("syscalls", 0, "action"), "SCMP_ACT_!!BUG", "unknown action"),
        (("syscalls", 0, "args"), {}, "Expected `array"),
        (("syscalls", 0, "argz"), [], "`argz`"),
        (("syscalls", 1, "args", 0, "op"), "SCMP_CMP_!!BUG", "unknown operator"),
        (("syscalls", 1, "args", 0, "op"), None, "`op`"),
        (("syscalls", 1, "args", 0, "index"), None, "`index`"),
        (("syscalls", 1, "args", 0, "index"), 6, "out of range"),
        (("syscalls", 1, "args", 0, "value"), None, "`value`"),
        (("syscalls", 1, "args", 0, "value"), -1, "out of range"),
        (("syscalls", 1, "args", 0, "value"), 1 << 64, "profile"),
        (("syscalls", 1, "excludes", "caps"), ["CAP_!!BUG"], "unknown capability 'CAP_!!BUG'"),
        (("syscalls", 1, "excludes", "caps"), ["SYS_ADMIN"], "unknown capability 'SYS_ADMIN'"),
        (("syscalls", 1, "excludes", "arches"), ["!!BUG"], "unknown architecture '!!BUG'"),
        (("syscalls", 1, "excludes", "minKernel"), "new", "'new' is no version of a kernel"),
    ],
)
def test_invalid_profiles(path: Path, value: object, text: str) -> None:
    with pytest.raises(FlagError) as caught:
        parsed(changed(path, value))
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"\xff", b"{", b'{"a": ' * 5000])
def test_what_is_no_profile_at_all(data: bytes) -> None:
    with pytest.raises(FlagError, match="this is no seccomp profile"):
        profile.parse(data)


def test_unknown_system_calls() -> None:
    """As in Docker, they are left to the default action; unless that would let through what a rule forbids."""
    parsed(changed(("syscalls", 0, "names"), ["accept", "of_the_future"])).compile(0)
    lax = {"defaultAction": "SCMP_ACT_ALLOW", "archMap": [], "syscalls": []}
    parsed({**lax, "syscalls": [{"names": ["of_the_future"], "action": "SCMP_ACT_ALLOW"}]}).compile(0)
    with pytest.raises(FlagError, match="unknown system call 'of_the_future'"):
        parsed({**lax, "syscalls": [{"names": ["of_the_future"], "action": "SCMP_ACT_ERRNO"}]})


def test_what_the_rules_depend_on() -> None:
    def compiled(bounding: int = 0, **condition: object) -> bytes:
        rule = {"names": ["uname"], "action": "SCMP_ACT_ALLOW", **condition}
        return parsed({"defaultAction": "SCMP_ACT_KILL", "archMap": [], "syscalls": [rule]}).compile(bounding)

    admin = capabilities.set_of(["SYS_ADMIN"])
    with_rule, without = compiled(), compiled(includes={"caps": ["CAP_SYS_ADMIN"]})
    assert with_rule != without
    assert compiled(admin, includes={"caps": ["CAP_SYS_ADMIN"]}) == with_rule
    assert compiled(admin, includes={"caps": ["CAP_SYS_ADMIN", "CAP_CHOWN"]}) == without, "all of them"
    assert compiled(admin, excludes={"caps": ["CAP_SYS_ADMIN", "CAP_CHOWN"]}) == without, "any of them"
    assert compiled(excludes={"caps": ["CAP_SYS_ADMIN"]}) == with_rule
    for release, expected in (("2.6", with_rule), ("999.0", without)):
        assert compiled(includes={"minKernel": release}) == expected
        assert compiled(excludes={"minKernel": release}) == (without if expected == with_rule else with_rule)
    every = ["amd64", "arm64", "x86", "arm", "riscv64", "ppc64le", "s390x"]
    assert compiled(includes={"arches": every}) == with_rule
    assert compiled(excludes={"arches": every}) == without
    assert compiled(includes={"arches": ["mips"]}) == without


def test_new_system_calls_are_answered_as_by_an_old_kernel() -> None:
    """Where the profile would refuse them; the instructions before it look no further than that."""
    program = parsed(VALID).compile(0)
    codes = [struct.unpack("=HBBI", program[start : start + 8]) for start in range(0, 48, 8)]
    assert codes[5] == (6, 0, 0, 0x00050000 | errno.ENOSYS)
    assert codes[1][3] == libseccomp.native_architecture()
    known = [libseccomp.system_call(name) or 0 for name in ("accept", "writev", "clone")]
    assert codes[4][3] == max(known)


def test_the_shipped_profile() -> None:
    found = profile.parse(SHIPPED)
    everything = capabilities.set_of(capabilities.NAMES)
    assert found.compile(0) != found.compile(everything)
    assert len(found.compile(0)) // 8 < 4096, "the kernel takes no more instructions"


def test_compiling_fails_with_an_error_of_the_system() -> None:
    with (
        libseccomp.new_filter(libseccomp.ALLOW) as made,
        pytest.raises(OSError, match="seccomp_rule_add: ") as caught,
    ):
        made.add_rule(libseccomp.ALLOW, 1)  # Which is the default action anyway.
    assert caught.value.errno in (errno.EACCES, errno.EPERM)
