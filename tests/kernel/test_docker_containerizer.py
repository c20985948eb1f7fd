"""Containers that Docker makes, as their containerizer launches, watches and ends them, by a real daemon."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mesocosm.container import (
    CommandInfo,
    ContainerConfig,
    ContainerID,
    ContainerType,
    PersistentVolume,
    Resources,
    Volume,
    persistent_volume_path,
)
from mesocosm.containerizer.base import LaunchResult
from mesocosm.containerizer.docker import DockerContainerizer, parse_name
from mesocosm.docker.info import DockerInfo, DockerNetwork
from mesocosm.docker.values import DockerError
from mesocosm.errors import ContainerError, FlagError, UnknownContainerError
from mesocosm.flags import Flags
from mesocosm.networks import PortMapping
from mesocosm.secrets import Hidden, Secret
from tests import registry as registries
from tests.docker_daemon import IMAGE, Docker, docker

pytestmark = pytest.mark.kernel

MB = 1 << 20
SLEEP = "echo ready; exec sleep 600"


@pytest.fixture
def docker_flags(flags: Flags, shared_docker: Docker) -> Flags:
    return replace(flags, docker_socket=str(shared_docker.socket), docker_remove_delay=0.0)


@pytest.fixture
def container_id(shared_docker: Docker) -> Iterator[ContainerID]:
    """Of a container that Docker does not know any more after the test."""
    yield ContainerID(str(uuid.uuid4()))
    if left := shared_docker.names():
        shared_docker("rm", "--force", *left)


@pytest.fixture
async def containerizer(docker_flags: Flags, container_id: ContainerID) -> AsyncIterator[DockerContainerizer]:
    async with started(docker_flags) as found:
        yield found


@asynccontextmanager
async def started(flags: Flags, **arguments: Any) -> AsyncIterator[DockerContainerizer]:
    async with DockerContainerizer(flags, **arguments) as found:
        await found.recover()
        yield found


def asked(command: str = SLEEP, docker: DockerInfo | None = None, **wishes: Any) -> ContainerConfig:
    return ContainerConfig(
        CommandInfo(command), type=ContainerType.DOCKER, docker=docker or DockerInfo(IMAGE), **wishes
    )


def output(containerizer: DockerContainerizer, container_id: ContainerID, name: str = "stdout") -> str:
    return (containerizer.sandbox(container_id) / name).read_text()


async def until(condition: Callable[[], bool]) -> None:
    """Docker tells nobody of what is waited for here."""
    for _ in range(1200):
        if condition():
            return
        await asyncio.sleep(0.05)
    pytest.fail("it does not happen")


async def test_the_life_of_a_container(
    containerizer: DockerContainerizer, container_id: ContainerID, shared_docker: Docker
) -> None:
    """Reference: DockerContainerizerTest.ROOT_DOCKER_Launch_Executor, ROOT_DOCKER_Logs."""
    assert await containerizer.launch(container_id, asked("echo out; echo err >&2; exit 3")) is LaunchResult.SUCCESS
    assert await containerizer.launch(container_id, asked()) is LaunchResult.ALREADY_LAUNCHED
    termination = await containerizer.wait(container_id)
    assert (termination.exit_status, termination.reason) == (3, None)
    assert (output(containerizer, container_id), output(containerizer, container_id, "stderr")) == ("out\n", "err\n")
    assert containerizer.terminated() == {container_id}
    await containerizer.remove(container_id)
    assert not containerizer.knows(container_id)


async def test_what_is_not_for_docker(containerizer: DockerContainerizer, container_id: ContainerID) -> None:
    other = ContainerConfig(CommandInfo("true"))
    assert await containerizer.launch(container_id, other) is LaunchResult.NOT_SUPPORTED
    await containerizer.launch(container_id, asked())
    with pytest.raises(ContainerError, match="nests no containers"):
        await containerizer.launch(ContainerID("a", container_id), asked())


async def test_an_unknown_container(containerizer: DockerContainerizer, container_id: ContainerID) -> None:
    """Reference: DockerContainerizerTest.ROOT_DOCKER_DestroyUnknownContainer, ROOT_DOCKER_WaitUnknownContainer."""
    assert await containerizer.destroy(container_id) is None
    with pytest.raises(UnknownContainerError):
        await containerizer.wait(container_id)


async def test_it_is_seen_changed_signalled_and_destroyed(
    containerizer: DockerContainerizer, container_id: ContainerID
) -> None:
    """Reference: DockerContainerizerTest.ROOT_DOCKER_Usage, ROOT_DOCKER_CGROUPS_CFS_CgroupsEnableCFS."""
    trap = "trap 'echo signalled' USR1; echo ready; while :; do sleep 0.1; done"
    resources = Resources(cpus=0.5, mem=64 * MB)
    await containerizer.launch(container_id, asked(trap, resources=resources))
    assert containerizer.pending() == {}
    status = await containerizer.status(container_id)
    assert status.executor_pid is not None
    assert b"sleep 0.1" in Path("/proc", str(status.executor_pid), "cmdline").read_bytes()
    usage = await containerizer.usage(container_id)
    assert (usage.mem_limit_bytes, usage.cpus_limit) == (64 * MB, None)
    await containerizer.update(container_id, Resources(cpus=1, mem=128 * MB), Resources(cpus=1.5))
    usage = await containerizer.usage(container_id)
    assert (usage.mem_limit_bytes, usage.cpus_limit) == (128 * MB, 1.5)
    config = containerizer.config(container_id)
    assert config is not None
    assert config.resources == Resources(cpus=1, mem=128 * MB)
    assert await containerizer.kill(container_id, signal.SIGUSR1)
    await until(lambda: "signalled" in output(containerizer, container_id))
    termination = await containerizer.destroy(container_id)
    assert termination is not None
    assert termination.exit_status == 137
    assert not Path("/proc", str(status.executor_pid)).exists()


async def test_the_image_has_the_command(
    containerizer: DockerContainerizer, container_id: ContainerID, shared_docker: Docker, rootfs: Path
) -> None:
    """Reference: DockerContainerizerTest.ROOT_DOCKER_Default_CMD, .._Default_CMD_Override, .._Default_CMD_Args."""
    name = f"default-{container_id}"
    shared_docker.import_image(rootfs, name, 'ENTRYPOINT ["echo"]', 'CMD ["from", "image"]')
    try:
        for command, expected in (
            (CommandInfo(None, shell=False), "from image"),
            (CommandInfo(None, ("a", "b"), shell=False), "a b"),
            (CommandInfo("own", shell=False), "own"),
            (CommandInfo("echo of a shell"), "of a shell"),
        ):
            config = replace(asked(docker=DockerInfo(name)), command=command)
            await containerizer.launch(container_id, config)
            assert (await containerizer.wait(container_id)).exit_status == 0
            assert output(containerizer, container_id) == f"{expected}\n"
            await containerizer.remove(container_id)
    finally:
        shared_docker("rmi", "--force", name)


async def test_volumes_variables_and_the_user(
    docker_flags: Flags, container_id: ContainerID, run_directory: Path, unique_name: str
) -> None:
    """Reference: DockerContainerizerTest.ROOT_DOCKER_LaunchWithPersistentVolumes, ROOT_DOCKER_LaunchSandboxWithColon.

    Also DockerContainerizerTest.ROOT_DOCKER_UNPRIVILEGED_USER_NonRootSandbox.
    """
    (run_directory / "host").write_text("of the host\n")
    kept = PersistentVolume("kept", "role", MB, "volume")
    config = asked(
        'cat /host volume/old; pwd; echo "$A $SECRET $MESOS_SANDBOX"; echo new > volume/new; echo x > data/x',
        DockerInfo(IMAGE, parameters=(("workdir", "/mnt/mesos/sandbox"),)),
        directory=run_directory / "a:b",
        user="nobody",
        environment={"A": "b c"},
        secret_environment={"SECRET": Secret(Hidden(b"hush"))},
        volumes=(Volume("/host", str(run_directory / "host")), Volume("/mnt/mesos/sandbox/data", "of/sandbox")),
        persistent_volumes=(kept,),
    )
    path = persistent_volume_path(docker_flags.work_dir, kept)
    path.mkdir(parents=True)
    (path / "old").write_text("kept\n")
    async with started(docker_flags) as containerizer:
        await containerizer.launch(container_id, config)
        assert (await containerizer.wait(container_id)).exit_status == 0
        sandbox = run_directory / "a:b"
        told = "of the host\nkept\n/mnt/mesos/sandbox\nb c hush /mnt/mesos/sandbox\n"
        assert (sandbox / "stdout").read_text() == told
        assert (sandbox / "of/sandbox/x").exists()
        assert {(sandbox / name).stat().st_uid for name in (".", "stdout", "stderr", "of/sandbox")} == {65534}
        assert path.stat().st_uid == 65534
        record = b"".join(file.read_bytes() for file in docker_flags.runtime_dir.rglob("*") if file.is_file())
        assert b"hush" not in record
    assert (path / "new").read_text() == "new\n"


async def test_a_volume_does_not_lead_out_of_the_sandbox(docker_flags: Flags, container_id: ContainerID) -> None:
    async def fetch(_id: ContainerID, config: ContainerConfig, *_: Any) -> None:
        assert config.directory is not None
        (config.directory / "data").symlink_to("/etc")

    async with started(docker_flags, fetch=fetch) as containerizer:
        with pytest.raises(ContainerError, match="leads out of the sandbox, to /etc"):
            await containerizer.launch(container_id, asked(volumes=(Volume("/data", "data"),)))
        assert await containerizer.containers() == set()
        assert not containerizer.sandbox(container_id).exists()


async def test_a_fetch_that_fails(docker_flags: Flags, container_id: ContainerID, shared_docker: Docker) -> None:
    """Reference: DockerContainerizerTest.ROOT_DOCKER_FetchFailure."""

    async def fetch(*_: Any) -> None:
        raise ContainerError("nothing there")

    async with started(docker_flags, fetch=fetch) as containerizer:
        with pytest.raises(ContainerError, match="nothing there"):
            await containerizer.launch(container_id, asked())
        assert not containerizer.knows(container_id)
    assert not [name for name in shared_docker.names() if container_id.value in name]


async def test_what_docker_refuses(
    containerizer: DockerContainerizer, container_id: ContainerID, shared_docker: Docker
) -> None:
    """Reference: DockerContainerizerTest.ROOT_DOCKER_DockerPullFailure, ROOT_DOCKER_ExecutorCleanupWhenLaunchFailed."""
    for config, message in (
        (asked(docker=DockerInfo("127.0.0.1:1/nonesuch")), "docker pull failed: .*refused"),
        (asked(docker=DockerInfo(IMAGE, parameters=(("nonesuch", "1"),))), "docker create failed: .*unknown flag"),
        (replace(asked(), command=CommandInfo("/nonesuch", shell=False)), "not started by Docker: .*no such file"),
    ):
        with pytest.raises(ContainerError, match=message):
            await containerizer.launch(container_id, config)
        assert not containerizer.knows(container_id)
    assert shared_docker.names() == set()


async def test_a_registry_with_passwords(
    docker_flags: Flags, container_id: ContainerID, shared_docker: Docker, run_directory: Path
) -> None:
    """The credentials are the agent's, or come with the container."""
    shared_docker("save", f"--output={run_directory / 'image'}", IMAGE)
    with registries.registry(run_directory / "private", authenticated=True) as private:
        name = private.push(f"docker-archive:{run_directory / 'image'}", "one:latest")
        proof = base64.b64encode(f"{registries.USER}:{registries.PASSWORD}".encode()).decode()
        given = {private.address: {"auth": proof}}

        async def fetch(_id: ContainerID, config: ContainerConfig, *_: Any) -> None:
            assert config.directory is not None
            (config.directory / ".dockercfg").write_text(json.dumps(given))

        config = asked("exit 3", DockerInfo(name, force_pull_image=True))
        async with started(docker_flags) as containerizer:
            with pytest.raises(DockerError, match="no basic auth credentials"):
                await containerizer.launch(container_id, config)
        for flags, fetcher in ((replace(docker_flags, docker_config={"auths": given}), None), (docker_flags, fetch)):
            async with started(flags, fetch=fetcher) as containerizer:
                await containerizer.launch(container_id, config)
                assert (await containerizer.wait(container_id)).exit_status == 3
                await containerizer.remove(container_id)
        assert not [*docker_flags.runtime_dir.rglob("containers/*/home")]
    shared_docker("rmi", name)


