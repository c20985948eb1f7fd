"""What the agent tells of its containers."""

from __future__ import annotations

from pathlib import Path

from mesocosm.agent.agent import Agent
from mesocosm.agent.counts import add_agent_metrics
from mesocosm.agent.flags.loading import load
from mesocosm.agent.metrics import Metrics
from mesocosm.container import CommandInfo, ContainerConfig, ContainerID, ContainerStatus
from mesocosm.errors import ContainerError
from mesocosm.statistics import ResourceStatistics
from tests.third_party import ISOLATOR, ThirdParty


class Running:
    """A containerizer in which these containers run; of one that just ends there is no config."""

    def __init__(self, configs: dict[str, ContainerConfig | None]) -> None:
        self._configs = {ContainerID(name): config for name, config in configs.items()}

    async def containers(self) -> set[ContainerID]:
        return set(self._configs)

    def config(self, container_id: ContainerID) -> ContainerConfig | None:
        return self._configs[container_id]


class Unmeasured(Running):
    async def status(self, container_id: ContainerID) -> ContainerStatus:
        return ContainerStatus(container_id)

    async def usage(self, container_id: ContainerID) -> ResourceStatistics:
        raise ContainerError(f"{container_id} has no pid yet")


def agent_in(directory: Path, isolation: str = "posix/cpu") -> Agent:
    flags = [f"--work_dir={directory}/work", f"--runtime_dir={directory}/run", "--launcher=posix"]
    return Agent(load([*flags, f"--isolation={isolation}"], {}))


async def test_containers_with_a_root_file_system_are_counted(tmp_path: Path) -> None:
    agent = agent_in(tmp_path)
    command = CommandInfo("true")
    running = {"a": ContainerConfig(command), "b": ContainerConfig(command, rootfs=tmp_path), "c": None}
    agent.containerizer = Running(running)  # type: ignore[assignment]
    assert await agent.containers_with_rootfs() == 1


async def test_a_container_of_which_nobody_can_tell_what_it_uses(tmp_path: Path) -> None:
    """As one of Docker, before Docker tells where it is."""
    agent = agent_in(tmp_path)
    agent.containerizer = Unmeasured({"a": ContainerConfig(CommandInfo("true"))})  # type: ignore[assignment]
    (found,) = await agent.observe()
    assert found.status == ContainerStatus(ContainerID("a"))
    assert found.statistics is None


async def test_numbers_that_isolators_have(tmp_path: Path, third_party: ThirdParty) -> None:
    """As `disk/xfs` has some, of its projects."""
    body = """create = classmethod(lambda cls, flags: cls())
    left = 3
    def gauges(self):
        return {"mine/left": lambda: self.left}"""
    third_party("mine/one", ISOLATOR.format(body=body))
    agent = agent_in(tmp_path, "posix/cpu,mine/one")
    await agent.start()
    try:
        metrics = Metrics()
        add_agent_metrics(metrics, agent)
        assert (await metrics.snapshot())["mine/left"] == 3
    finally:
        await agent.close()
