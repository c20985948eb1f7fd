"""Container loggers without containers: which there are, their settings, and files that rotate."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mesocosm.container import CommandInfo, ContainerConfig, ContainerID
from mesocosm.containerizer.base import ContainerIO
from mesocosm.errors import ContainerError, FlagError, MesocosmError
from mesocosm.loggers.base import ContainerLogger, LoggerSettings
from mesocosm.loggers.logrotate import LogrotateContainerLogger, Rotation
from mesocosm.loggers.rotation import RotatedFile
from mesocosm.loggers.selection import DEFAULT, ENTRY_POINTS, create_logger
from tests.plugins import example, install
from tests.rotating import ended, rotator

X = ContainerID("x")
LIMIT = 4096

BODY = """
from mesocosm.loggers.base import ContainerLogger


class Mine(ContainerLogger):
    @classmethod
    def create(cls, settings):
        made = cls()
        made.settings = settings
        return made
"""


def config(**environment: str) -> ContainerConfig:
    return ContainerConfig(CommandInfo("true"), environment=environment)


def create(name: str, directory: Path, **parameters: str) -> ContainerLogger:
    return create_logger(name, LoggerSettings(directory, parameters))


# Which there are.


async def test_by_default_the_output_goes_to_the_sandbox(tmp_path: Path) -> None:
    logger = create(DEFAULT, tmp_path)
    await logger.recover([X])
    assert await logger.prepare(X, config(), tmp_path / "sandbox") == ContainerIO()
    await logger.close()
    assert list(tmp_path.iterdir()) == []


def test_a_logger_of_another_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, ENTRY_POINTS, BODY, mine="Mine", bad="ContainerLogger", odd="nothing")
    logger = create("mine", tmp_path, key="value")
    assert type(logger).__name__ == "Mine"
    assert logger.settings == LoggerSettings(tmp_path, {"key": "value"})  # type: ignore[attr-defined]
    with pytest.raises(FlagError, match=r"--container_logger: 'odd', plugin_0:nothing, cannot be loaded"):
        create("odd", tmp_path)
    with pytest.raises(FlagError, match=r"no container logger 'other'; there are: bad, logrotate, mine, odd, sandbox"):
        create("other", tmp_path)


async def test_the_example_of_a_logger_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "systemd-cat"
    program.write_text(
        f'#!/bin/sh\n(echo "$@"; cat) > {tmp_path}/unfinished; mv {tmp_path}/unfinished {tmp_path}/ended\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    names = example("logging.md", '    """The container logger `journal`', "\nThe interface is")
    started: list[asyncio.subprocess.Process] = []
    execute = asyncio.create_subprocess_exec

    async def remember(*arguments: Any, **options: Any) -> asyncio.subprocess.Process:
        started.append(await execute(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", remember)
    await copied(await names["JournalLogger"]().prepare(X, config(), tmp_path), b"output")
    await started[0].wait()
    assert (tmp_path / "ended").read_text() == "--identifier=x cat\noutput"


# Settings of `logrotate`.


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, Rotation(10 << 20, 10 << 20, 4, 4)),
        ({"max_stdout_size": "2MB", "stderr_count": "0"}, Rotation(2 << 20, 10 << 20, 4, 0)),
        ({"max_stderr_size": "65536", "stdout_count": "9"}, Rotation(10 << 20, 65536, 9, 4)),
    ],
)
def test_parameters(parameters: Mapping[str, str], expected: Rotation) -> None:
    assert Rotation().changed(parameters) == expected


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"max_stdout_size": "1KB"}, "'logrotate': max_stdout_size: '1KB' is less than a page"),
        ({"max_stderr_size": "much"}, "'logrotate': max_stderr_size: 'much' is no size"),
        ({"stdout_count": "-1"}, "'logrotate': stdout_count: '-1' is no number of files"),
        ({"stdout_count": "1001"}, "'logrotate': stdout_count: '1001' is no number of files"),
        (
            {"logrotate_stdout_options": "rotate 5"},
            "there is no 'logrotate_stdout_options'; there are: max_stdout_size",
        ),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_parameters_that_make_no_sense(tmp_path: Path, parameters: Mapping[str, str], text: str) -> None:
    with pytest.raises(FlagError, match=text) as caught:
        create("logrotate", tmp_path, **parameters)
    assert caught.value.message.startswith("--container_logger: ")


