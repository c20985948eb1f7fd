"""What the agent tells of frameworks, executors and tasks: with the keys and the types that a real one of Mesos has."""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mesocosm.api import internal, v1
from mesocosm.errors import ContainerError
from mesocosm.flags import Flags
from tests.command_line import TIMEOUT
from tests.networks import Networks, networks_in
from tests.task_agent import (
    AGENT_ID,
    FRAMEWORK_ID,
    Master,
    command_task,
    executor_info,
    running_agent,
    scalars,
    task_info,
)
from tests.task_groups import run, task
from tests.unit import recorded

pytestmark = pytest.mark.kernel

_NET_CLS = "cgroup_info"
"""What only an agent with that isolator has."""


def shape(value: Any) -> Any:
    """The keys and types of JSON; of a list those of its first element."""
    if isinstance(value, dict):
        return {key: shape(entry) for key, entry in value.items() if key != _NET_CLS}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value)


async def ask(master: Master, path: str, call: str | None = None) -> Any:
    """GET of an endpoint, or a call of the v1 API."""
    body = None if call is None else json.dumps({"type": call}).encode()
    url = f"http://{master.agent.tasks.registration.address.authority}{path}"
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})

    def read() -> Any:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            return json.load(answer)

    return await asyncio.to_thread(read)


async def test_answers_have_the_shape_of_those_of_mesos(flags: Flags) -> None:
    async with running_agent(flags) as master:
        resources = scalars(cpus=0.2, mem=64)
        master.run(command_task("t1", "echo hi; exit 0", resources=resources), role="*")
        await master.update("t1", v1.TASK_FINISHED)
        await master.gone()
        master.run(command_task("t2", "sleep 1000", resources=resources), identity="framework-0001", role="*")
        await master.update("t2", v1.TASK_RUNNING)
        state = await ask(master, "/state")
        expected = json.loads(recorded.body("v0_state"))
        for name in ("frameworks", "completed_frameworks"):
            assert shape(state[name]) == shape(expected[name])
        for name in ("GET_TASKS", "GET_EXECUTORS", "GET_FRAMEWORKS"):
            answer = await ask(master, "/api/v1", name)
            known = json.loads(recorded.body(name))
            # The recorded agent had the master's acknowledgement, but not the executor's end.
            known_tasks = known.get("get_tasks", {})
            if known_tasks:
                known_tasks["completed_tasks"], known_tasks["terminated_tasks"] = known_tasks["terminated_tasks"], []
            assert shape(answer) == shape(known)
        (container,) = await ask(master, "/containers")
        (known,) = json.loads(recorded.body("v0_containers"))
        assert container.keys() == known.keys()
        assert (container["executor_id"], container["framework_id"]) == ("t2", "framework-0001")
        (framework,) = state["frameworks"]
        assert framework["executors"][0]["resources"] == {"cpus": 0.3, "mem": 96.0, "disk": 0.0, "gpus": 0.0}
        assert state["unreserved_resources_allocated"] == {"cpus": 0.3, "mem": 96.0, "disk": 0.0, "gpus": 0.0}
        metrics = await ask(master, "/metrics/snapshot")
        chosen = ("tasks_running", "tasks_finished", "executors_running", "executors_terminated", "frameworks_active")
        assert {name: metrics[f"slave/{name}"] for name in chosen} == dict.fromkeys(chosen, 1)
        assert (metrics["slave/cpus_used"], metrics["slave/registered"]) == (0.3, 1)


@pytest.fixture
def networks(run_directory: Path) -> Iterator[Networks]:
    with networks_in(run_directory) as found:
        yield found
        assert found.is_clean(), found.state()


