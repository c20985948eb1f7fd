"""Container ids, merged launch infos, messages, users, and the texts of operations."""

from __future__ import annotations

import os
import struct
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesocosm.container import CommandInfo, ContainerID, Termination
from mesocosm.errors import ContainerError
from mesocosm.launcher import operations
from mesocosm.launcher.info import Command, Credentials, LaunchInfo
from mesocosm.launcher.kernel_filesystems import CgroupMounts, KernelFilesystems
from mesocosm.launcher.merging import merge
from mesocosm.launcher.messages import REPORT_SIZE, Kind, Report
from mesocosm.launcher.operations import Operation, TakeShared
from mesocosm.linux.namespaces import Namespace
from mesocosm.users import of_this_process, resolve
from tests.limits import few_descriptors

NAMES = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9_:@+=,~-]{0,30}", fullmatch=True)
INTEGERS = st.integers(-(2**31), 2**31 - 1)


# Container ids.


@given(st.lists(NAMES, min_size=1, max_size=5))
def test_ids_are_parsed_as_they_are_written(names: list[str]) -> None:
    container_id = ContainerID.parse(".".join(names))
    assert str(container_id) == ".".join(names)
    assert container_id.depth == len(names) - 1
    assert container_id.root == ContainerID(names[0])
    assert container_id.is_within(container_id.root)
    assert container_id.cgroup == "/mesos/".join(names)


def test_ids_are_not_deeper_than_messages() -> None:
    """Whoever asks for a file may name a container by some thousand letters."""
    assert ContainerID.parse(".".join("a" * 100)).depth == 99
    with pytest.raises(ContainerError, match="3000 levels"):
        ContainerID.parse(".".join("a" * 3000))


@pytest.mark.parametrize(
    "value", ["", ".", "..", "a/b", "a.b", "a b", "a\n", "\0", "x" * 243, "\u00e9", "~a", "a\u200b"]
)
def test_values_that_are_no_ids(value: str) -> None:
    with pytest.raises(ContainerError, match="is not a name"):
        ContainerID(value)


@given(st.text())
def test_an_id_is_always_one_directory(value: str) -> None:
    try:
        container_id = ContainerID(value)
    except ContainerError:
        return
    assert "/" not in container_id.cgroup
    assert value not in (".", "..")


def test_exit_statuses_are_those_of_a_shell() -> None:
    assert [Termination(status).exit_status for status in (None, 0, 3 << 8, 9, 15)] == [None, 0, 3, 137, 143]


def test_a_command_without_words_is_refused() -> None:
    with pytest.raises((ContainerError, IndexError, ValueError)):
        CommandInfo.of([])


# Merging.


def test_merging_unites() -> None:
    one = LaunchInfo(clone_namespaces=Namespace.MOUNT, operations=(TakeShared("/a"),), environment={"A": "1", "B": "1"})
    two = LaunchInfo(clone_namespaces=Namespace.PID, operations=(TakeShared("/b"),), environment={"B": "2"})
    merged = merge([one, two])
    assert merged.clone_namespaces == Namespace.MOUNT | Namespace.PID
    assert merged.operations == (TakeShared("/a"), TakeShared("/b"))
    assert merged.environment == {"A": "1", "B": "2"}


def test_cgroups_are_mounted_once_and_before_volumes() -> None:
    """On v2, those of all isolators are the same."""
    cgroups = (("unified", "/sys/fs/cgroup/mesos/c"),)
    parts = [LaunchInfo(cgroups=cgroups, volumes=(TakeShared("/v"),)), LaunchInfo(cgroups=cgroups)]
    merged = merge([*parts, LaunchInfo(operations=(KernelFilesystems(),))])
    assert merged.changes == (KernelFilesystems(), CgroupMounts(cgroups), TakeShared("/v"))


