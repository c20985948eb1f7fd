"""A containerizer for one container: the isolators that it leaves out have nothing to do for that."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesocosm.container import CommandInfo, ContainerConfig, ContainerID, Volume
from mesocosm.containerizer.mesos import MesosContainerizer
from mesocosm.errors import ContainerError
from mesocosm.flags import Flags
from mesocosm.isolators.concerns import CONDITIONAL, concerns
from mesocosm.isolators.selection import find
from mesocosm.launcher.info import LaunchInfo
from mesocosm.statistics import ResourceStatistics

pytestmark = pytest.mark.kernel
X = ContainerID("x")
PLAIN = ContainerConfig(CommandInfo("true"))
ISOLATION = "filesystem/linux,namespaces/pid"


@pytest.mark.parametrize("name", sorted(CONDITIONAL))
async def test_one_that_is_left_out_would_do_nothing(name: str, tmp_path: Path) -> None:
    assert not concerns(name, PLAIN)
    flags = Flags(work_dir=tmp_path, runtime_dir=tmp_path, docker_volume_checkpoint_dir=tmp_path / "volumes")
    isolator = find(name).create(flags)
    before = sorted(tmp_path.rglob("*"))
    assert await isolator.complete(X, PLAIN) == PLAIN
    assert await isolator.prepare(X, PLAIN) in (None, LaunchInfo())
    await isolator.isolate(X, 1)
    assert not isolator.joins(X)
    assert isolator.watch(X) is None
    assert await isolator.usage(X) == ResourceStatistics()
    assert sorted(tmp_path.rglob("*")) == before
    await isolator.cleanup(X)
    await isolator.close()


async def test_it_launches_that_one_only(tmp_path: Path, unique_name: str) -> None:
    volume = Volume(str(tmp_path / "there"), str(tmp_path))
    flags = Flags(
        work_dir=tmp_path / "work", runtime_dir=tmp_path / "run", isolation=ISOLATION, cgroups_root=unique_name
    )
    async with MesosContainerizer(flags, sole=PLAIN) as containerizer:
        assert containerizer.isolation == ["filesystem/linux", "namespaces/pid"]
        with pytest.raises(ContainerError, match="not the container that this containerizer is for"):
            await containerizer.launch(X, ContainerConfig(CommandInfo("true"), volumes=(volume,)))
        await containerizer.launch(X, PLAIN)
        assert (await containerizer.wait(X)).exit_status == 0
