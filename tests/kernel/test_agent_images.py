"""Images through the agent: launched, kept over a kill -9 of it, and removed when nobody uses them."""

from __future__ import annotations

import json
import platform
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.agent_process import AgentProcess, identity
from tests.command_line import MESOCOSM, TIMEOUT
from tests.docker_archive import docker_archive
from tests.image_store import layer, left
from tests.registry import registry

pytestmark = pytest.mark.kernel
PULLS = "containerizer/mesos/provisioner/docker_store/image_pull_ms"
ISOLATION = "filesystem/linux,namespaces/pid,docker/runtime"


@pytest.fixture
def archives(rootfs: Path, run_directory: Path) -> Path:
    """A directory with the images `box` and `other`."""
    if platform.machine() != "x86_64":
        pytest.skip("the archives are for amd64")
    directory = run_directory / "archives"
    directory.mkdir()
    top = layer(run_directory / "top", {"greeting": "hello\n"})
    config = {"Cmd": ["cat", "/greeting"], "Env": ["GREETED=world"], "User": "app", "WorkingDir": "/home/app"}
    docker_archive(directory / "box.tar", "box:latest", rootfs, top, **config)
    docker_archive(directory / "echo.tar", "echo:latest", rootfs, Entrypoint=["echo"])
    docker_archive(directory / "other.tar", "other:latest", rootfs, layer(run_directory / "else", {"else": "x"}))
    return directory


@pytest.fixture
def store(run_directory: Path) -> Path:
    return run_directory / "store"


def options(archives: Path, store: Path, *more: str) -> tuple[str, ...]:
    return (
        "--image_providers=docker",
        f"--docker_registry={archives}",
        f"--docker_store_dir={store}",
        "--image_provisioner_backend=overlay",
        *more,
    )


def of_image(name: str) -> dict[str, Any]:
    return {"type": "MESOS", "mesos": {"image": {"type": "DOCKER", "docker": {"name": name}}}}


def test_a_container_of_an_image_outlives_its_agent(agent: AgentProcess, archives: Path, store: Path) -> None:
    agent.start(*options(archives, store), isolation=ISOLATION)
    answer = agent.call(
        "LAUNCH_CONTAINER",
        container_id={"value": "web"},
        command={"shell": True, "value": "cat /greeting; echo $GREETED; id -u; pwd; exec sleep 1000"},
        container=of_image("box"),
    )
    assert answer.status == 200, answer.text
    assert agent.launch("done", ["true"], container=of_image("other")).status == 200
    assert agent.wait_for("done")["exit_status"] == 0
    assert agent.get("/metrics/snapshot").json[f"{PULLS}/count"] == 2
    agent.stop(signal.SIGKILL)

    prune = [*MESOCOSM, "prune", "--store", store]
    pruned = subprocess.run(prune, capture_output=True, text=True, check=True, timeout=TIMEOUT).stdout.splitlines()
    assert pruned[0] == "removed docker.io/library/other:latest"
    assert pruned[1].startswith("1 image and 1 layer removed, "), "a container has the others, and no agent"

    agent.start(*options(archives, store), isolation=ISOLATION)
    assert agent.recovered == 1
    assert agent.call("PRUNE_IMAGES").status == 200
    assert "removed 0 images" in agent.log.read_text()
    other = {"container": of_image("box")}
    assert agent.launch("again", "cat /greeting", **other).status == 200, "its layers are still there"
    assert agent.wait_for("again")["exit_status"] == 0
    assert (agent.sandbox("again") / "stdout").read_text() == "hello\n"
    command = {"shell": False}
    answer = agent.call("LAUNCH_CONTAINER", container_id={"value": "own"}, command=command, container=of_image("box"))
    assert answer.status == 200, answer.text
    assert agent.wait_for("own")["exit_status"] == 0
    assert (agent.sandbox("own") / "stdout").read_text() == "hello\n", "the image's own command"
    assert agent.call("KILL_CONTAINER", container_id={"value": "web"}).status == 200
    assert agent.wait_for("web")["exit_status"] == signal.SIGKILL
    assert (agent.sandbox("web") / "stdout").read_text() == "hello\nworld\n1000\n/home/app\n"
    assert left(agent.flags.work_dir / "provisioner") == []


def test_excluded_images_stay(agent: AgentProcess, archives: Path, store: Path) -> None:
    config = {
        "image_disk_headroom": 0,
        "image_disk_watch_interval": {"nanoseconds": 10**15},
        "excluded_images": [{"type": "DOCKER", "docker": {"name": "box"}}],
    }
    agent.start(*options(archives, store, f"--image_gc_config={json.dumps(config)}"), isolation=ISOLATION)
    for name in ("box", "other"):
        assert agent.launch(name, "true", container=of_image(name)).status == 200
        agent.wait_for(name)
    other = {"type": "DOCKER", "docker": {"name": "other"}}
    assert agent.call("PRUNE_IMAGES", excluded_images=[other]).status == 200
    assert "removed 0 images" in agent.log.read_text()
    assert agent.call("PRUNE_IMAGES").status == 200
    assert "removed 1 images" in agent.log.read_text()