def test_merging_nothing() -> None:
    assert merge([]) == LaunchInfo()
    assert merge([LaunchInfo()] * 3) == LaunchInfo()


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (LaunchInfo(rootfs="/a"), LaunchInfo(rootfs="/b")),
        (LaunchInfo(working_directory="/a"), LaunchInfo(working_directory="/b")),
        (LaunchInfo(credentials=Credentials(0, 0)), LaunchInfo(credentials=Credentials(1, 1))),
        (LaunchInfo(command=Command("a", ("a",))), LaunchInfo(command=Command("b", ("b",)))),
        (LaunchInfo(tty=(1, 1)), LaunchInfo(tty=(2, 2))),
        (LaunchInfo(enter_namespaces=Namespace.IPC), LaunchInfo(clone_namespaces=Namespace.IPC)),
    ],
)
def test_merging_what_disagrees(one: LaunchInfo, two: LaunchInfo) -> None:
    assert merge([one, one]) == one
    with pytest.raises(ContainerError):
        merge([one, two])


class Foreign(TakeShared):
    """An operation of another package, which the launcher process could not unpickle."""


def test_merging_refuses_what_the_launcher_does_not_know() -> None:
    known, foreign = (TakeShared("/a"), KernelFilesystems()), (TakeShared("/a"), Foreign("/a"))
    merge([LaunchInfo(operations=known, volumes=known)])
    for info in (LaunchInfo(operations=foreign), LaunchInfo(volumes=foreign)):
        with pytest.raises(ContainerError, match=r"tests\.unit\.test_values\.Foreign") as caught:
            merge([info])
        assert "mesocosm.launcher.operations" in str(caught.value.hint)


def test_a_new_pid_namespace_below_the_parents() -> None:
    merge([LaunchInfo(enter_namespaces=Namespace.PID, clone_namespaces=Namespace.PID)])


# Messages.


@given(st.sampled_from(Kind), INTEGERS, st.integers(0, 2**62), st.text(max_size=400), st.text(max_size=400))
def test_reports_come_as_they_were_sent(kind: Kind, value: int, memory: int, step: str, path: str) -> None:
    packed = Report(kind, value, memory=memory, step=step, path=path).pack()
    assert len(packed) == REPORT_SIZE
    found = Report.unpack(packed)
    assert (found.kind, found.value, found.memory) == (kind, value, memory)
    for sent, came in ((step, found.step), (path, found.path)):
        assert came == sent or "\0" in sent or len(sent.encode()) > 100


@given(st.binary(max_size=2 * REPORT_SIZE))
def test_anything_else_is_a_value_error(data: bytes) -> None:
    try:
        Report.unpack(data)
    except (ValueError, struct.error) as error:
        assert isinstance(error, ValueError)  # noqa: PT017 - most data is none, but some may be.


# Operations.


def test_each_operation_says_in_one_line_what_it_does() -> None:
    kinds = [kind for kind in vars(operations).values() if isinstance(kind, type) and issubclass(kind, Operation)]
    examples = {"str": "/x", "bool": True, "int": 7}
    for kind in kinds:
        if kind is Operation or not is_dataclass(kind):
            continue
        arguments = {
            entry.name: examples.get(str(entry.type), ())
            for entry in fields(kind)
            if entry.default is entry.default_factory  # Both MISSING: it has no default.
        }
        text = str(kind(**arguments))
        assert text
        assert "\n" not in text
        assert not text.startswith(kind.__name__), f"{kind.__name__} has no text of its own"


# Users.


@pytest.fixture
def users(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(
        "# a comment\n\nroot:x:0:0::/:/bin/sh\napp:x:1000:1001::/:/bin/sh\nbad:x:one:two::/:\nshort:x:5\n"
    )
    (tmp_path / "etc/group").write_text(
        "logs:x:7:root,app\nnone:x:8:\nbad:x:nine:app\nmore:x:9:app\nappendix:x:10:apps\n"
    )
    return tmp_path


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("app", Credentials(1000, 1001, (1001, 7, 9))),
        ("1000", Credentials(1000, 1001, (1001, 7, 9))),
        ("1000:5", Credentials(1000, 5, ())),
        ("77", Credentials(77, 0)),
        ("77:5", Credentials(77, 5)),
        ("app:logs", Credentials(1000, 7)),
        ("77:more", Credentials(77, 9)),
        ("root", Credentials(0, 0, (0, 7))),
    ],
)
def test_users_of_a_root_filesystem(users: Path, user: str, expected: Credentials) -> None:
    found = resolve(user, (users,))
    assert (found.uid, found.gid) == (expected.uid, expected.gid)
    assert set(found.groups) | {found.gid} == set(expected.groups) | {expected.gid}


