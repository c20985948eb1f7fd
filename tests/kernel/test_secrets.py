"""`environment_secret` and `volume/secret`: what a container is told, and nobody and no file besides."""

from __future__ import annotations

import base64
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mesocosm.container import ContainerClass, ContainerID, NetworkInfo, Volume, VolumeMode
from mesocosm.errors import ContainerError, FlagError
from mesocosm.flags import Flags
from mesocosm.isolators.environment_secret import EnvironmentSecretIsolator
from mesocosm.secrets import Hidden, Secret, SecretReference
from tests.agent_process import AgentProcess
from tests.launching import Launch
from tests.mounts import is_mounted

pytestmark = pytest.mark.kernel
LINUX = "filesystem/linux,namespaces/pid,volume/secret"
WORD = "open-sesame-4711"
ENCODED = base64.b64encode(WORD.encode()).decode()
SECRET = Secret(Hidden(WORD.encode()))
RESOLVER = f"""
from mesocosm.secret_resolver import SecretResolver
class Mine(SecretResolver):
    async def resolve(self, secret):
        if secret.reference is None:
            return await super().resolve(secret)
        if secret.reference.name != "known":
            raise KeyError("{WORD}")
        return f"{WORD}-{{secret.reference.key}}".encode()
"""


def secret_volume(path: str, mode: VolumeMode = VolumeMode.RW, secret: Secret = SECRET) -> tuple[Volume]:
    return (Volume(path, mode=mode, secret=secret),)


@pytest.fixture(params=[False, True], ids=["host", "rootfs"])
def root(request: pytest.FixtureRequest, writable_rootfs: Path) -> Path | None:
    return writable_rootfs if request.param else None