@pytest.mark.parametrize("state", ["FETCHING", "PULLING"])
async def test_it_is_destroyed_on_its_way(
    docker_flags: Flags, container_id: ContainerID, shared_docker: Docker, tmp_path: Path, state: str
) -> None:
    """Reference: DockerContainerizerTest.ROOT_DOCKER_DestroyWhileFetching, ROOT_DOCKER_DestroyWhilePulling."""
    entered = asyncio.Event()

    async def fetch(*_: Any) -> None:
        entered.set()
        if state == "FETCHING":
            await asyncio.Event().wait()

    program = tmp_path / "docker"
    program.write_text(
        f'#!/bin/sh\ncase "$*" in *--type=image*) exec sleep 600;; esac\nexec {shutil.which("docker")} "$@"\n'
    )
    program.chmod(0o755)
    async with started(replace(docker_flags, docker=str(program)), fetch=fetch) as containerizer:
        launching = asyncio.create_task(containerizer.launch(container_id, asked()))
        await entered.wait()
        await until(lambda: containerizer.pending() == {container_id: state})
        await containerizer.destroy(container_id)
        with pytest.raises(ContainerError, match="destroyed while it was launched"):
            await launching


RECOVERED = """
import asyncio, sys
from pathlib import Path
from mesocosm.containerizer.docker import DockerContainerizer
from mesocosm.container import CommandInfo, ContainerConfig, ContainerID, ContainerType
from mesocosm.docker.info import DockerInfo, DockerNetwork
from mesocosm.flags import Flags

async def main(work, run, root, socket, name, command, image):
    flags = Flags(work_dir=Path(work), runtime_dir=Path(run), cgroups_root=root, docker_socket=socket)
    containerizer = DockerContainerizer(flags)
    containerizer.start()
    await containerizer.recover()
    config = ContainerConfig(CommandInfo(command), type=ContainerType.DOCKER, docker=DockerInfo(image))
    await containerizer.launch(ContainerID(name), config)
    print("launched", flush=True)
    await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


def killed_after_launch(flags: Flags, container_id: ContainerID, command: str) -> None:
    """Has another process launch a container, and kills it."""
    arguments = [flags.work_dir, flags.runtime_dir, flags.cgroups_root, flags.docker_socket, container_id, command]
    argv = [sys.executable, "-c", RECOVERED, *map(str, arguments), IMAGE]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"launched\n"
        process.kill()


async def test_recovery_after_kill_9(docker_flags: Flags, container_id: ContainerID, shared_docker: Docker) -> None:
    """Reference: DockerContainerizerTest.ROOT_DOCKER_Recover, DISABLED_ROOT_DOCKER_SlaveRecoveryExecutorContainer."""
    command = "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.1; done"
    killed_after_launch(docker_flags, container_id, command)
    async with started(docker_flags) as containerizer:
        assert await containerizer.containers() == {container_id}
        pid = (await containerizer.status(container_id)).executor_pid
        assert pid is not None
        assert await containerizer.kill(container_id, signal.SIGTERM)
        assert (await containerizer.wait(container_id)).exit_status == 5
        assert output(containerizer, container_id).split() == ["ready", "bye"]


async def test_a_container_that_goes_on_without_its_client_gets_another(
    docker_flags: Flags, container_id: ContainerID, shared_docker: Docker
) -> None:
    """So it is where the agent is in a container of Docker, and that ends with all of its processes."""
    killed_after_launch(docker_flags, container_id, "while sleep 0.1; do echo tick; [ ! -e /end ] || exit 6; done")
    clients = clients_of(container_id)
    assert clients
    for pid in clients:
        parent = int(Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[1])
        os.kill(parent, signal.SIGKILL)  # The init, which would tell how it ended.
        os.kill(pid, signal.SIGKILL)
    async with started(docker_flags) as containerizer:
        assert await containerizer.containers() == {container_id}
        before = len(output(containerizer, container_id))
        await until(lambda: len(output(containerizer, container_id)) > before)
        shared_docker("exec", f"mesos-{container_id}", "touch", "/end")
        assert (await containerizer.wait(container_id)).exit_status == 6


def clients_of(container_id: ContainerID) -> list[int]:
    """The processes on the host that are attached to it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if b"--attach" in words and f"mesos-{container_id}".encode() in words:
            found.append(int(path.parent.name))
    return found


