"""`disk/du` against containers that fill their sandboxes and volumes."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import mesocosm
from mesocosm.container import ImageRequest, PersistentVolume, Resources
from mesocosm.errors import FlagError
from mesocosm.flags import Flags
from mesocosm.isolators.disk.du import DuIsolator
from mesocosm.statistics import ResourceStatistics
from tests.agent_process import AgentProcess
from tests.command_line import CommandLine
from tests.image_store import DirectoryStore, image
from tests.launching import LINUX, TIMEOUT, Launch

pytestmark = pytest.mark.kernel
MB = 1 << 20
ISOLATION = f"{LINUX},disk/du"
QUICKLY = 0.05
FILL = "head -c 2000000 /dev/urandom > {}; echo written; read -r end"
VOLUME = PersistentVolume("id1", "role1/part", MB, "data", principal="me")


async def until(
    usage: Callable[[], Awaitable[ResourceStatistics]], holds: Callable[[ResourceStatistics], bool]
) -> ResourceStatistics:
    """What is used, once that holds."""
    deadline = time.monotonic() + TIMEOUT
    while not holds(found := await usage()):
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.02)  # Of a measurement there is no event.
    return found


def held(usage: ResourceStatistics) -> list[int]:
    """What each directory holds, as far as it is known."""
    return [disk.used_bytes or 0 for disk in usage.disk_statistics or ()]


async def test_what_a_sandbox_holds_is_measured(launch: Launch) -> None:
    containerizer = launch.containerizer(ISOLATION, container_disk_watch_interval=QUICKLY)
    container = await launch.talking(FILL.format("file"), isolation=ISOLATION, resources=Resources(disk=MB))
    assert await container.line() == "written"
    found = await until(
        lambda: containerizer.usage(container.container_id), lambda usage: (usage.disk_used_bytes or 0) >= 2_000_000
    )
    assert found.disk_limit_bytes == MB
    assert found.disk_used_bytes is not None
    assert found.disk_used_bytes < 2_100_000
    assert found.disk_statistics is not None
    [sandbox] = found.disk_statistics
    assert (sandbox.id, sandbox.limit_bytes, sandbox.used_bytes) == (None, MB, found.disk_used_bytes)
    container.say("end")
    assert await container.wait() == 0, "without enforcement it may use more"


@pytest.mark.parametrize("isolation", [ISOLATION, "filesystem/posix,disk/du"])
async def test_a_container_that_uses_too_much_ends(launch: Launch, isolation: str) -> None:
    launch.containerizer(isolation, container_disk_watch_interval=QUICKLY, enforce_container_disk_quota=True)
    container = await launch.talking(FILL.format("file"), isolation=isolation, resources=Resources(disk=MB))
    termination = await container.termination()
    assert termination.exit_status == 137
    assert (termination.reason, termination.limited_resource) == ("REASON_CONTAINER_LIMITATION_DISK", "disk")
    assert termination.limited_amount is not None
    assert termination.limited_amount >= 2_000_000
    assert termination.message is not None
    assert termination.message.startswith("Disk usage (")
    assert termination.message.endswith(f") exceeds quota (1MB) in '{container.sandbox}'")


async def test_a_container_that_uses_less_goes_on(launch: Launch) -> None:
    launch.containerizer(ISOLATION, container_disk_watch_interval=QUICKLY, enforce_container_disk_quota=True)
    container = await launch.talking(FILL.format("file"), isolation=ISOLATION, resources=Resources(disk=3 * MB))
    await until(
        lambda: container.containerizer.usage(container.container_id),
        lambda usage: (usage.disk_used_bytes or 0) >= 2_000_000,
    )
    container.say("end")
    assert await container.wait() == 0


async def test_a_command_that_is_faster_than_the_interval(launch: Launch) -> None:
    launch.containerizer(ISOLATION, container_disk_watch_interval=3600.0, enforce_container_disk_quota=True)
    script = "sleep 0.5; head -c 2000000 /dev/zero > file"
    container = await launch(script, isolation=ISOLATION, resources=Resources(disk=MB))
    assert (await container.termination()).limited_resource == "disk"
    free = await launch(script, isolation=ISOLATION)
    assert await free.wait() == 0


async def test_more_can_be_given_to_a_container_that_runs(launch: Launch) -> None:
    launch.containerizer(ISOLATION, container_disk_watch_interval=QUICKLY, enforce_container_disk_quota=True)
    script = f"read -r go; {FILL.format('file')}"
    container = await launch.talking(script, isolation=ISOLATION, resources=Resources(disk=MB))
    await container.containerizer.update(container.container_id, Resources(disk=8 * MB), Resources())
    container.say("go")
    assert await container.line() == "written"
    found = await until(
        lambda: container.containerizer.usage(container.container_id),
        lambda usage: (usage.disk_used_bytes or 0) >= 2_000_000,
    )
    assert found.disk_limit_bytes == 8 * MB
    await container.containerizer.update(container.container_id, Resources(disk=MB), Resources())
    assert (await container.termination()).limited_resource == "disk"


async def test_a_persistent_volume_has_a_size_of_its_own(launch: Launch) -> None:
    launch.containerizer(ISOLATION, container_disk_watch_interval=QUICKLY, enforce_container_disk_quota=True)
    container = await launch.talking(
        FILL.format("data/file"), isolation=ISOLATION, resources=Resources(disk=8 * MB), persistent_volumes=(VOLUME,)
    )
    path = launch.flags.work_dir / "volumes/roles/role1 part/id1"
    termination = await container.termination()
    assert termination.message is not None
    assert termination.message.endswith(f") exceeds quota (1MB) for volume 'id1' in '{path}'")
    assert (path / "file").stat().st_size == 2_000_000, "it outlives the container"


async def test_a_volume_is_not_part_of_the_sandbox(launch: Launch) -> None:
    launch.containerizer(ISOLATION, container_disk_watch_interval=QUICKLY, enforce_container_disk_quota=True)
    volume = replace(VOLUME, size=8 * MB)
    container = await launch.talking(
        FILL.format("data/file"), isolation=ISOLATION, resources=Resources(disk=MB), persistent_volumes=(volume,)
    )
    found = await until(
        lambda: container.containerizer.usage(container.container_id),
        lambda usage: usage.disk_used_bytes is not None and max(held(usage)) >= 2_000_000,
    )
    assert found.disk_statistics is not None
    data, sandbox = found.disk_statistics
    assert (data.id, data.principal, data.limit_bytes) == ("id1", "me", 8 * MB)
    assert sandbox.used_bytes is not None
    assert sandbox.used_bytes < MB
    container.say("end")
    assert await container.wait() == 0


async def test_what_a_nested_container_holds_counts_for_its_parent(launch: Launch) -> None:
    launch.containerizer(ISOLATION, container_disk_watch_interval=QUICKLY, enforce_container_disk_quota=True)
    parent = await launch.sleeping(isolation=ISOLATION, resources=Resources(disk=MB))
    nested = await launch.talking(FILL.format("file"), parent=parent)
    assert (await parent.containerizer.usage(nested.container_id)).disk_used_bytes is None
    assert (await parent.termination()).limited_resource == "disk"


@pytest.mark.parametrize("nested", [False, True])
async def test_what_is_changed_of_an_image_counts_with_the_sandbox(
    launch: Launch, rootfs: Path, store: DirectoryStore, nested: bool
) -> None:
    """That of a nested container, too, until it ends."""
    store.add(image("box", rootfs))
    isolation = f"{ISOLATION},docker/runtime"
    images = {"image_providers": ("docker",), "image_provisioner_backend": "overlay"}
    launch.containerizer(
        isolation, **images, container_disk_watch_interval=QUICKLY, enforce_container_disk_quota=not nested
    )
    options: dict[str, Any] = {"isolation": isolation, "resources": Resources(disk=MB)}
    script = FILL.format("/file")
    if not nested:
        container = await launch.talking(script, image=ImageRequest("box"), **options)
        assert (await container.termination()).limited_resource == "disk"
        return
    parent = await launch.sleeping(**options)
    child = await launch.talking(script, parent=parent, image=ImageRequest("box"))
    for ends, expected in ((False, True), (True, False)):
        if ends:
            await child.destroy()
        await until(
            lambda: parent.containerizer.usage(parent.container_id),
            lambda usage, expected=expected: ((usage.disk_used_bytes or 0) >= 2_000_000) == expected,  # type: ignore[misc]
        )
    await parent.destroy()


async def test_a_container_is_measured_again_after_a_recovery(launch: Launch) -> None:
    launch.containerizer(ISOLATION, container_disk_watch_interval=QUICKLY, enforce_container_disk_quota=True)
    script = f"read -r go; {FILL.format('file')}"
    container = await launch.talking(script, isolation=ISOLATION, resources=Resources(disk=MB))
    container.containerizer = await launch.successor()
    container.say("go")
    assert (await container.termination()).limited_resource == "disk"


async def test_a_hostile_sandbox(launch: Launch) -> None:
    """As nobody: what only root may read, what blocks who opens it, links to the host, and depth."""
    launch.containerizer(ISOLATION, container_disk_watch_interval=QUICKLY, enforce_container_disk_quota=True)
    script = (
        "mkfifo fifo; ln -s / host; ln -s . self; mkdir secret; head -c 2000000 /dev/urandom > secret/file;"
        "chmod 0 secret; i=0; while [ $i -lt 1000 ]; do mkdir dddddddd; cd dddddddd; i=$((i+1)); done; read -r end"
    )
    container = await launch.talking(script, isolation=ISOLATION, user="nobody", resources=Resources(disk=6 * MB))
    found = await until(
        lambda: container.containerizer.usage(container.container_id),
        lambda usage: (usage.disk_used_bytes or 0) >= 2_000_000,
    )
    assert (found.disk_used_bytes or 0) < 7 * MB
    await container.destroy()


async def test_the_process_that_measures_ends_with_the_containerizer(launch: Launch) -> None:
    """Which the fixture of all kernel tests looks for, too. Its walks end with the container."""
    container = await launch.sleeping(isolation=ISOLATION)
    [isolator] = [each for each in container.containerizer._isolation if isinstance(each, DuIsolator)]
    await until(lambda: isolator.usage(container.container_id), lambda usage: usage.disk_used_bytes is not None)
    process = isolator._measuring._process
    assert process is not None
    assert Path(f"/proc/{process.pid}").exists()
    await container.destroy()
    assert isolator._tasks == {}
    await launch.successor()
    assert not Path(f"/proc/{process.pid}").exists()


async def test_a_walk_that_takes_long_is_never_begun_twice_and_ends_with_its_container(launch: Launch) -> None:
    """As one of very many names would. The process that measures is stopped here."""
    containerizer = launch.containerizer(ISOLATION, container_disk_watch_interval=0.01)
    container = await launch.sleeping(isolation=ISOLATION)
    other = await launch.sleeping(isolation=ISOLATION)
    [isolator] = [each for each in containerizer._isolation if isinstance(each, DuIsolator)]
    for each in (container, other):
        await until(
            functools.partial(isolator.usage, each.container_id), lambda usage: usage.disk_used_bytes is not None
        )
    process = isolator._measuring._process
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)
    number = next(isolator._measuring._numbers)
    await asyncio.sleep(0.2)  # Many intervals.
    assert next(isolator._measuring._numbers) - number <= 3, "at most one for each of both"
    assert len(isolator._measuring._pending) == 2
    await container.destroy()
    assert len(isolator._measuring._pending) == 1
    os.kill(process.pid, signal.SIGCONT)
    await other.destroy()
    assert isolator._measuring._pending == {}


def test_an_interval_of_nothing_is_refused() -> None:
    with pytest.raises(FlagError, match="--container_disk_watch_interval is 0"):
        DuIsolator.create(Flags(container_disk_watch_interval=0))


def resources(megabytes: float) -> list[dict[str, object]]:
    return [{"name": "disk", "type": "SCALAR", "scalar": {"value": megabytes}}]


def test_the_statistics_of_the_agent_and_a_limitation_after_kill_9(agent: AgentProcess) -> None:
    flags = ("--container_disk_watch_interval=50ms", "--enforce_container_disk_quota")
    agent.start(*flags, isolation=f"{LINUX},posix/disk")
    assert (
        agent.launch(
            "web",
            "while [ ! -e go ]; do sleep 0.05; done; head -c 2000000 /dev/urandom > file; sleep 60",
            resources=resources(1),
        ).status
        == 200
    )
    deadline = time.monotonic() + TIMEOUT
    while "disk_used_bytes" not in (found := agent.get("/monitor/statistics").json[0]["statistics"]):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert found["disk_limit_bytes"] == MB
    assert found["disk_statistics"] == [{"limit_bytes": MB, "used_bytes": found["disk_used_bytes"]}]
    os.kill(agent.pid, 9)
    agent.wait()
    agent.start(*flags, isolation=f"{LINUX},disk/du")
    (agent.sandbox("web") / "go").touch()
    ended = agent.wait_for("web")
    assert (ended["state"], ended["reason"]) == ("TASK_FAILED", "REASON_CONTAINER_LIMITATION_DISK")
    [limited] = ended["limitation"]["resources"]
    assert limited["name"] == "disk"
    assert limited["scalar"]["value"] > 1, "what there was when it was seen, of a file that grew"


def test_the_command_line(run_directory: Path, unique_name: str) -> None:
    command_line = CommandLine(run_directory, unique_name)
    script = ("--", "sh", "-c", "head -c 3000000 /dev/urandom > file; sleep 60")
    done = command_line.run("--disk", "1MB", *script)
    assert done.returncode == 137
    assert done.stderr.startswith(b"mesocosm: Disk usage (")
    assert b"exceeds quota (1MB) in '" in done.stderr
    assert command_line.run("--disk", "8MB", "--", "sh", "-c", "head -c 3000000 /dev/zero > file").returncode == 0
    refused = command_line.run("--disk", "1MB", "--isolation", LINUX, "--", "true")
    assert refused.returncode == 125
    assert b"--disk needs the isolator disk/du, which is not in use here; add it to --isolation" in refused.stderr
    assert command_line.left() == []


def test_the_library() -> None:
    try:
        result = mesocosm.run("head -c 3000000 /dev/urandom > file", disk="1MB")
        assert (result.limit, result.ok) == ("disk", False)
        assert mesocosm.run("head -c 3000000 /dev/urandom > file", disk="8MB").ok
    finally:
        from mesocosm.oneshot import runner

        runner.close()
