"""The process that launches a container is killed at every point of the launch: the next one leaves nothing of it."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from mesocosm.container import CommandInfo, ContainerConfig, ContainerID
from mesocosm.containerizer.mesos import MesosContainerizer
from mesocosm.flags import Flags
from tests.faults import caller
from tests.faults.support import arguments
from tests.launching import LINUX, TIMEOUT

pytestmark = pytest.mark.kernel
X = ContainerID("x")
CGROUPS = f"{LINUX},cgroups/cpu,cgroups/mem,cgroups/pids"

# The steps of a launch, in order: what is on disk and what is made changes at each of them.
STEPS = [
    "containerizer.checkpoint:Checkpoints.create",
    "containerizer.launching:open_sandbox",
    "isolators.filesystem.linux:LinuxFilesystemIsolator.prepare",
    "isolators.namespaces.ipc:IpcNamespaceIsolator.prepare",
    "isolators.cgroups.mem:MemIsolator.prepare",
    "launcher.linux:LinuxLauncher.fork",
    "launcher.client:LauncherProcess.fork",
    "launcher.base:InitProcess.of_child",
    "isolators.cgroups.mem:MemIsolator.isolate",
    "containerizer.checkpoint:Checkpoints.write_launched",
    "launcher.channel:Channel.release",
    "launcher.channel:Channel.report",
]
LAST_STEPS = [
    "containerizer.checkpoint:Checkpoints.write_termination",
    "launcher.linux:LinuxLauncher.destroy",
    "isolators.cgroups.mem:MemIsolator.cleanup",
    "isolators.namespaces.ipc:IpcNamespaceIsolator.cleanup",
    "containerizer.checkpoint:Checkpoints.forget_launched",
    "containerizer.checkpoint:Checkpoints.remove",
]


def kill_caller(flags: Flags, moment: str, rootfs: Path | None, command: str = caller.COMMAND) -> None:
    done = subprocess.run(arguments(flags, moment, rootfs, command), check=False, capture_output=True, timeout=TIMEOUT)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


async def recovered(flags: Flags, known: list[ContainerID] | None) -> set[ContainerID]:
    """Recovers, tries whether the id can be used again, and leaves nothing."""
    async with MesosContainerizer(flags) as containerizer:
        await asyncio.wait_for(containerizer.recover(known), TIMEOUT)
        found = await containerizer.containers()
        await asyncio.wait_for(containerizer.destroy(X), TIMEOUT)
        if known is None and (flags.runtime_dir / "containers" / "x").exists():
            await containerizer.remove(X)
        await asyncio.wait_for(containerizer.launch(X, ContainerConfig(CommandInfo("exit 7"))), TIMEOUT)
        assert (await asyncio.wait_for(containerizer.wait(X), TIMEOUT)).exit_status == 7
        await containerizer.remove(X)
    return found


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_killed_in_a_launch(flags: Flags, rootfs: Path, step: str, when: str) -> None:
    flags = replace(flags, isolation=CGROUPS)
    kill_caller(flags, f"{when} {step}", rootfs)
    known = None if when == "before" else []
    running = await recovered(flags, known)
    assert running <= {X}


@pytest.mark.parametrize("step", LAST_STEPS)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_killed_while_it_takes_a_container_apart(flags: Flags, rootfs: Path, step: str, when: str) -> None:
    flags = replace(flags, isolation=CGROUPS)
    kill_caller(flags, f"{when} {step}", rootfs, "exit 5")
    async with MesosContainerizer(flags) as containerizer:
        await asyncio.wait_for(containerizer.recover(), TIMEOUT)
        if (flags.runtime_dir / "containers" / "x").exists():
            assert (await asyncio.wait_for(containerizer.wait(X), TIMEOUT)).exit_status == 5, "its status is not lost"
            await containerizer.remove(X)


@pytest.mark.parametrize("step", [step for step in STEPS if "linux" not in step and "isolators" not in step])
async def test_killed_in_a_launch_without_isolation(flags: Flags, step: str) -> None:
    flags = replace(flags, isolation="filesystem/posix", launcher="posix")
    kill_caller(flags, f"after {step}", None)
    await recovered(flags, None)