# A file that rotates.


@pytest.fixture
def rotated(tmp_path: Path) -> Iterator[Callable[..., RotatedFile]]:
    opened: list[RotatedFile] = []

    def make(count: int = 2, name: str = "log") -> RotatedFile:
        directory = os.open(tmp_path, os.O_RDONLY)
        try:
            opened.append(RotatedFile(directory, name, LIMIT, count))
        finally:
            os.close(directory)
        return opened[-1]

    yield make
    for file in opened:
        file.close()


Rotated = Callable[..., RotatedFile]


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file() and not path.is_symlink()}


def page(letter: str) -> bytes:
    return letter.encode() * LIMIT


def test_rotation_and_the_number_of_files(tmp_path: Path, rotated: Rotated) -> None:
    file = rotated(2)
    file.write(page("a"))
    assert content(tmp_path) == {"log": page("a")}, "it is full, and not more than that"
    for letter in "bcd":
        file.write(page(letter))
    assert content(tmp_path) == {"log": page("d"), "log.1": page("c"), "log.2": page("b")}


def test_no_old_files(tmp_path: Path, rotated: Rotated) -> None:
    file = rotated(0)
    file.write(page("a") + b"b")
    assert content(tmp_path) == {"log": b"b"}


def test_much_at_once(tmp_path: Path, rotated: Rotated) -> None:
    file = rotated(20)
    data = os.urandom(10 * LIMIT + 7)
    file.write(data)
    files = content(tmp_path)
    assert all(len(part) <= LIMIT for part in files.values())
    assert b"".join(files[name] for name in sorted(files, key=lambda name: -int(name[4:] or 0))) == data


def test_lines_stay_whole(tmp_path: Path, rotated: Rotated) -> None:
    file = rotated(50)
    lines = [f"{number:03} {'x' * (number * 37 % 300)}\n".encode() for number in range(200)]
    for begin in range(0, len(lines), 7):
        file.write(b"".join(lines[begin : begin + 7]))
    files = content(tmp_path)
    assert len(files) > 5
    assert all(text.endswith(b"\n") for text in files.values())
    assert sorted(line for text in files.values() for line in text.splitlines(keepends=True)) == lines


def test_it_is_appended_to_and_what_there_was_counts(tmp_path: Path, rotated: Rotated) -> None:
    (tmp_path / "log").write_bytes(page("a")[1:])
    rotated().write(b"b")
    assert content(tmp_path) == {"log": page("a")[1:] + b"b"}
    rotated().write(b"c")
    assert content(tmp_path) == {"log": b"c", "log.1": page("a")[1:] + b"b"}


@pytest.mark.parametrize("kind", ["link", "dangling link", "directory", "pipe"])
def test_what_is_no_file_is_not_opened(tmp_path: Path, rotated: Rotated, kind: str) -> None:
    log, victim = tmp_path / "log", tmp_path / "victim"
    victim.write_text("precious")
    if kind == "directory":
        log.mkdir()
    elif kind == "pipe":
        os.mkfifo(log)
    else:
        log.symlink_to("victim" if kind == "link" else "nowhere")
    with pytest.raises(OSError, match=r"symbolic links|Is a directory|No such device"):
        rotated()
    assert content(tmp_path) == {"victim": b"precious"}


