"""Rules for devices: their text, the flag that adds some, and the program that is made of them for cgroup v2."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesocosm.devices import AllowedDevice, allowed_devices
from mesocosm.errors import FlagError
from mesocosm.flags import Flags
from mesocosm.isolators.cgroups.devices import DEFAULT
from mesocosm.isolators.linux.devices import LinuxDevicesIsolator
from mesocosm.linux.bpf import device_instructions
from mesocosm.linux.cgroup.devices import Rule

NULL = {"device": {"path": "/dev/null"}, "access": {"read": True}}
numbers = st.one_of(st.none(), st.integers(0, 5))
accesses = st.sets(st.sampled_from("rwm"), min_size=1).map(lambda letters: "".join(sorted(letters)))
rules = st.builds(Rule, st.sampled_from("bc"), numbers, numbers, accesses)
TYPES = {"b": 1, "c": 2}
BITS = {"m": 1, "r": 2, "w": 4}


@pytest.mark.parametrize("text", ["c 1:3 rwm", "b *:* m", "b *:* r", "b *:* w", "b *:* rwm", "b 1:* rwm", "c 136:* rw"])
def test_rules_as_the_kernel_writes_them(text: str) -> None:
    assert str(Rule.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "b", "b x", "b *:*", "b *:* x", "b *:* rwmx", "b *:* rwm x", "b x:x rwm", "b *:x rwm", "b x:* rwm"),
        *("a *:* rwm", "c 1:3", "c 1 rwm", "c 1:x r", "c 1:3 x"),
    ],
)
def test_what_is_no_rule(text: str) -> None:
    with pytest.raises(ValueError, match=r"rule|unpack|invalid literal"):
        Rule.parse(text)


def run(program: bytes, kind: int, access: int, major: int, minor: int) -> int:
    """What the kernel would: 0 refuses, 1 allows. Only what `device_instructions` uses is known here."""
    context = {0: access << 16 | kind, 4: major, 8: minor}
    registers, at = [0] * 11, 0
    while True:
        code, both, offset, value = struct.unpack_from("=BBhi", program, 8 * at)
        target, source, at = both & 15, both >> 4, at + 1
        if code == 0x61:
            registers[target] = context[offset]
        elif code == 0xBF:
            registers[target] = registers[source]
        elif code == 0xB7:
            registers[target] = value
        elif code == 0x57:
            registers[target] &= value
        elif code == 0x77:
            registers[target] >>= value
        elif code == 0x55:
            at += offset if registers[target] != value else 0
        else:
            assert code == 0x95
            return registers[0]


@given(st.lists(rules, max_size=6), st.sampled_from("bc"), accesses, st.integers(0, 5), st.integers(0, 5))
def test_the_program_does_what_the_rules_say(
    given_rules: list[Rule], kind: str, access: str, major: int, minor: int
) -> None:
    allowed = any(
        rule.kind == kind
        and rule.major in (None, major)
        and rule.minor in (None, minor)
        and set(access) <= set(rule.access)
        for rule in given_rules
    )
    program = device_instructions(given_rules)
    assert run(program, TYPES[kind], sum(BITS[letter] for letter in access), major, minor) == allowed


def test_everything_is_refused_but_the_harmless() -> None:
    program = device_instructions(DEFAULT)
    assert run(program, TYPES["c"], BITS["r"] | BITS["w"], 1, 3) == 1
    assert run(program, TYPES["b"], BITS["m"], 8, 0) == 1
    assert run(program, TYPES["b"], BITS["r"], 8, 0) == 0
    assert run(program, TYPES["b"], BITS["r"], 1, 3) == 0


def test_no_devices_are_allowed_besides() -> None:
    assert allowed_devices(None) == allowed_devices({}) == allowed_devices({"allowed_devices": []}) == ()


def test_allowed_devices() -> None:
    status = Path("/dev/null").stat()
    numbers_of_null = os.major(status.st_rdev), os.minor(status.st_rdev)
    entry = {**NULL, "access": {"read": True, "write": False, "mknod": True}}
    assert allowed_devices({"allowed_devices": [entry]}) == (
        AllowedDevice("/dev/null", Rule("c", *numbers_of_null, "rm")),
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"devices": []}, "no DeviceWhitelist"),
        ({"allowed_devices": {}}, "no DeviceWhitelist"),
        ({"allowed_devices": ["/dev/null"]}, "has no path of a device"),
        ({"allowed_devices": [{**NULL, "device": {"number": {"major_number": 1, "minor_number": 3}}}]}, "has no path"),
        ({"allowed_devices": [{"device": {"path": "/dev/null"}}]}, "or no access"),
        ({"allowed_devices": [{**NULL, "access": {}}]}, "no access to '/dev/null' is allowed"),
        ({"allowed_devices": [{**NULL, "access": {"read": False}}]}, "no access to '/dev/null' is allowed"),
        ({"allowed_devices": [{**NULL, "access": {"execute": True}}]}, "is not of read, write and mknod"),
        ({"allowed_devices": [{**NULL, "access": {"read": "yes"}}]}, "each true or false"),
        ({"allowed_devices": [{**NULL, "device": {"path": "/dev/nonesuch"}}]}, "there is no device '/dev/nonesuch'"),
        ({"allowed_devices": [{**NULL, "device": {"path": 3}}]}, "there is no device 3"),
        ({"allowed_devices": [{**NULL, "device": {"path": "/"}}]}, "'/' is neither a block nor a character device"),
    ],
)
def test_what_is_refused(value: dict[str, Any], message: str) -> None:
    with pytest.raises(FlagError, match=message):
        allowed_devices(value)


def test_a_node_can_only_be_made_in_dev(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    link = tmp_path / "null"
    link.symlink_to("/dev/null")
    with pytest.raises(FlagError, match="is not in /dev"):
        LinuxDevicesIsolator.create(
            Flags(allowed_devices={"allowed_devices": [{**NULL, "device": {"path": str(link)}}]})
        )