async def test_where_the_packets_of_a_task_go(flags: Flags, legacy: Callable[..., Path], networks: Networks) -> None:
    """Its addresses in a network, and the class that its packets have."""
    networks.describe("blue", networks.bridge())
    arguments = [*networks.arguments, "--cgroups_net_cls_primary_handle=0x1234"]
    controllers = f"--cgroups_hierarchy={legacy('net_cls')}"
    isolation = "filesystem/linux,namespaces/pid,network/cni,cgroups/net_cls"
    container = v1.ContainerInfo(type=v1.ContainerInfo.MESOS, network_infos=[v1.NetworkInfo(name="blue")])
    async with running_agent(flags, *arguments, controllers, isolation=isolation) as master:
        run(master, [task("t1", container=container)])
        status = await master.update("t1", v1.TASK_RUNNING)
        (info,) = status.container_status.network_infos
        assert (info.name, info.ip_addresses[0].ip_address) == ("blue", "10.77.0.2")
        (framework,) = (await ask(master, "/state"))["frameworks"]
        shown = framework["executors"][0]["tasks"][0]["statuses"][-1]["container_status"]
        assert shown["network_infos"][0]["ip_addresses"][0]["ip_address"] == "10.77.0.2"
        assert shown["cgroup_info"] == {"net_cls": {"classid": 0x12340001}}
        (found,) = await ask(master, "/containers")
        assert found["status"]["cgroup_info"] == shown["cgroup_info"]
        master.kill("t1")
        await master.gone()


async def test_a_sandbox_is_shown_and_kept_until_it_is_old(flags: Flags) -> None:
    async with running_agent(flags, "--gc_delay=0secs") as master:
        removed = asyncio.Event()
        framework = flags.work_dir / "slaves" / AGENT_ID / "frameworks" / FRAMEWORK_ID
        master.agent.sandboxes.tell(lambda path: removed.set() if path == framework else None)
        master.run(command_task("t1", "echo hi"))
        executor = master.executor("t1")
        paths = [f"/frameworks/{FRAMEWORK_ID}/executors/t1/runs/latest", str(executor.directory)]
        await master.update("t1", v1.TASK_RUNNING)
        for path in paths:
            found = await ask(master, f"/files/read?path={path}/stdout&offset=0")
            assert "hi\n" in found["data"] or found["data"] == ""
        await master.gone()
        async with asyncio.timeout(TIMEOUT):
            await removed.wait()
        assert not executor.directory.exists()
        assert not any(path in master.agent.sandboxes.files.attached() for path in paths)


async def test_what_an_executor_uses_again_is_kept(flags: Flags) -> None:
    async with running_agent(flags) as master:
        gc = master.agent.sandboxes.gc
        master.run(command_task("t1", "true"))
        left = master.executor("t1").directory.parents[1]
        await master.gone()
        master.run(command_task("t2", "sleep 1000"))
        await master.update("t2", v1.TASK_RUNNING)
        assert not gc.unschedule(left.parents[1]), "the framework's"
        assert gc.unschedule(left)


