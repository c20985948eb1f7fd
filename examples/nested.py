"""A container in a container: it shares its parent's network, and ends with it. Needs root on Linux."""

import asyncio
import tempfile
from pathlib import Path

from mesocosm import MesosContainerizer
from mesocosm.container import CommandInfo, ContainerConfig, ContainerID
from mesocosm.flags import Flags


async def main(directory: Path) -> None:
    flags = Flags(
        work_dir=directory / "work",
        runtime_dir=directory / "run",
        isolation="filesystem/linux,namespaces/pid",
        cgroups_root=f"mesocosm-{directory.name}",
    )
    async with MesosContainerizer(flags) as containerizer:
        parent = ContainerID("parent")
        await containerizer.launch(parent, ContainerConfig(CommandInfo("sleep 60")))

        child = ContainerID("child", parent)
        await containerizer.launch(child, ContainerConfig(CommandInfo("echo I am process $$ > whoami")))
        end = await containerizer.wait(child)
        sandbox = directory / "work/containers/parent/containers/child"
        print(f"{child} ended with {end.exit_status}: {(sandbox / 'whoami').read_text().strip()}")

        other = ContainerID("other", parent)
        await containerizer.launch(other, ContainerConfig(CommandInfo("sleep 60")))
        await containerizer.destroy(parent)
        end = await containerizer.wait(other)
        print(f"{other} ended with its parent: {end.exit_status}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        asyncio.run(main(Path(temporary)))
