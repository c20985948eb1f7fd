"""What the agent tells of its containers as a number."""

from __future__ import annotations

from pathlib import Path

from mesocosm.agent.agent import Agent
from mesocosm.agent.flags.loading import load
from mesocosm.container import CommandInfo, ContainerConfig, ContainerID


class Running:
    """A containerizer in which these containers run; of one that just ends there is no config."""

    def __init__(self, configs: dict[str, ContainerConfig | None]) -> None:
        self._configs = {ContainerID(name): config for name, config in configs.items()}

    async def containers(self) -> set[ContainerID]:
        return set(self._configs)

    def config(self, container_id: ContainerID) -> ContainerConfig | None:
        return self._configs[container_id]


async def test_containers_with_a_root_file_system_are_counted(tmp_path: Path) -> None:
    flags = [
        f"--work_dir={tmp_path}/work",
        f"--runtime_dir={tmp_path}/run",
        "--launcher=posix",
        "--isolation=posix/cpu",
    ]
    agent = Agent(load(flags, {}))
    command = CommandInfo("true")
    running = {"a": ContainerConfig(command), "b": ContainerConfig(command, rootfs=tmp_path), "c": None}
    agent.containerizer = Running(running)  # type: ignore[assignment]
    assert await agent.containers_with_rootfs() == 1