async def test_an_executor_that_comes_back_waits_until_what_it_has_left_is_gone(
    flags: Flags, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else that would take along what is new."""
    async with running_agent(flags, "--gc_delay=0secs") as master:
        gc, loop = master.agent.sandboxes.gc, asyncio.get_running_loop()
        begun, goes_on = asyncio.Event(), threading.Event()
        executors = flags.work_dir / "slaves" / AGENT_ID / "frameworks" / FRAMEWORK_ID / "executors"
        removal = gc._remove_path

        def slowly(path: Path) -> None:
            if path == executors / "t1":
                loop.call_soon_threadsafe(begun.set)
                goes_on.wait()
            removal(path)

        monkeypatch.setattr(gc, "_remove_path", slowly)
        try:
            master.run(command_task("t1", "true"), checkpoint=True)
            await master.gone()
            await begun.wait()
            master.said.clear()
            master.run(command_task("t1", "sleep 1000"), checkpoint=True)
            executor = master.executor("t1")
            await asyncio.sleep(0)
            assert not executor.directory.exists()
        finally:
            goes_on.set()
        await master.update("t1", v1.TASK_RUNNING)
        assert executor.directory.exists()
        latest = f"/frameworks/{FRAMEWORK_ID}/executors/t1/runs/latest"
        assert {str(executor.directory), latest} <= master.agent.sandboxes.files.attached().keys()


async def test_what_is_said_of_a_task_is_shown(flags: Flags) -> None:
    """Labels of tasks, executors and statuses, and how a task is found."""
    labels = v1.Labels(labels=[v1.Label(key="a", value="1"), v1.Label(key="a", value="2"), v1.Label(key="b")])
    port = v1.Port(number=8888, name="web", protocol="tcp", visibility=v1.DiscoveryInfo.EXTERNAL)
    discovery = v1.DiscoveryInfo(visibility=v1.DiscoveryInfo.CLUSTER, name="found", ports=v1.Ports(ports=[port]))
    async with running_agent(flags) as master:
        executor = executor_info(labels=labels)
        master.run(task_info("t", executor, labels=labels, discovery=discovery), role="*")
        running = await master.update("t", v1.TASK_RUNNING)
        status = v1.TaskStatus()
        status.CopyFrom(running)
        status.uuid, status.message = b"0123456789abcdef", "with labels"
        status.labels.CopyFrom(labels)
        master.agent.tasks.update(FRAMEWORK_ID, "shell", status)
        await master.heard(internal.StatusUpdateMessage, lambda each: each.update.status.message == "with labels")
        state = await ask(master, "/state")
        (shown,) = state["frameworks"][0]["executors"]
        (task_shown,) = shown["tasks"]
        expected = [{"key": "a", "value": "1"}, {"key": "a", "value": "2"}, {"key": "b"}]
        for each in (shown, task_shown, task_shown["statuses"][-1]):
            assert each["labels"] == expected
        assert task_shown["discovery"]["name"] == "found"
        assert task_shown["discovery"]["visibility"] == "CLUSTER"
        (found,) = task_shown["discovery"]["ports"]["ports"]
        assert (found["number"], found["name"], found["visibility"]) == (8888, "web", "EXTERNAL")


async def test_tasks_that_wait_are_shown(flags: Flags) -> None:
    async with running_agent(flags) as master:
        master.run(task_info("t", executor_info(script="sleep 1000")), role="*")
        (shown,) = (await ask(master, "/state"))["frameworks"][0]["executors"]
        assert [each["id"] for each in shown["queued_tasks"]] == ["t"]


async def test_what_executors_use_is_shown(flags: Flags, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing without one; and one of which that cannot be told is no failure of the agent."""
    async with running_agent(flags) as master:
        for path in ("/monitor/statistics", "/containers"):
            assert await ask(master, path) == []
        master.run(task_info("t"), role="*")
        await master.update("t", v1.TASK_RUNNING)
        (entry,) = await ask(master, "/monitor/statistics")
        assert (entry["executor_id"], entry["framework_id"]) == ("shell", FRAMEWORK_ID)
        assert entry["statistics"]["mem_limit_bytes"] == 64 << 20
        master.run(task_info("other", executor_info("second")), role="*")
        await master.update("other", v1.TASK_RUNNING)
        assert len(await ask(master, "/containers")) == 2
        container_id = master.executor().container_id.value
        for query in (f"container_id={container_id}", f"framework_id={FRAMEWORK_ID}&executor_id=shell"):
            (found,) = await ask(master, f"/containers?{query}")
            assert (found["container_id"], found["executor_id"]) == (container_id, "shell")
            assert found["status"]["container_id"]["value"] == container_id
            assert found["statistics"]["mem_limit_bytes"] == 64 << 20

        async def fail(_: object) -> None:
            raise ContainerError("nobody knows")

        monkeypatch.setattr(master.agent.containerizer, "usage", fail)
        assert await ask(master, "/monitor/statistics") == []
        entries = await ask(master, "/containers")
        assert {entry["executor_id"] for entry in entries if "statistics" not in entry} == {"shell", "second"}
        monkeypatch.undo()