async def test_orphans(docker_flags: Flags, container_id: ContainerID, shared_docker: Docker) -> None:
    """Reference: DockerContainerizerTest.ROOT_DOCKER_KillOrphanContainers, ROOT_DOCKER_SkipRecoverMalformedUUID.

    Also DockerContainerizerTest.ROOT_DOCKER_SkipRecoverNonDocker.
    """
    names = {
        "orphan": f"mesos-{container_id}",
        "old": f"mesos-agent.{uuid.uuid4()}",
        "executor": f"mesos-{uuid.uuid4()}.executor",
        "malformed": f"mesos-{container_id}-x",
        "other": f"other-{container_id}",
    }
    for name in names.values():
        shared_docker("run", "--detach", f"--name={name}", "--net=none", IMAGE, "sleep", "600")
    try:
        async with started(replace(docker_flags, docker_kill_orphans=False)):
            assert {*names.values()} <= shared_docker.names()
        async with started(docker_flags) as containerizer:
            assert await containerizer.containers() == set()
            assert {*names.values()} & shared_docker.names() == {names["malformed"], names["other"]}
    finally:
        shared_docker("rm", "--force", *({*names.values()} & shared_docker.names()))


async def test_containers_of_other_agents_are_left_alone(
    docker_flags: Flags, container_id: ContainerID, shared_docker: Docker
) -> None:
    """Those that run at the start of this one, and what has ended whose name is taken here."""
    label, running = "--label=mesocosm=/run/other", f"mesos-{uuid.uuid4()}"
    shared_docker("run", "--detach", label, f"--name={running}", "--net=none", IMAGE, "sleep", "600")
    shared_docker("run", label, f"--name=mesos-{container_id}", "--net=none", IMAGE, "true")
    async with started(docker_flags) as containerizer:
        with pytest.raises(DockerError, match="is already in use"):
            await containerizer.launch(container_id, asked())
        assert {running, f"mesos-{container_id}"} <= shared_docker.names()
    assert running in shared_docker("ps", "--format", "{{.Names}}")


