"""pymesos, a client that others wrote for Mesos, against the agent: every method of its driver for agents."""

from __future__ import annotations

import base64
import importlib
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agent_process import AgentProcess, identity

pytestmark = pytest.mark.kernel

SECOND = 1_000_000_000
PROVIDER = {"type": "org.example", "name": "x"}
UNSERVED: dict[str, tuple[Any, ...]] = {
    "addResourceProviderConfig": (PROVIDER,),
    "updateResourceProviderConfig": (PROVIDER,),
    "removeResourceProviderConfig": ("org.example", "x"),
}
"""Methods for calls that this version does not serve, and arguments."""
BROKEN = {"attachContainerInput"}
"""Encodes its records as a JSON string, and calls that application/json: no agent understands it."""


@pytest.fixture
def driver_of(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[AgentProcess], Any]]:
    """Makes a driver for an agent. It takes over SIGINT when it is imported, and gives it back here."""
    monkeypatch.syspath_prepend(Path(__file__).with_name("stand_in"))
    handler = signal.getsignal(signal.SIGINT)
    loaded = set(sys.modules)
    try:
        try:
            pymesos = importlib.import_module("pymesos")
        except ImportError as error:
            pytest.skip(f"needs pymesos, which cannot be imported: {error}")
        yield lambda agent: pymesos.MesosOperatorAgentDriver(f"{agent.host}:{agent.port}")
    finally:
        signal.signal(signal.SIGINT, handler)
        for name in set(sys.modules) - loaded:
            if name.partition(".")[0] in ("pymesos", "http_parser"):
                del sys.modules[name]


def test_what_the_agent_is(agent: AgentProcess, driver_of: Callable[[AgentProcess], Any]) -> None:
    agent.start()
    driver = driver_of(agent)
    assert driver.getHealth() == {"type": "GET_HEALTH", "get_health": {"healthy": True}}
    assert {"name": "work_dir", "value": str(agent.flags.work_dir)} in driver.getFlags()["get_flags"]["flags"]
    assert driver.getVersion()["get_version"]["version_info"]["version"] == agent.get("/version").json["version"]
    metrics = driver.getMetrics(5 * SECOND)["get_metrics"]["metrics"]
    assert {"name": "slave/registered", "value": 0.0} in metrics
    driver.setLoggingLevel(2, 60 * SECOND)
    assert driver.getLoggingLevel()["get_logging_level"] == {"level": 2}
    driver.setLoggingLevel(0, 0)
    assert driver.getLoggingLevel()["get_logging_level"] == {"level": 0}
    tasks = driver.getTasks()["get_tasks"]
    executors = driver.getExecutors()["get_executors"]
    frameworks = driver.getFrameworks()["get_frameworks"]
    assert [*tasks.values(), *executors.values(), *frameworks.values()] == [[]] * 9
    state = {"get_tasks": tasks, "get_executors": executors, "get_frameworks": frameworks}
    assert driver.getState() == {"type": "GET_STATE", "get_state": state}
    driver.pruneImages()
    driver.pruneImages([{"type": "DOCKER", "docker": {"name": "mysql:latest"}}])


def test_nested_containers(agent: AgentProcess, driver_of: Callable[[AgentProcess], Any]) -> None:
    agent.start()
    driver = driver_of(agent)
    assert agent.launch("top", "sleep 1000").status == 200
    kid = {"container_id": identity("kid", "top"), "command": {"value": "echo hello; exec sleep 1000"}}
    driver.launchNestedContainer(kid)
    assert driver.getContainers() == {"type": "GET_CONTAINERS"}
    assert names(driver.getContainers(show_nested=True)) == {"kid"}
    assert names(driver.getContainers(show_standalone=True)) == {"top"}
    assert names(driver.getContainers(show_nested=True, show_standalone=True)) == {"top", "kid"}
    driver.killNestedContainer("kid", "top")
    driver.waitNestedContainer("kid", "top")
    assert names(driver.getContainers(show_nested=True)) == set()
    directory = "/containers/top/containers/kid"
    files = driver.listFiles(directory)["list_files"]["file_infos"]
    assert {file["path"]: file["size"] for file in files} == {f"{directory}/stdout": 6, f"{directory}/stderr": 0}
    read = driver.readFile(f"{directory}/stdout", 3, 1)["read_file"]
    assert (base64.b64decode(read["data"]), read["size"]) == (b"ell", 6)
    for _ in range(2):  # As in Mesos, what is not there is removed.
        driver.removeNestedContainer("kid", "top")
    for method in (driver.waitNestedContainer, driver.killNestedContainer):
        with pytest.raises(RuntimeError, match="code=404"):
            method("kid", "top")
    with pytest.raises(RuntimeError, match="code=400"):
        driver.killNestedContainer("kid")


def test_output(agent: AgentProcess, driver_of: Callable[[AgentProcess], Any]) -> None:
    """The driver waits for the end of a stream, and throws it away."""
    agent.start()
    driver = driver_of(agent)
    assert agent.launch("top", "sleep 1000").status == 200
    driver.launchNestedContainerSession({"container_id": identity("kid", "top"), "command": {"value": "exit 3"}})
    assert names(driver.getContainers(show_nested=True)) == set()
    assert agent.launch("brief", "sleep 1").status == 200
    driver.attachContainerOutput("brief")
    agent.wait_for("brief")


def test_what_is_not_served(agent: AgentProcess, driver_of: Callable[[AgentProcess], Any]) -> None:
    agent.start()
    driver = driver_of(agent)
    for name, arguments in UNSERVED.items():
        with pytest.raises(RuntimeError, match="code=501"):
            getattr(driver, name)(*arguments)
    with pytest.raises(RuntimeError, match="code=400"):
        driver.attachContainerInput("top", [])
    source = Path(__file__).read_text()
    methods = {name for name in dir(driver) if not name.startswith("_")} - {"init"} - UNSERVED.keys() - BROKEN
    assert {name for name in methods if f"driver.{name}" not in source} == set()


def names(answer: dict[str, Any]) -> set[str]:
    """The containers in an answer."""
    return {entry["container_id"]["value"] for entry in answer.get("get_containers", {}).get("containers", [])}
