"""`mesocosm.run` without a container: results, places, options."""

from __future__ import annotations

import asyncio
import dataclasses
import fcntl
import os
import stat
from pathlib import Path

import pytest

import mesocosm
from mesocosm.container import Resources, Tmpfs, Volume, VolumeMode
from mesocosm.errors import FlagError
from mesocosm.oneshot import agent, runner
from mesocosm.oneshot.choice import Choice
from mesocosm.oneshot.place import Place, any_stale, find, make_private, stale
from mesocosm.oneshot.request import parse_environment, parse_tmpfs, parse_volume


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place.choose("name", tmp_path / "runtime", tmp_path / "work")


def test_result_of_a_signal() -> None:
    result = mesocosm.Result(exit_status=137, status=9, user_time=1.5, system_time=0.25, stdout=b"a\xff")
    assert (result.signal, result.cpu_time, result.ok) == (9, 1.75, False)
    assert result.text == "a\ufffd"
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.exit_status = 0  # type: ignore[misc]


def test_result_of_an_exit() -> None:
    assert mesocosm.Result(exit_status=3, status=3 << 8).signal is None
    assert mesocosm.Result(exit_status=0, status=0).ok
    assert not mesocosm.Result(exit_status=0, status=0, limit="mem").ok


def test_all_that_went_wrong_is_told() -> None:
    errors = ExceptionGroup("several", [OSError(16, "busy", "/a"), ExceptionGroup("more", [OSError(5, "broken")])])
    assert runner._reasons(errors) == "[Errno 16] busy: '/a'; [Errno 5] broken"
    assert runner._reasons(errors.exceptions[0]) == "[Errno 16] busy: '/a'"


def test_an_unknown_name_of_the_package() -> None:
    with pytest.raises(AttributeError):
        mesocosm.no_such_name  # noqa: B018


def test_place_is_private_and_locked(place: Place) -> None:
    place.create("posix/cpu", "posix")
    try:
        assert stat.S_IMODE(place.directory.stat().st_mode) == 0o700
        assert stat.S_IMODE(place.base.stat().st_mode) == 0o700
        assert not any_stale(place.base)
        descriptor = os.open(place.directory, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)
    finally:
        place.forget()


def test_place_without_its_owner_is_stale(place: Place) -> None:
    place.create("posix/cpu", "posix")
    place.forget()
    assert list(stale(place.base)) == [place.directory]
    found = find(place.directory)
    assert found is not None
    same, flags = found
    assert same == place
    assert flags == place.flags("posix/cpu", "posix")


def test_place_that_was_never_used(place: Place) -> None:
    place.directory.mkdir(parents=True)
    assert find(place.directory) is None


def test_one_place_of_a_name(place: Place) -> None:
    place.create("posix/cpu", "posix")
    with pytest.raises(FlagError, match="--name: there is a container 'name' already"):
        dataclasses.replace(place, _lock=None).create("posix/cpu", "posix")
    place.forget()


@pytest.mark.parametrize("work", ["file", "file/work"])
def test_a_place_that_cannot_be_made_leaves_nothing(tmp_path: Path, place: Place, work: str) -> None:
    (tmp_path / "file").touch()
    unusable = dataclasses.replace(place, work_dir=tmp_path / work)
    with pytest.raises(FlagError, match=rf"^{tmp_path}/file: Not a directory; give --runtime-dir and --work-dir"):
        unusable.create("posix/cpu", "posix")
    assert list(place.base.iterdir()) == []
    assert not unusable.held
    place.create("posix/cpu", "posix")
    place.forget()


def test_place_is_removed_but_for_a_given_work_directory(place: Place) -> None:
    place.create("posix/cpu", "posix")
    place.remove()
    assert not place.directory.exists()
    assert place.work_dir.exists()
    own = dataclasses.replace(place, keeps_work=False)
    own.create("posix/cpu", "posix")
    own.remove()
    assert not own.work_dir.exists()


def test_a_directory_of_others_is_refused(tmp_path: Path) -> None:
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    for directory in (open_to_all, link):
        with pytest.raises(FlagError):
            make_private(directory)


def test_directories_of_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("os.access", lambda *_: False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    place = Place.choose("name")
    assert place.directory == tmp_path / "mesocosm/run/name"
    assert place.work_dir == place.directory / "work"


def test_volumes(tmp_path: Path) -> None:
    assert parse_volume(f"{tmp_path}:/x") == Volume("/x", str(tmp_path), VolumeMode.RW)
    assert parse_volume(f"{tmp_path}:/x:ro") == Volume("/x", str(tmp_path), VolumeMode.RO)


def test_tmpfs() -> None:
    assert parse_tmpfs("/tmp") == Tmpfs("/tmp")
    assert parse_tmpfs("/tmp:2MB") == Tmpfs("/tmp", 2 << 20)


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIVEN", "on")
    monkeypatch.delenv("MISSING", raising=False)
    assert parse_environment(["A=1=2", "GIVEN", "MISSING", "EMPTY="]) == {"A": "1=2", "GIVEN": "on", "EMPTY": ""}


def test_a_limit_needs_its_isolator() -> None:
    choice = Choice(("cgroups/mem",), "linux", {"cgroups/cpu": "no such controller"})
    choice.check(Resources(mem=1 << 20))
    with pytest.raises(FlagError, match=r"--cpus needs the isolator cgroups/cpu.*; no such controller"):
        choice.check(Resources(cpus=1))
    assert choice.default_pids() is None
    assert Choice(("cgroups/pids",), "linux").default_pids() == 4096


async def test_an_agent_whose_start_is_given_up_ends_before_its_place(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = tmp_path / "line"
    os.mkfifo(line)
    monkeypatch.setattr(agent, "_command_line", lambda *_: ["sh", "-c", f"echo $$ > {line}; exec sleep 1000"])

    async def start() -> None:
        async with agent.private_agent(place, Choice(("posix/cpu",), "posix")):
            pytest.fail("it never says that it is ready")

    starting = asyncio.create_task(start())
    pid = int(await asyncio.to_thread(line.read_text))
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not place.directory.exists()