def test_a_pipe_with_a_reader_is_no_file_either(tmp_path: Path, rotated: Rotated) -> None:
    os.mkfifo(tmp_path / "log")
    reader = os.open(tmp_path / "log", os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(OSError, match="not a regular file"):
            rotated()
    finally:
        os.close(reader)


def test_links_in_the_way_are_renamed_and_not_followed(tmp_path: Path, rotated: Rotated) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    file = rotated(2)
    file.write(page("a"))
    for name in ("log.1", "log.2"):
        (tmp_path / name).symlink_to(victim)
    (tmp_path / "log").unlink()
    (tmp_path / "log").symlink_to(victim)
    for letter in "bcde":
        file.write(page(letter))
    assert content(tmp_path) == {
        "victim": b"precious",
        "log": page("e"),
        "log.1": page("d"),
        "log.2": page("c"),
    }


@pytest.mark.parametrize("name", ["log.1", "log.2"])
def test_a_directory_in_the_way_does_not_make_it_larger(tmp_path: Path, rotated: Rotated, name: str) -> None:
    file = rotated(2)
    (tmp_path / name / "full").mkdir(parents=True)
    for letter in "abcdefgh":
        file.write(page(letter))
    files = content(tmp_path)
    assert files.pop("log") == page("h")
    assert all(len(text) <= LIMIT for text in files.values())


def test_what_a_full_disk_does_not_take_is_told_once(
    tmp_path: Path, rotated: Rotated, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = rotated()
    file.write(b"before\n")
    write, room = os.write, [3]

    def full(descriptor: int, data: bytes) -> int:
        part = min(len(data), room[0])
        room[0] -= part
        if part == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, bytes(data)[:part])

    with monkeypatch.context() as context:
        context.setattr(os, "write", full)
        for _ in range(3):
            file.write(b"0123456789")
    file.write(b"after\n")
    file.write(b"again\n")
    note = "[27 bytes of output could not be written: No space left on device]"
    assert (tmp_path / "log").read_text() == f"before\n012\n{note}\nafter\nagain\n"


# The process, without containers.


@pytest.fixture
async def logger(tmp_path: Path) -> AsyncIterator[LogrotateContainerLogger]:
    made = LogrotateContainerLogger(tmp_path / "run", Rotation(LIMIT, LIMIT, 1, 1))
    yield made
    await made.close()


async def copied(io: ContainerIO, data: bytes) -> None:
    """Writes `data` to the pipe of stdout, and closes both."""
    assert io.stdout is not None
    assert io.stderr is not None
    try:
        await asyncio.to_thread(os.write, io.stdout, data)
    finally:
        os.close(io.stdout)
        os.close(io.stderr)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
async def test_pipes_that_lead_to_the_sandbox(tmp_path: Path, logger: LogrotateContainerLogger) -> None:
    sandbox = tmp_path / ("long" * 40) / "sandbox"
    io = await logger.prepare(X, config(CONTAINER_LOGGER_STDOUT_COUNT="3", OTHER="1"), sandbox)
    await copied(io, b"".join(map(page, "abcdef")))
    pid = rotator(tmp_path / "run")
    await logger.close()
    await ended(pid)
    assert not (tmp_path / "run" / "logger.sock").exists()
    assert content(sandbox) == {
        "stdout": page("f"),
        "stdout.1": page("e"),
        "stdout.2": page("d"),
        "stdout.3": page("c"),
        "stderr": b"",
    }


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
@pytest.mark.parametrize(
    ("environment", "text"),
    [
        (
            {"CONTAINER_LOGGER_MAX_STDOUT_SIZE": "1"},
            r"x: CONTAINER_LOGGER_\*: max_stdout_size: '1' is less than a page",
        ),
        ({"CONTAINER_LOGGER_COLOUR": "red"}, r"x: CONTAINER_LOGGER_\*: there is no 'colour'"),
    ],
)
async def test_what_a_container_may_not_ask_for(
    tmp_path: Path, logger: LogrotateContainerLogger, environment: dict[str, str], text: str
) -> None:
    with pytest.raises(ContainerError, match=text):
        await logger.prepare(X, config(**environment), tmp_path / "sandbox")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
async def test_a_log_that_cannot_be_opened(tmp_path: Path, logger: LogrotateContainerLogger) -> None:
    (tmp_path / "sandbox" / "stderr").mkdir(parents=True)
    with pytest.raises(MesocosmError, match=r"x: the logs in .*/sandbox cannot be written: Is a directory"):
        await logger.prepare(X, config(), tmp_path / "sandbox")
