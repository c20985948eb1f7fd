"""The parts of the switchboard that need no container: logs, inputs, terminals that are none."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesocosm.container import CommandInfo, ContainerConfig, ContainerID
from mesocosm.containerizer.base import Starting
from mesocosm.errors import ContainerError
from mesocosm.launcher.base import InitProcess
from mesocosm.launcher.channel import Channel
from mesocosm.launcher.messages import Kind, Report
from mesocosm.linux import descriptors
from mesocosm.switchboard.input import Input
from mesocosm.switchboard.log import UNWRITABLE, append
from mesocosm.switchboard.session import Session
from mesocosm.switchboard.streams import Chunk, Outputs, Stream
from tests.few_descriptors import only, open_descriptors


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    for descriptor in (reading, writing):
        try:
            os.close(descriptor)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise


def test_a_full_disk_is_one_of_the_things_that_happen_to_a_log() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(OSError, match="No space") as raised:
            append(full, b"x")
        assert raised.value.errno in UNWRITABLE
    finally:
        os.close(full)


def test_a_log_gets_all_of_it(tmp_path: Path) -> None:
    log = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    append(log, b"x" * 1_000_000)
    os.close(log)
    assert (tmp_path / "log").stat().st_size == 1_000_000


async def test_an_input_waits_for_who_reads(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    given = Input(os.dup(writing), is_terminal=False)
    os.close(writing)
    typing = asyncio.create_task(given.write(b"x" * 1_000_000))
    got = 0
    while got < 1_000_000:
        got += len(await asyncio.to_thread(os.read, reading, 65536))
    assert await typing
    await given.end()
    assert os.read(reading, 1) == b""
    assert not await given.write(b"more")


async def test_an_input_that_is_closed_wakes_who_waits(pipe: tuple[int, int]) -> None:
    given = Input(os.dup(pipe[1]), is_terminal=False)
    typing = asyncio.create_task(given.write(b"x" * 1_000_000))
    await asyncio.sleep(0)
    given.close()
    assert not await typing


async def test_an_input_that_nobody_reads_says_so(pipe: tuple[int, int]) -> None:
    given = Input(os.dup(pipe[1]), is_terminal=False)
    os.close(pipe[0])
    assert not await given.write(b"x")
    given.close()


async def test_only_a_terminal_has_a_size(pipe: tuple[int, int]) -> None:
    given = Input(os.dup(pipe[1]), is_terminal=False)
    with pytest.raises(ContainerError, match="no terminal"):
        given.resize(1, 1)
    given.close()
    master, slave = os.openpty()
    screen = Input(master, is_terminal=True)
    screen.resize(7, 77)
    assert os.get_terminal_size(slave) == (77, 7)
    with pytest.raises(ContainerError, match="no terminal has"):
        screen.resize(1 << 16, 1)
    screen.close()
    os.close(slave)


async def test_neither_stream_keeps_the_other_from_being_read() -> None:
    (out, to_out), (err, to_err) = os.pipe(), os.pipe()
    os.write(to_out, b"o" * 65536)
    os.write(to_err, b"e")
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    outputs = Outputs()
    outputs.add(out, Stream.STDOUT)
    outputs.add(err, Stream.STDERR)
    assert {(await outputs.read(ended)).stream for _ in range(2)} == {Stream.STDOUT, Stream.STDERR}  # type: ignore[union-attr]
    os.write(to_err, b"last")
    ended.set_result(None)
    assert await outputs.read(ended) == Chunk(Stream.STDERR, b"last"), "what is there is read before the end is told"
    assert await outputs.read(ended) is None
    outputs.close()
    for descriptor in (to_out, to_err):
        os.close(descriptor)


async def test_what_is_sent_for_a_terminal_has_to_be_one(tmp_path: Path) -> None:
    """The root of a container that the init has entered might send anything else."""
    for make, taken in ((lambda: os.open(tmp_path, os.O_RDONLY), False), (lambda: os.openpty()[0], True)):
        channel, theirs = Channel.create()
        sent = make()
        descriptors.send(theirs, Report(Kind.TERMINAL).pack(), (sent,))
        report = await channel.report()
        assert report is not None
        assert report.kind is Kind.TERMINAL
        terminal = channel.take_terminal()
        assert (terminal is not None) == taken
        for descriptor in (sent, terminal):
            if descriptor is not None:
                os.close(descriptor)
        channel.close()
        theirs.close()


@pytest.mark.parametrize("has_terminal", [True, False])
async def test_a_session_with_too_few_descriptors_keeps_none(has_terminal: bool) -> None:
    async def destroy(container_id: ContainerID) -> None:
        """There is no container."""

    null = os.open(os.devnull, os.O_RDWR)
    init = InitProcess(os.getpid(), -1, None)
    for count in range(20):
        master, slave = os.openpty() if has_terminal else (None, None)
        held = open_descriptors()
        session = Session(ContainerID("x"), destroy, lambda session: None)
        starting = Starting(ContainerID("x"), ContainerConfig(CommandInfo()), init, master, null, null)
        try:
            with only(count):
                session.connect(starting).close()
        except OSError as error:
            assert error.errno == errno.EMFILE  # noqa: PT017 - depends on the count.
            assert count < 8
        else:
            assert count > 2
        await session.close()
        assert open_descriptors() == held - {master}
        if slave is not None:
            os.close(slave)
    os.close(null)


def test_the_path_of_a_socket_is_never_too_long(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 200)
    deep.mkdir()
    with socket.socket(socket.AF_UNIX) as listening, descriptors.socket_path(deep, "s") as path:
        listening.bind(path)
    assert (deep / "s").is_socket()