@pytest.fixture
def resolver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package with a secret resolver, and its name."""
    (tmp_path / "mine_resolver.py").write_text(RESOLVER)
    information = tmp_path / "mine_resolver-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: mine_resolver\nVersion: 1\n")
    (information / "entry_points.txt").write_text("[mesocosm.secret_resolvers]\nmine = mine_resolver:Mine\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "mine"
    sys.modules.pop("mine_resolver", None)


def files_with(word: bytes, *directories: Path) -> list[Path]:
    """Those of the directories that have the word in them."""
    files = [path for directory in directories for path in directory.rglob("*") if path.is_file()]
    return [path for path in files if word in path.read_bytes()]


def assert_told_nobody(launch: Launch) -> None:
    for word in (WORD, ENCODED):
        assert files_with(word.encode(), launch.flags.work_dir, launch.flags.runtime_dir) == []


# The environment.


async def test_a_variable(launch: Launch, root: Path | None, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    script = f'[ "$PASSWORD" = {WORD[:4]}"{WORD[4:]}" ] && echo "$PLAIN"; read -r end'
    container = await launch.talking(
        script, rootfs=root, environment={"PLAIN": "x"}, secret_environment={"PASSWORD": SECRET}
    )
    assert await container.line() == "x"
    assert_told_nobody(launch)
    assert WORD not in caplog.text
    containerizer = launch.containerizer()
    assert WORD not in repr(containerizer.config(container.container_id))
    for pid in (await container.pid(), os.getpid()):
        assert WORD.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()


async def test_after_a_restart(launch: Launch, rootfs: Path) -> None:
    options: dict[str, Any] = {"secret_environment": {"A": SECRET}, "volumes": secret_volume("/key")}
    container = await launch.sleeping(isolation=LINUX, rootfs=rootfs, **options)
    successor = await launch.successor()
    config = successor.config(container.container_id)
    assert config is not None
    assert config.secret_environment == {"A": Secret(Hidden())}
    assert (await successor.status(container.container_id)).executor_pid
    assert_told_nobody(launch)
    container.say("end")
    assert (await successor.wait(container.container_id)).exit_status == 0


async def test_of_other_containers_only_debug_ones_have_it(launch: Launch) -> None:
    """They have the environment of their parent, unless they are given another."""
    parent = await launch.sleeping(secret_environment={"PASSWORD": SECRET}, environment={"PLAIN": "x"})
    assert WORD not in await launch.output("env", parent=parent)
    debug: dict[str, Any] = {"parent": parent, "container_class": ContainerClass.DEBUG}
    begin = WORD.rpartition("-")[0]
    script = 'echo "${PLAIN%-*} ${PASSWORD%-*}"'  # Without its end, as output is on disk.
    assert await launch.output(script, **debug) == f"x {begin}"
    assert await launch.output(script, **debug, environment={"PASSWORD": "other"}) == "x other"
    assert await launch.output(script, **debug, secret_environment={"PLAIN": SECRET}) == f"{begin} {begin}"
    assert_told_nobody(launch)
    parent.containerizer = await launch.successor()
    assert await launch.output(script, **debug) == "x ", "it was on no disk"


@pytest.mark.parametrize("value", [b"caf\xc3\xa9", b"\xff\xfe", b""])
async def test_bytes(launch: Launch, value: bytes) -> None:
    started = await launch('printf %s "$A"', secret_environment={"A": Secret(Hidden(value))})
    assert await started.wait() == 0
    assert (started.sandbox / "stdout").read_bytes() == value


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("A", Secret(Hidden(b"open\0sesame"))),
        ("", SECRET),
        ("A=B", SECRET),
        ("A", Secret(reference=SecretReference("known"))),
        ("A", Secret()),
    ],
)
async def test_variables_that_cannot_be(launch: Launch, name: str, secret: Secret) -> None:
    with pytest.raises(ContainerError) as caught:
        await launch("true", secret_environment={name: secret})
    assert "sesame" not in str(caught.value)
    assert not (launch.flags.runtime_dir / "containers/c1").exists()


# Files.


@pytest.mark.parametrize("path", ["/etc/hostname", "key", "deep/er/key"])
@pytest.mark.parametrize("mode", list(VolumeMode))
@pytest.mark.parametrize("user", [None, "nobody"])
async def test_a_file(launch: Launch, root: Path | None, path: str, mode: VolumeMode, user: str | None) -> None:
    script = f"cat {path}; echo; stat -c '%a %u' {path}; echo x 2>/dev/null >> {path}; read -r end"
    container = await launch.talking(script, isolation=LINUX, rootfs=root, user=user, volumes=secret_volume(path, mode))
    assert await container.line() == WORD
    bits = "400" if mode is VolumeMode.RO else "600"
    assert await container.line() == f"{bits} {65534 if user else 0}"
    assert_told_nobody(launch)
    if root is not None:
        assert files_with(WORD.encode(), root) == []
    container.say("end")
    assert await container.wait() == 0


async def test_a_read_only_file_is_so_for_root(launch: Launch, rootfs: Path) -> None:
    script = "echo x 2>/dev/null > /key || echo refused"
    volumes = secret_volume("/key", VolumeMode.RO)
    assert await launch.output(script, isolation=LINUX, rootfs=rootfs, volumes=volumes) == "refused"


async def test_a_file_that_is_on_no_disk(launch: Launch, rootfs: Path) -> None:
    volumes = secret_volume("/key")
    script = "grep -c ' /key ramfs ' /proc/mounts; grep -c ramfs /proc/mounts; ls -a /"
    lines = (await launch.output(script, isolation=LINUX, rootfs=rootfs, volumes=volumes)).splitlines()
    assert lines[:2] == ["1", "1"], "the file, and nothing else of it"
    assert "key" in lines


async def test_nothing_stays_mounted(launch: Launch, rootfs: Path) -> None:
    container = await launch.sleeping(isolation=LINUX, rootfs=rootfs, volumes=secret_volume("/key"))
    assert not is_mounted(rootfs / "key")
    assert "ramfs" not in Path("/proc/self/mountinfo").read_text()
    await container.destroy()


async def test_nested_containers(launch: Launch, rootfs: Path) -> None:
    parent = await launch.sleeping(isolation=LINUX, rootfs=rootfs)
    child = await launch(
        "cat key; read -r x; :", parent=parent, isolation=LINUX, rootfs=rootfs, volumes=secret_volume("key")
    )
    await child.wait()
    assert child.stream() == WORD
    assert (child.sandbox / "key").read_bytes() == b"", "the mount point"
    with pytest.raises(ContainerError, match="debug"):
        await launch("true", parent=parent, container_class=ContainerClass.DEBUG, volumes=secret_volume("key"))


@pytest.mark.parametrize("path", ["/missing/on/the/host", "../key", "/"])
async def test_places_that_cannot_be(launch: Launch, path: str) -> None:
    with pytest.raises(ContainerError) as caught:
        await launch("true", isolation=LINUX, volumes=secret_volume(path))
    assert WORD not in str(caught.value)


async def test_a_failing_launch_tells_nothing(launch: Launch, rootfs: Path) -> None:
    with pytest.raises(ContainerError, match="secret on /etc failed: Is a directory") as caught:
        await launch("true", isolation=LINUX, rootfs=rootfs, volumes=secret_volume("/etc"))
    assert WORD not in str(caught.value)
    with pytest.raises(ContainerError, match="there is no network 'nowhere'"):  # Before there is a process.
        await launch("true", isolation=LINUX, network_infos=(NetworkInfo("nowhere"),), volumes=secret_volume("key"))
    assert_told_nobody(launch)


async def test_a_link_in_the_sandbox_is_no_way_out(launch: Launch, rootfs: Path, run_directory: Path) -> None:
    sandbox, outside = run_directory / "sandbox", run_directory / "outside"
    for directory in (sandbox, outside):
        directory.mkdir()
    (sandbox / "link").symlink_to(outside)
    try:
        container = await launch("true", isolation=LINUX, directory=sandbox, volumes=secret_volume("link/key"))
    except ContainerError:
        pass
    else:
        await container.wait()
    assert list(outside.iterdir()) == []


async def test_it_takes_the_isolator(launch: Launch) -> None:
    with pytest.raises(ContainerError, match="enable the isolator volume/secret"):
        await launch("true", isolation="filesystem/linux", volumes=secret_volume("key"))


# Resolvers.


async def test_a_resolver_of_another_package(launch: Launch, resolver: str) -> None:
    launch.containerizer(LINUX, secret_resolver=resolver)
    known = Secret(reference=SecretReference("known", "a"))
    script = '[ "$A" = "$(cat key)" ] && printf %s "$A" | wc -c'
    output = await launch.output(script, secret_environment={"A": known}, volumes=secret_volume("key", secret=known))
    assert int(output) == len(WORD) + 2
    assert_told_nobody(launch)


async def test_a_resolver_that_fails(launch: Launch, resolver: str) -> None:
    launch.containerizer(LINUX, secret_resolver=resolver)
    unknown = Secret(reference=SecretReference("unknown"))
    for options in ({"secret_environment": {"A": unknown}}, {"volumes": secret_volume("key", secret=unknown)}):
        with pytest.raises(ContainerError, match="cannot be resolved: KeyError") as caught:
            await launch("true", **options)
        assert WORD not in str(caught.value)


def test_a_resolver_that_there_is_not() -> None:
    with pytest.raises(FlagError, match="--secret_resolver: there is no secret resolver 'nonesuch'"):
        EnvironmentSecretIsolator.create(Flags(secret_resolver="nonesuch"))


# The agent.


def test_the_agent_tells_nobody(agent: AgentProcess) -> None:
    agent.start("--logging_level=INFO", isolation=LINUX)
    secret = {"type": "VALUE", "value": {"data": ENCODED}}
    variables = [{"type": "SECRET", "name": "PASSWORD", "secret": secret}]
    volume = {"mode": "RO", "container_path": "key", "source": {"type": "SECRET", "secret": secret}}
    answer = agent.launch(
        "web",
        '[ "$PASSWORD" = "$(cat key)" ] && touch same; read -r x < /dev/zero; sleep 60',
        command={"environment": {"variables": variables}},
        container={"type": "MESOS", "volumes": [volume]},
    )
    assert answer.status == 200, answer.text
    invalid = {"type": "VALUE", "value": {"data": f"{ENCODED}!"}}
    refused = agent.launch(
        "bad", "true", command={"environment": {"variables": [{"type": "SECRET", "name": "A", "secret": invalid}]}}
    )
    texts = [agent.get(path).text for path in ("/state", "/flags", "/containers", "/monitor/statistics")]
    texts += [agent.call(kind).text for kind in ("GET_CONTAINERS", "GET_STATE", "GET_FLAGS", "GET_AGENT")]
    texts += [agent.log.read_text(), refused.text]
    flags = agent.flags
    for word in (WORD, ENCODED):
        assert [text for text in texts if word in text] == []
        assert files_with(word.encode(), flags.work_dir, flags.runtime_dir) == []
    agent.call("KILL_CONTAINER", container_id={"value": "web"})
    agent.wait_for("web")
    assert (agent.sandbox("web") / "same").exists()
    assert ContainerID("web").value in agent.log.read_text()
