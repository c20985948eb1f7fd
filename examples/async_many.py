"""Twenty containers at once in one event loop, and what each of them used. Needs root on Linux."""

import asyncio
import tempfile
from pathlib import Path

from mesocosm import MesosContainerizer
from mesocosm.container import CommandInfo, ContainerConfig, ContainerID, Resources, Termination
from mesocosm.flags import Flags

ISOLATION = "filesystem/linux,namespaces/pid,namespaces/ipc,cgroups/cpu,cgroups/mem,cgroups/pids"
COUNT = 20


async def run_one(containerizer: MesosContainerizer, number: int) -> Termination:
    container_id = ContainerID(f"worker-{number}")
    config = ContainerConfig(
        command=CommandInfo(f"echo number {number} > result; exit {number % 3}"),
        resources=Resources(cpus=0.5, mem=64 << 20, pids=50),
    )
    await containerizer.launch(container_id, config)
    return await containerizer.wait(container_id)


async def main(directory: Path) -> None:
    flags = Flags(
        work_dir=directory / "work",
        runtime_dir=directory / "run",
        isolation=ISOLATION,
        cgroups_root=f"mesocosm-{directory.name}",
    )
    async with MesosContainerizer(flags) as containerizer:
        ends = await asyncio.gather(*(run_one(containerizer, number) for number in range(COUNT)))
    statuses = [end.exit_status for end in ends]
    results = sorted((directory / "work").glob("containers/*/result"))
    print(f"{len(results)} containers, exit statuses {statuses}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        asyncio.run(main(Path(temporary)))