def test_images_are_removed_as_the_flag_says(agent: AgentProcess, archives: Path, store: Path) -> None:
    agent.start(*options(archives, store), isolation=ISOLATION)
    assert agent.launch("box", "true", container=of_image("box")).status == 200
    agent.wait_for("box")
    agent.stop()
    config = {"image_disk_headroom": 1, "image_disk_watch_interval": {"nanoseconds": 10**15}}
    agent.start(*options(archives, store, f"--image_gc_config={json.dumps(config)}"), isolation=ISOLATION)
    agent.await_log(re.compile("removed 1 images"))


def test_nested_containers_and_volumes_of_images(agent: AgentProcess, archives: Path, store: Path) -> None:
    agent.start(*options(archives, store), isolation=ISOLATION)
    assert agent.launch("web", "exec sleep 1000", container=of_image("box")).status == 200
    volume = {
        "mode": "RO",
        "container_path": "tools",
        "image": {"type": "DOCKER", "docker": {"name": "other"}},
    }
    asked = {"type": "MESOS", "volumes": [volume]}
    answer = agent.launch("probe", "cat tools/else; cat /etc/hostname; id -u", nested_in="web", container=asked)
    assert answer.status == 200, answer.text
    assert agent.wait_for("probe", nested_in="web")["exit_status"] == 0
    seen = (agent.sandbox("web") / "containers/probe/stdout").read_text()
    assert seen.endswith("\n1000\n"), "by number it is the user of the image, of whose name the host does not know"
    answer = agent.launch("own", ["cat", "/else"], nested_in="web", container=of_image("other"))
    assert answer.status == 200, answer.text
    assert agent.wait_for("own", nested_in="web")["exit_status"] == 0


@pytest.mark.parametrize(
    ("image", "arguments", "expected"),
    [("box", ["/greeting", "/greeting"], "hello\nhello\n"), ("echo", ["hello", "world"], "hello world\n")],
    ids=["Cmd", "Entrypoint"],
)
def test_arguments_of_a_nested_container(
    agent: AgentProcess, archives: Path, store: Path, image: str, arguments: list[str], expected: str
) -> None:
    """For the command of an image of its own."""
    agent.start(*options(archives, store), isolation=ISOLATION)
    assert agent.launch("pod", "exec sleep 1000").status == 200
    command = {"shell": False, "arguments": arguments}
    nested = identity("own", "pod")
    answer = agent.call("LAUNCH_CONTAINER", container_id=nested, command=command, container=of_image(image))
    assert answer.status == 200, answer.text
    assert agent.wait_for("own", nested_in="pod")["exit_status"] == 0
    assert (agent.sandbox("pod") / "containers/own/stdout").read_text() == expected


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ({"type": "APPC", "appc": {"name": "x"}}, "provider appc"),
        ({"type": "DOCKER", "docker": {"name": "nonesuch"}}, "nonesuch"),
        ({"type": "DOCKER", "docker": {"name": "NOT A NAME"}}, "NOT A NAME"),
    ],
)
def test_images_that_cannot_be_had(
    agent: AgentProcess, archives: Path, store: Path, image: dict[str, Any], reason: str
) -> None:
    agent.start(*options(archives, store), isolation=ISOLATION)
    answer = agent.launch("web", "true", container={"type": "MESOS", "mesos": {"image": image}})
    assert answer.status == 400
    assert reason in answer.text


def test_a_mirror_is_asked_before_the_registry_of_docker(
    agent: AgentProcess, archives: Path, store: Path, run_directory: Path
) -> None:
    with registry(run_directory / "mirror") as mirror:
        mirror.push(f"docker-archive:{archives}/box.tar", "library/box:latest")
        flags = (f"--docker_registry_mirrors=http://{mirror.address}", f"--docker_store_dir={store}")
        agent.start("--image_providers=docker", *flags, isolation=ISOLATION)
        assert agent.launch("web", "cat /greeting", container=of_image("box")).status == 200
        assert agent.wait_for("web")["exit_status"] == 0
        assert mirror.requests("/library/box/") == 1 + 1 + 2, "the manifest, the config and two layers"
    assert (agent.sandbox("web") / "stdout").read_text() == "hello\n"


def test_an_agent_without_images(agent: AgentProcess) -> None:
    agent.start(isolation="filesystem/linux")
    answer = agent.launch("web", "true", container=of_image("box"))
    assert (answer.status, "--image_providers=docker" in answer.text) == (400, True)
    assert agent.call("PRUNE_IMAGES").status == 200


def test_an_agent_without_docker_runtime_does_not_start(agent: AgentProcess, archives: Path, store: Path) -> None:
    agent.spawn(*options(archives, store), isolation="filesystem/linux")
    assert agent.wait() != 0
    assert "needs the isolator 'docker/runtime'" in agent.log.read_text()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("--image_providers=appc", "no provider appc"),
        ("--image_provisioner_backend=aufs", "no backend aufs"),
        ("--image_gc_config={}", "image_disk_headroom"),
        ("--image_providers=docker --docker_registry_mirrors=http://example.com", "would be asked by http"),
    ],
)
def test_flags_that_are_refused(agent: AgentProcess, arguments: str, reason: str) -> None:
    agent.spawn(*arguments.split(), isolation=ISOLATION)
    assert agent.wait() != 0
    assert reason in agent.log.read_text()
