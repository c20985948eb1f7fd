"""Processes that share a store: a layer that several of them want is downloaded by one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from mesocosm.images.store import ImageStore
from mesocosm.images.turn import remove_abandoned, turn
from tests.command_line import MESOCOSM, TIMEOUT
from tests.registry import digest, entry, layout, tar

pytestmark = pytest.mark.kernel
LAYER = tar((entry("file"), b"content" * 1000))


class Registry:
    """One whose layers do not come before `gate` is set."""

    def __init__(self, image: Path) -> None:
        self.address = ""
        self.gate = asyncio.Event()
        self.downloads = 0
        self.begun = asyncio.Event()
        self._blobs = image / "blobs/sha256"
        index = json.loads((image / "index.json").read_text())
        self._manifest = index["manifests"][0]["digest"].removeprefix("sha256:")

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/v2/app/manifests/1":
            return web.FileResponse(
                self._blobs / self._manifest, headers={"Content-Type": "application/vnd.oci.image.manifest.v1+json"}
            )
        if request.path == f"/v2/app/blobs/{digest(LAYER)}":
            self.downloads += 1
            self.begun.set()
            await self.gate.wait()
        if request.path == "/v2/":
            return web.Response()
        return web.FileResponse(self._blobs / request.path.rpartition(":")[2])


@pytest.fixture
async def registry(run_directory: Path) -> AsyncIterator[Registry]:
    running = Registry(layout(run_directory / "image", [LAYER]))
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", running.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    running.address = f"127.0.0.1:{runner.addresses[0][1]}"
    yield running
    await runner.cleanup()


@contextlib.asynccontextmanager
async def pulling(store: Path, registry: Registry) -> AsyncIterator[Process]:
    command = (*MESOCOSM, "pull", "--store", str(store), f"{registry.address}/app:1")
    process = await asyncio.create_subprocess_exec(*command, stderr=PIPE, stdout=PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def said(process: Process, text: str) -> None:
    """Returns when a process has said so."""
    assert process.stderr is not None
    async with asyncio.timeout(TIMEOUT):
        while text not in (line := (await process.stderr.readline()).decode()):
            assert line, "it has ended"


async def ended(process: Process) -> str:
    output, errors = await asyncio.wait_for(process.communicate(), TIMEOUT)
    assert process.returncode == 0, errors.decode()
    return output.decode()


async def test_processes_download_a_layer_once(run_directory: Path, registry: Registry) -> None:
    store = run_directory / "store"
    async with pulling(store, registry) as one:
        await asyncio.wait_for(registry.begun.wait(), TIMEOUT)
        async with pulling(store, registry) as two, pulling(store, registry) as three:
            for process in (two, three):
                await said(process, "another process is pulling it")
            registry.gate.set()
            assert len({await ended(process) for process in (one, two, three)}) == 1
    assert registry.downloads == 1
    assert list((store / "pulls").iterdir()) == []


async def test_who_is_killed_lets_others_download(run_directory: Path, registry: Registry) -> None:
    store = run_directory / "store"
    async with pulling(store, registry) as one:
        await asyncio.wait_for(registry.begun.wait(), TIMEOUT)
        async with pulling(store, registry) as two:
            await said(two, "another process is pulling it")
            one.kill()
            await said(two, ": pulling, ")
            registry.gate.set()
            await ended(two)
    assert registry.downloads == 2
    assert list((store / "pulls").iterdir()) == []


async def test_what_a_killed_process_leaves_is_removed(run_directory: Path, registry: Registry) -> None:
    store = ImageStore(run_directory / "store")
    async with pulling(run_directory / "store", registry) as one:
        await asyncio.wait_for(registry.begun.wait(), TIMEOUT)
        await store.images()
        assert len(list((run_directory / "store/pulls").iterdir())) == 1, "it is in use"
        one.kill()
        await one.wait()
    await store.prune([], [])
    await store.close()
    assert list((run_directory / "store/pulls").iterdir()) == []


async def test_turns_come_one_after_the_other(run_directory: Path) -> None:
    """Many at once, of which some are given up while they wait."""
    path, active, waited = run_directory / "turn", 0, 0
    done: list[int] = []

    def wait() -> None:
        nonlocal waited
        waited += 1

    async def take(number: int) -> None:
        nonlocal active
        async with turn(path, wait):
            active += 1
            assert active == 1
            await asyncio.sleep(0)
            active -= 1
            done.append(number)

    tasks = [asyncio.create_task(take(number)) for number in range(20)]
    await asyncio.sleep(0)
    for task in tasks[5:10]:
        task.cancel()
    async with asyncio.timeout(TIMEOUT):
        await asyncio.gather(*tasks, return_exceptions=True)
    assert [task.cancelled() for task in tasks] == [5 <= number < 10 for number in range(20)]
    assert len(done) == 15
    assert waited > 0
    assert not path.exists()


async def test_what_is_left_of_a_turn_keeps_nobody(run_directory: Path) -> None:
    path = run_directory / "turn"
    os.mkfifo(path)
    async with turn(path, lambda: pytest.fail("nobody has it")):
        remove_abandoned(path)
        assert path.exists(), "somebody has it"
    os.mkfifo(path)
    remove_abandoned(path)
    remove_abandoned(path)
    assert not path.exists()