@pytest.mark.parametrize(
    "user",
    [
        "bad",
        "short",
        "# a comment",
        "",
        "app:nobodys",
        "app:",
        ":logs",
        "a:b:c",
        "-1",
        "4294967295",
        "9" * 5000,
        "1:" + "9" * 20,
    ],
)
def test_users_that_are_none(users: Path, user: str) -> None:
    with pytest.raises(ContainerError, match="user"):
        resolve(user, (users,))


def test_the_hosts_users_are_found_by_name_only(users: Path) -> None:
    assert resolve("daemon", (users,)).uid == resolve("daemon", ()).uid
    assert resolve("1", (users,)) == Credentials(1, 0), "the host's groups of that number mean nothing in there"


def test_whose_this_process_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the name of its user, and where that has none, by numbers that a container can ask for."""
    assert resolve(of_this_process(), ()).uid == os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000_001)
    monkeypatch.setattr(os, "getegid", lambda: 4_000_000_002)
    assert of_this_process() == "4000000001:4000000002"
    assert resolve(of_this_process(), ()) == Credentials(4_000_000_001, 4_000_000_002)


def test_the_hosts_users_are_none_of_an_image(users: Path) -> None:
    for user, what in {"daemon": "user 'daemon'", "app:daemon": "group 'daemon'"}.items():
        assert resolve(user, (users,)).uid >= 0
        with pytest.raises(ContainerError, match=f"no {what} in the image"):
            resolve(user, (users,), on_host=False)


def test_a_root_filesystem_without_users(tmp_path: Path) -> None:
    assert resolve("5:6", (tmp_path,)) == Credentials(5, 6)
    with pytest.raises(ContainerError, match="no user 'app'"):
        resolve("app", (tmp_path,))


@pytest.mark.parametrize("upper", [(), ("upper",)])
def test_an_image_whose_users_cannot_be_read_gets_nobody_elses(users: Path, upper: tuple[str, ...]) -> None:
    (users / "etc/passwd").write_text("daemon:x:4000:4000::/:/bin/sh\n")
    layers = [users, *(users / name for name in upper)]
    for layer in layers[1:]:
        layer.mkdir()
    assert resolve("daemon", layers).uid == 4000
    with (
        few_descriptors(1),
        pytest.raises(ContainerError, match=r"etc/passwd of the root file system .*Too many open files"),
    ):
        resolve("daemon", layers)


def test_an_image_with_more_users_than_are_read(users: Path) -> None:
    (users / "etc/passwd").write_text("other:x:4001:4001::/:/bin/sh\n" * 50_000 + "daemon:x:4000:4000::/:/bin/sh\n")
    with pytest.raises(ContainerError, match=r"etc/passwd of the root file system .*more than 1048576 bytes"):
        resolve("daemon", (users,))


@pytest.mark.parametrize("kind", ["nothing", "directory", "circle", "file above", "fifo"])
def test_an_image_without_a_file_of_users(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "etc/passwd"
    if kind != "file above":
        path.parent.mkdir()
    make = {"directory": path.mkdir, "circle": lambda: path.symlink_to("passwd"), "fifo": lambda: os.mkfifo(path)}
    make.get(kind, lambda: (tmp_path / "etc").touch())()
    assert resolve("daemon", (tmp_path,)) == resolve("daemon", ())


@given(st.binary(max_size=300))
def test_any_file_of_users(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    root = tmp_path_factory.mktemp("root")
    (root / "etc").mkdir()
    for name in ("passwd", "group"):
        (root / "etc" / name).write_bytes(b"app:x:1:2\n" + content)
    assert resolve("app", (root,)).uid == 1
