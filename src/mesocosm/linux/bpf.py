"""Programs that the kernel runs when something in a cgroup of v2 opens or makes a device (bpf(2), cgroup-v2.rst)."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mesocosm.linux.libc import system_call

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mesocosm.linux.cgroup.devices import Rule

# <linux/bpf.h>
_PROG_LOAD, _PROG_ATTACH, _PROG_GET_FD_BY_ID, _PROG_QUERY = 5, 8, 13, 16
_TYPE_CGROUP_DEVICE, _ATTACH_CGROUP_DEVICE = 15, 6
_ALLOW_MULTI, _REPLACE = 2, 4
_TYPES = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}
_CONTEXT = {"access_type": 0, "major": 4, "minor": 8}
"""Where the fields of `struct bpf_cgroup_dev_ctx` are."""

_LICENSE = b"Apache-2.0"
_MOST_PROGRAMS = 64
"""What the kernel lets be attached to one cgroup (BPF_CGROUP_MAX_PROGS)."""

# Instructions: instruction-set.rst. Registers: r0 is the result, r1 the context.
_LOAD_WORD = 0x61  # BPF_LDX | BPF_MEM | BPF_W
_MOVE, _MOVE_CONSTANT = 0xBF, 0xB7  # BPF_ALU64 | BPF_MOV, with BPF_X and BPF_K
_AND_CONSTANT, _SHIFT_RIGHT = 0x57, 0x77  # BPF_ALU64 | BPF_AND and BPF_RSH, with BPF_K
_JUMP_UNEQUAL = 0x55  # BPF_JMP | BPF_JNE | BPF_K
_EXIT = 0x95  # BPF_JMP | BPF_EXIT
_RESULT, _ARGUMENT, _KIND, _ACCESSES, _MAJOR, _MINOR, _SCRATCH = range(7)


class _Load(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_uint32) for name in ("prog_type", "insn_cnt")),
        *((name, ctypes.c_uint64) for name in ("insns", "license")),
        *((name, ctypes.c_uint32) for name in ("log_level", "log_size")),
        ("log_buf", ctypes.c_uint64),
        *((name, ctypes.c_uint32) for name in ("kern_version", "prog_flags")),
        ("prog_name", ctypes.c_char * 16),
        *((name, ctypes.c_uint32) for name in ("prog_ifindex", "expected_attach_type")),
    ]


class _Attach(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint32)
        for name in ("target_fd", "attach_bpf_fd", "attach_type", "attach_flags", "replace_bpf_fd")
    ]


class _Query(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_uint32) for name in ("target_fd", "attach_type", "query_flags", "attach_flags")),
        ("prog_ids", ctypes.c_uint64),
        *((name, ctypes.c_uint32) for name in ("prog_cnt", "padding")),
    ]


class _Identity(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("prog_id", "next_id", "open_flags")]


_bpf = system_call(
    "bpf",
    {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351},
    ctypes.c_int,
    ctypes.c_void_p,
    ctypes.c_uint,
)


def _call(command: int, attributes: ctypes.Structure) -> int:
    return _bpf(command, ctypes.addressof(attributes), ctypes.sizeof(attributes))


def device_instructions(rules: Iterable[Rule]) -> bytes:
    """The program that allows what one of `rules` does, and nothing else."""
    code = [
        _instruction(_LOAD_WORD, _KIND, _ARGUMENT, offset=_CONTEXT["access_type"]),
        _instruction(_MOVE, _ACCESSES, _KIND),
        _instruction(_AND_CONSTANT, _KIND, value=0xFFFF),
        _instruction(_SHIFT_RIGHT, _ACCESSES, value=16),
        _instruction(_LOAD_WORD, _MAJOR, _ARGUMENT, offset=_CONTEXT["major"]),
        _instruction(_LOAD_WORD, _MINOR, _ARGUMENT, offset=_CONTEXT["minor"]),
    ]
    for rule in rules:
        code += _allow(rule)
    return b"".join((*code, *_return(0)))


def _allow(rule: Rule) -> list[bytes]:
    """Returns 1 if the rule is about this device and gives all that is asked for, else goes on after it."""
    asked_for_more = 0xFFFF & ~sum(_ACCESS[access] for access in rule.access)
    tests = [(_KIND, _TYPES[rule.kind]), (_SCRATCH, 0), (_MAJOR, rule.major), (_MINOR, rule.minor)]
    tests = [(register, value) for register, value in tests if value is not None]
    jumps = [
        _instruction(_JUMP_UNEQUAL, register, value=value or 0, offset=len(tests) - index + 1)
        for index, (register, value) in enumerate(tests)
    ]
    jumped = [
        _instruction(_MOVE, _SCRATCH, _ACCESSES),
        _instruction(_AND_CONSTANT, _SCRATCH, value=asked_for_more),
    ]
    return [*jumped, *jumps, *_return(1)]


def _return(result: int) -> list[bytes]:
    return [_instruction(_MOVE_CONSTANT, _RESULT, value=result), _instruction(_EXIT)]


def _instruction(code: int, target: int = 0, source: int = 0, *, offset: int = 0, value: int = 0) -> bytes:
    """`struct bpf_insn`."""
    return struct.pack("=BBhi", code, source << 4 | target, offset, value)


def load(instructions: bytes) -> int:
    """A descriptor of a program for devices, once the kernel has verified it. Raises OSError."""
    code = ctypes.create_string_buffer(instructions, len(instructions))
    attributes = _Load(
        prog_type=_TYPE_CGROUP_DEVICE,
        insn_cnt=len(instructions) // 8,
        insns=ctypes.addressof(code),
        license=ctypes.cast(ctypes.c_char_p(_LICENSE), ctypes.c_void_p).value,
        prog_name=b"mesocosm",
        expected_attach_type=_ATTACH_CGROUP_DEVICE,
    )
    return _call(_PROG_LOAD, attributes)


def attach(group: str, program: int) -> None:
    """Has `program` decide about devices in a cgroup, in place of the one that did so, without a moment between.

    Those of the cgroups above decide too, and each may refuse. The cgroup keeps it until it is removed itself. Raises
    OSError.
    """
    with _directory(group) as directory:
        replaced = [open_program(identity) for identity in _attached(directory)]
        try:
            attributes = _Attach(directory, program, _ATTACH_CGROUP_DEVICE, _ALLOW_MULTI)
            if replaced:
                attributes.attach_flags |= _REPLACE
                attributes.replace_bpf_fd = replaced[0]
            _call(_PROG_ATTACH, attributes)
        except OSError as error:
            raise OSError(error.errno, error.strerror, group) from error
        finally:
            for descriptor in replaced:
                os.close(descriptor)


def attached(group: str) -> Sequence[int]:
    """The numbers of the programs for devices that are attached to the cgroup itself. Raises OSError."""
    with _directory(group) as directory:
        return _attached(directory)


def _attached(directory: int) -> Sequence[int]:
    identities = (ctypes.c_uint32 * _MOST_PROGRAMS)()
    attributes = _Query(
        target_fd=directory,
        attach_type=_ATTACH_CGROUP_DEVICE,
        prog_ids=ctypes.addressof(identities),
        prog_cnt=_MOST_PROGRAMS,
    )
    _call(_PROG_QUERY, attributes)
    count: Any = attributes.prog_cnt
    return list(identities[:count])


def open_program(identity: int) -> int:
    """A descriptor of the program with that number. Raises OSError, ENOENT if there is none."""
    return _call(_PROG_GET_FD_BY_ID, _Identity(identity))


@contextmanager
def _directory(group: str) -> Iterator[int]:
    descriptor = os.open(group, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
