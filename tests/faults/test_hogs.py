"""Commands that want too much, or do not want to end: a clean termination, and nothing left."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mesocosm.container import Resources, Volume
from mesocosm.linux import cgroup
from tests.launching import LINUX, Launch

pytestmark = pytest.mark.kernel
MB = 1 << 20
BOMB = "bomb() { bomb | bomb & }; echo up; bomb 2>/dev/null; while :; do sleep 1; done"


@pytest.mark.parametrize("isolation", [f"{LINUX},cgroups/pids", "filesystem/linux,cgroups/pids"])
async def test_a_fork_bomb(launch: Launch, rootfs: Path, isolation: str) -> None:
    container = await launch.talking(BOMB, isolation=isolation, rootfs=rootfs, resources=Resources(pids=50))
    assert await container.line() == "up"
    usage = await launch.containerizer().usage(container.container_id)
    assert (usage.threads or 0) <= 50
    termination = await container.destroy()
    assert termination is not None
    assert termination.exit_status == 137


@pytest.mark.parametrize("limited", [True, False])
async def test_a_memory_hog(launch: Launch, rootfs: Path, limited: bool) -> None:
    script = "dd if=/dev/zero of=/dev/null bs=64M count=1"
    resources = Resources(mem=32 * MB) if limited else Resources()
    container = await launch(script, isolation=f"{LINUX},cgroups/mem", rootfs=rootfs, resources=resources)
    termination = await container.termination()
    if not limited:
        assert (termination.exit_status, termination.reason) == (0, None)
        return
    assert termination.reason == "REASON_CONTAINER_LIMITATION_MEMORY"
    assert "32" in (termination.message or "")
    assert termination.limited_resource is not None


@pytest.mark.parametrize("isolation", ["filesystem/linux,namespaces/pid", "filesystem/linux"])
@pytest.mark.parametrize("below", ["", "own"])
async def test_a_container_that_freezes_itself(launch: Launch, rootfs: Path, isolation: str, below: str) -> None:
    """In a freezer cgroup that it was given, or in one that it has made there."""
    if (freezer := cgroup.hierarchies().freezer) is None:
        pytest.skip("there is no freezer of cgroup v1 here")
    group = Path(freezer.group(launch.flags.cgroups_root))
    group.mkdir()
    script = (
        f"cd /freezer/c1; mkdir -p ./{below}; (sleep 60 & echo $! > ./{below}/tasks); echo up; read -r go; "
        f"echo $$ > ./{below}/tasks; echo FROZEN > ./{below}/freezer.state"
    )
    volumes = (Volume("/freezer", str(group)),)
    container = await launch.talking(script, isolation=isolation, rootfs=rootfs, volumes=volumes)
    assert await container.line() == "up"
    container.say("go")
    state = group / "c1" / below / "freezer.state"
    while "THAWED" in state.read_text():  # noqa: ASYNC110
        await asyncio.sleep(0)  # The freezer tells nobody of a change.
    termination = await container.destroy()
    assert termination is not None
    assert termination.exit_status == 137