def obstructed(directory: Path, script: str) -> str:
    """A client of Docker that does what the script says, or else what Docker's does."""
    program = directory / "docker"
    program.write_text(f'#!/bin/sh\n{script}\nexec {shutil.which("docker")} "$@"\n')
    program.chmod(0o755)
    return str(program)


async def test_what_was_recovered_is_ended_without_docker(
    docker_flags: Flags, container_id: ContainerID, shared_docker: Docker, run_directory: Path
) -> None:
    killed_after_launch(docker_flags, container_id, SLEEP)
    pid = shared_docker("inspect", "--format={{.State.Pid}}", f"mesos-{container_id}").strip()
    down = run_directory / "down"
    program = obstructed(
        run_directory, f"test ! -e {down} || {{ echo Cannot connect to the Docker daemon >&2; exit 1; }}"
    )
    async with started(replace(docker_flags, docker=program)) as containerizer:
        down.touch()
        await containerizer.destroy(container_id)
        assert not Path("/proc", pid).exists()


async def test_a_start_that_docker_does_not_tell_of(
    docker_flags: Flags, container_id: ContainerID, run_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the clock is set back during a pull: no event is newer than the beginning of the launch then."""
    monkeypatch.setattr("mesocosm.containerizer.docker.PATIENCE", 3.0)
    program = obstructed(run_directory, 'case "$*" in *events*) exec sleep 600;; esac')
    async with started(replace(docker_flags, docker=program)) as containerizer:
        await containerizer.launch(container_id, asked())
        assert (await containerizer.status(container_id)).executor_pid is not None


@pytest.mark.parametrize("secret", [b"one\ntwo", b"\xff", b"x" * 70_000])
async def test_a_secret_that_would_be_seen_by_all(
    containerizer: DockerContainerizer, container_id: ContainerID, secret: bytes
) -> None:
    config = asked(secret_environment={"SECRET": Secret(Hidden(secret))})
    with pytest.raises(ContainerError, match="'SECRET' is secret, and too long"):
        await containerizer.launch(container_id, config)


async def test_a_launch_that_was_not_complete_leaves_nothing(
    docker_flags: Flags, container_id: ContainerID, shared_docker: Docker
) -> None:
    killed_after_launch(docker_flags, container_id, SLEEP)
    (docker_flags.runtime_dir / "docker/containers" / container_id.value / "pid").unlink()
    async with started(docker_flags) as containerizer:
        assert not containerizer.knows(container_id)
        assert not [name for name in shared_docker.names() if container_id.value in name]


def test_names() -> None:
    value = str(uuid.uuid4())
    for name in (f"mesos-{value}", f"mesos-agent-S0.{value}", f"mesos-{value}.executor", f"mesos-S0.{value}.executor"):
        assert parse_name(name) == ContainerID(value)
    assert parse_name(f"other-{value}") is None


async def test_it_is_kept_for_a_while(docker_flags: Flags, container_id: ContainerID, shared_docker: Docker) -> None:
    async with started(replace(docker_flags, docker_remove_delay=3600.0)) as containerizer:
        await containerizer.launch(container_id, asked("exit 0"))
        await containerizer.wait(container_id)
        assert f"mesos-{container_id}" in shared_docker.names()
        await containerizer.remove(container_id)
        await containerizer.launch(container_id, asked("exit 4"))  # Its name is free, as the other has ended.
        assert (await containerizer.wait(container_id)).exit_status == 4


async def test_time_to_end(docker_flags: Flags, container_id: ContainerID) -> None:
    command = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.1; done"
    async with started(replace(docker_flags, docker_stop_timeout=60.0)) as containerizer:
        await containerizer.launch(container_id, asked(command))
        await until(lambda: output(containerizer, container_id) != "")
        await containerizer.destroy(container_id)
        assert output(containerizer, container_id).split() == ["ready", "bye"]


async def test_ports_and_name_servers_in_a_bridge(
    docker_flags: Flags, container_id: ContainerID, run_directory: Path, rootfs: Path
) -> None:
    """Reference: DockerContainerizerTest.ROOT_DOCKER_NC_PortMapping, ROOT_DOCKER_DefaultDNS."""
    dns = {"nameservers": ["192.0.2.1"], "search": ["a.example"], "options": ["attempts:3"]}
    bridge = DockerInfo(IMAGE, network=DockerNetwork.BRIDGE, port_mappings=(PortMapping(8080, 80),))
    with docker(run_directory / "d", bridge=True) as daemon:
        daemon.import_image(rootfs)
        default = {"docker": [{"network_mode": "BRIDGE", "dns": dns}]}
        flags = replace(docker_flags, docker_socket=str(daemon.socket), default_container_dns=default)
        async with started(flags) as containerizer:
            command = "cat /etc/resolv.conf; echo up; nc -l -p 80 -e echo hello"
            resources = Resources(ports=((8080, 8080),))
            await containerizer.launch(container_id, asked(command, bridge, resources=resources))
            await until(lambda: "up" in output(containerizer, container_id))
            resolver = output(containerizer, container_id).splitlines()
            assert resolver == ["search a.example", "nameserver 192.0.2.1", "options attempts:3", "up"]
            (info,) = (await containerizer.status(container_id)).network_infos or ()
            assert info.ip_addresses[0].ip_address.startswith("172.")
            client = ["nsenter", f"--target={daemon.daemon.pid}", "--net", "busybox", "nc", "127.0.0.1", "8080"]
            answers = await asyncio.create_subprocess_exec(*client, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            assert await answers.communicate() == (b"hello\n", None)
            assert (await containerizer.wait(container_id)).exit_status == 0


# Where there is no Docker, or none that answers.


async def test_no_client(docker_flags: Flags) -> None:
    with pytest.raises(FlagError, match="--docker: there is no program '/nonexistent'"):
        DockerContainerizer(replace(docker_flags, docker="/nonexistent")).start()


async def test_no_daemon(docker_flags: Flags, run_directory: Path) -> None:
    with pytest.raises(DockerError, match=r"docker ps failed: .*start the daemon"):
        async with started(replace(docker_flags, docker_socket=str(run_directory / "nobody"))):
            pass


@pytest.mark.slow
async def test_a_daemon_that_is_killed(
    docker_flags: Flags, container_id: ContainerID, run_directory: Path, rootfs: Path
) -> None:
    """What runs is ended, and the next launch fails in a clear line."""
    async with started_with_daemon(docker_flags, run_directory, rootfs) as (containerizer, daemon):
        await containerizer.launch(container_id, asked())
        status = await containerizer.status(container_id)
        daemon.send(signal.SIGKILL)
        termination = await containerizer.wait(container_id)
        assert termination.status is None
        assert "how it has ended is not known" in (termination.message or "")
        assert not Path("/proc", str(status.executor_pid)).exists()
        with pytest.raises(DockerError, match=r"docker inspect failed: .*start the daemon"):
            await containerizer.launch(ContainerID("next"), asked())


@pytest.mark.slow
async def test_a_daemon_that_is_stopped_and_comes_back(
    docker_flags: Flags, container_id: ContainerID, run_directory: Path, rootfs: Path
) -> None:
    async with started_with_daemon(docker_flags, run_directory, rootfs) as (containerizer, daemon):
        await containerizer.launch(container_id, asked("trap 'exit 0' TERM; while :; do sleep 0.1; done"))
        daemon.send(signal.SIGTERM)
        await containerizer.wait(container_id)
        with docker(run_directory / "d"):
            await containerizer.launch(ContainerID("next"), asked("exit 3"))
            assert (await containerizer.wait(ContainerID("next"))).exit_status == 3


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_daemon_that_ends_in_the_middle_of_a_launch(
    docker_flags: Flags, container_id: ContainerID, run_directory: Path, rootfs: Path, number: signal.Signals
) -> None:
    """One that is told to stop may still have answered."""
    async with started_with_daemon(docker_flags, run_directory, rootfs) as (containerizer, daemon):
        daemon.send(signal.SIGSTOP)
        launch = asyncio.create_task(containerizer.launch(container_id, asked()))
        await until(lambda: bool(containerizer.pending()))
        daemon.daemon.send_signal(number)
        daemon.daemon.send_signal(signal.SIGCONT)
        await asyncio.wait([launch])
        if launch.exception() is None:
            await containerizer.wait(container_id)
        else:
            assert re.fullmatch(r"docker \w+ failed: [^\n]*start the daemon[^\n]*", str(launch.exception()))
            assert not containerizer.knows(container_id)
        assert await containerizer.containers() == set()


@pytest.mark.slow
async def test_a_daemon_that_hangs(
    docker_flags: Flags, container_id: ContainerID, run_directory: Path, rootfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reference: HungDockerTest.ROOT_DOCKER_InspectHungDuringPull."""
    monkeypatch.setattr("mesocosm.containerizer.docker.PATIENCE", 5.0)
    async with started_with_daemon(docker_flags, run_directory, rootfs) as (containerizer, daemon):
        await containerizer.launch(container_id, asked())
        status = await containerizer.status(container_id)
        daemon.send(signal.SIGSTOP)
        with pytest.raises(DockerError, match="took longer than 5 s; look whether the daemon"):
            await containerizer.launch(ContainerID("next"), asked())
        await containerizer.destroy(container_id)
        assert not Path("/proc", str(status.executor_pid)).exists()
        daemon.send(signal.SIGCONT)


@asynccontextmanager
async def started_with_daemon(
    flags: Flags, directory: Path, rootfs: Path
) -> AsyncIterator[tuple[DockerContainerizer, Docker]]:
    """One with a daemon of its own."""
    with docker(directory / "d") as daemon:
        daemon.import_image(rootfs)
        async with started(replace(flags, docker_socket=str(daemon.socket))) as containerizer:
            yield containerizer, daemon
