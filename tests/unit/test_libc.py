"""Each call to the kernel fails once for real: the error names the call, and has the errno's class."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mesocosm.linux import capabilities, libc, memfd, mount, path, prctl, process, rlimits, seccomp
from mesocosm.linux.namespaces import Namespace, enter, inode, supported, unshare

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
NONE = -1
MISSING = "/no/such/place"

FAILURES: dict[str, Callable[[], object]] = {
    "open_tree": lambda: mount.clone_tree(MISSING),
    "move_mount": lambda: mount.attach(NONE, NONE),
    "fsopen": lambda: mount.create("no-such-file-system", {}),
    "mount_setattr": lambda: mount.change(NONE, mount.Attribute.READ_ONLY),
    "umount2": lambda: mount.unmount(MISSING),
    "pivot_root": lambda: mount._pivot_root(MISSING.encode(), MISSING.encode()),
    "fsconfig": lambda: mount._fsconfig(NONE, 1, b"a", b"b", 0),
    "fsmount": lambda: mount._fsmount(NONE, 0, 0),
    "setns": lambda: enter(NONE, Namespace.MOUNT),
    "unshare": lambda: unshare(Namespace(0x1)),
    "clone3": lambda: process._clone3(process._CloneArguments(flags=0xFF), 1),
    "close_range": lambda: process._close_range(5, 4, 0),
    "pidfd_getfd": lambda: process.take_descriptor(NONE, 0),
    "keyctl": lambda: process._keyctl(12345, None),
    "prctl": lambda: prctl._prctl(12345, 0, 0, 0, 0),
    "capget": lambda: capabilities._capget(capabilities._Header(0, 0), (capabilities._Data * 2)()),
    "capset": lambda: capabilities.put(capabilities.Sets(1, 0)),
    "seccomp": lambda: seccomp.load(b""),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_call_that_fails(name: str) -> None:
    with pytest.raises(OSError, match=name) as caught:
        FAILURES[name]()
    assert caught.value.errno
    assert os.strerror(caught.value.errno) in str(caught.value)


def test_every_call_has_failed_once() -> None:
    calls = set()
    for module in (mount, process, sys.modules["mesocosm.linux.namespaces"], path, prctl, capabilities, seccomp):
        text = Path(str(module.__file__)).read_text()
        for declaration in ("declare(", "system_call("):
            for part in text.replace("\n", " ").replace("( ", "(").split(declaration)[1:]:
                calls.add(part.split('"')[1].strip() if '"' in part[:8] else part.split('"')[1])
    assert calls - {"openat2", "sched_getcpu"} == set(FAILURES)  # One is tested elsewhere, the other cannot fail.


def test_a_limit_that_cannot_be() -> None:
    number = rlimits.number("CORE")
    assert number is not None
    before = rlimits.get(number)
    with pytest.raises(OSError, match="setrlimit: Invalid argument"):
        rlimits.put(number, 2, 1)
    rlimits.put(number, before[0], before[1])
    assert rlimits.get(number) == before


def test_sets_of_capabilities_and_their_names() -> None:
    assert capabilities.set_of(["CHOWN", "KILL", "CHOWN"]) == 0b100001
    assert capabilities.names_of(0b100001 | 1 << 63) == ("CHOWN", "KILL", "63")
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    assert last < len(capabilities.NAMES), "this kernel has a capability that has no name here"
    assert capabilities.bounding() >> (last + 1) == 0


def test_openat2_names_the_path(tmp_path: Path) -> None:
    root = os.open(tmp_path, os.O_PATH)
    try:
        with pytest.raises(FileNotFoundError, match="missing"):
            path.open_in_root(root, "missing")
    finally:
        os.close(root)


def test_what_a_system_lacks_fails_when_it_is_called() -> None:
    missing = libc.declare("no_such_function", ctypes.c_int)
    unknown = libc.system_call("no_such_call", {"no-such-machine": 1})
    for call, name in ((missing, "no_such_function"), (unknown, "no_such_call")):
        with pytest.raises(OSError, match=f"{name}: Function not implemented"):
            call(1, 2)


def test_a_sealed_copy_cannot_be_changed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content" * 1000)
    copy = memfd.sealed_copy(tmp_path / "file", "copy")
    try:
        assert os.read(copy, 10000) == b"content" * 1000
        assert not os.get_inheritable(copy)
        for flags in (os.O_WRONLY, os.O_RDWR):
            with pytest.raises(PermissionError):
                os.write(os.open(f"/proc/self/fd/{copy}", flags), b"x")
    except PermissionError:
        pytest.fail("the copy cannot even be opened")
    finally:
        os.close(copy)


def test_a_sealed_copy_of_nothing() -> None:
    with pytest.raises(FileNotFoundError):
        memfd.sealed_copy(Path(MISSING), "copy")


# Paths in a root that somebody else may write to.


@pytest.fixture
def root(tmp_path: Path) -> int:
    (tmp_path / "root/inside").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    for name, target in {
        "out": tmp_path / "outside",
        "up": "../outside",
        "dangling": "nowhere",
        "in": "/inside",
    }.items():
        (tmp_path / "root" / name).symlink_to(target)
    return os.open(tmp_path / "root", os.O_PATH)


@pytest.mark.parametrize("name", ["out/x", "up/x", "dangling/x", "../outside/x", "in/../../outside/x"])
def test_nothing_is_made_outside_of_a_root(tmp_path: Path, root: int, name: str) -> None:
    for make in (path.make_directory, path.make_file):
        try:
            os.close(make(root, name))
        except OSError:
            continue
    assert list((tmp_path / "outside").iterdir()) == []
    os.close(root)


def test_links_within_a_root_are_followed(tmp_path: Path, root: int) -> None:
    os.close(path.make_directory(root, "in/a/b"))
    os.close(path.make_file(root, "/in/a/file"))
    assert (tmp_path / "root/inside/a/b").is_dir()
    assert (tmp_path / "root/inside/a/file").is_file()
    os.close(root)


@pytest.mark.parametrize(
    ("link", "target", "made"),
    [
        ("inside/file", "../run/made", "run/made"),
        ("inside/file", "made", "inside/made"),
        ("inside/file", "/run/made", "run/made"),
        ("inside/file", "../../../../run/made", "run/made"),
        ("file", "dangling", "nowhere"),
    ],
)
def test_a_link_to_a_file_that_is_missing(tmp_path: Path, root: int, link: str, target: str, made: str) -> None:
    (tmp_path / "root" / link).symlink_to(target)
    os.close(path.make_file(root, link))
    assert (tmp_path / "root" / made).is_file()
    os.close(root)


def test_links_in_a_circle(tmp_path: Path, root: int) -> None:
    (tmp_path / "root/a").symlink_to("b")
    (tmp_path / "root/b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        path.make_file(root, "a")
    os.close(root)


@pytest.mark.parametrize(("function", "make"), [("mkdir", path.make_directory), ("open", path.make_file)])
def test_another_that_is_faster_is_no_error(
    root: int, monkeypatch: pytest.MonkeyPatch, function: str, make: Callable[[int, str], int]
) -> None:
    real = getattr(os, function)

    def twice(*arguments: object, **options: object) -> object:
        first = real(*arguments, **options)
        if isinstance(first, int):
            os.close(first)
        return real(*arguments, **options)

    monkeypatch.setattr(os, function, twice)
    os.close(make(root, "new"))
    os.close(root)


def test_namespaces_have_names() -> None:
    assert supported(Namespace.MOUNT)
    assert inode(os.getpid(), Namespace.PID) == Path("/proc/self/ns/pid").stat().st_ino
    assert {kind.file for kind in Namespace if kind} == {"mnt", "cgroup", "uts", "ipc", "user", "pid", "net"}
