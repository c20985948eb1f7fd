"""`docker/volume` with a plugin that is a process of its own, and with a `dvdcli` that is a script."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mesocosm.container import DockerVolume, Volume, VolumeMode
from mesocosm.docker import plugins
from mesocosm.errors import ContainerError, leaves
from mesocosm.flags import Flags
from tests import volume_plugin
from tests.agent_process import AgentProcess
from tests.launching import LINUX, TIMEOUT, Launch
from tests.machine import mount_points

pytestmark = pytest.mark.kernel
ISOLATION = f"{LINUX},docker/volume"


@dataclass
class Plugin:
    """A running plugin. `driver` is its name."""

    driver: str
    directory: Path
    process: subprocess.Popen[bytes]

    def calls(self) -> list[str]:
        """What was asked of it, but for questions."""
        text = (self.directory / "calls").read_text() if (self.directory / "calls").exists() else ""
        lines = [line.removeprefix("VolumeDriver.") for line in text.splitlines()]
        return [line.partition(" ")[0] for line in lines if not line.startswith(("Plugin", "Get", "Path"))]

    def volume(self, name: str = "one", path: str = "data", **fields: VolumeMode) -> Volume:
        return Volume(path, docker_volume=DockerVolume(self.driver, name), **fields)

    def mounted(self) -> list[str]:
        return sorted(path.name for path in mount_points() if path.parent == self.directory / "mounts")


@pytest.fixture
def flags(run_directory: Path, cgroups_root: str) -> Flags:
    return Flags(
        work_dir=run_directory / "work",
        runtime_dir=run_directory / "run",
        cgroups_root=cgroups_root,
        docker_volume_checkpoint_dir=run_directory / "docker_volumes",
    )


@pytest.fixture
def plugin(flags: Flags, run_directory: Path, unique_name: str) -> Iterator[Plugin]:
    """One whose socket is where Docker looks for it."""
    made = [path for path in (plugins.SOCKETS, plugins.SOCKETS.parent) if not path.exists()]
    plugins.SOCKETS.mkdir(parents=True, exist_ok=True)
    socket, directory = plugins.SOCKETS / f"{unique_name}.sock", run_directory / "plugin"
    directory.mkdir()
    command = [sys.executable, volume_plugin.__file__, str(socket), str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield Plugin(unique_name, directory, process)
        process.kill()
    socket.unlink()
    for path in made:
        path.rmdir()


async def test_a_volume_is_mounted_for_the_container_and_unmounted_after_it(
    launch: Launch, plugin: Plugin, flags: Flags
) -> None:
    volume = plugin.volume()
    assert volume.docker_volume is not None
    volume = replace(volume, docker_volume=replace(volume.docker_volume, options={"size": "1G"}))
    container = await launch.talking(
        "echo kept > data/file; echo up; read -r end", isolation=ISOLATION, volumes=(volume,)
    )
    assert await container.line() == "up"
    assert plugin.mounted() == ["one"]
    record = json.loads((flags.docker_volume_checkpoint_dir / "c1/volumes").read_text())
    assert record == {"volumes": [{"driver": plugin.driver, "name": "one"}]}
    container.say("end")
    assert await container.wait() == 0
    assert plugin.mounted() == []
    assert list(flags.docker_volume_checkpoint_dir.iterdir()) == []
    assert (plugin.directory / "volumes/one/file").read_text() == "kept\n"
    assert '"Opts": {"size": "1G"}' in (plugin.directory / "calls").read_text()
    assert await launch.output("cat data/file", isolation=ISOLATION, volumes=(volume,)) == "kept"
    assert plugin.calls() == ["Create", "Mount", "Unmount", "Mount", "Unmount"]


@pytest.mark.parametrize("with_rootfs", [False, True])
async def test_a_read_only_volume(launch: Launch, plugin: Plugin, rootfs: Path, with_rootfs: bool) -> None:
    volume = plugin.volume(mode=VolumeMode.RO)
    options = {"isolation": ISOLATION, "volumes": (volume,), "rootfs": rootfs if with_rootfs else None}
    container = await launch("touch data/new", **options)
    assert await container.wait() == 1
    assert "Read-only" in container.stream("stderr")
    assert plugin.mounted() == []


@pytest.mark.parametrize("path", ["data", "/data", "/made/for/it"])
async def test_paths_in_a_root_filesystem(launch: Launch, plugin: Plugin, writable_rootfs: Path, path: str) -> None:
    place = path if path.startswith("/") else f"/mnt/mesos/sandbox/{path}"
    container = await launch(
        f"echo text > {place}/file", isolation=ISOLATION, rootfs=writable_rootfs, volumes=(plugin.volume(path=path),)
    )
    assert await container.wait() == 0, container.stream("stderr")
    assert (plugin.directory / "volumes/one/file").read_text() == "text\n"


async def test_an_absolute_path_without_a_root_filesystem_has_to_exist(
    launch: Launch, plugin: Plugin, run_directory: Path
) -> None:
    with pytest.raises(ContainerError, match="does not exist on the host"):
        await launch("true", isolation=ISOLATION, volumes=(plugin.volume(path="/no/such/place"),))
    assert plugin.calls() == []
    place = run_directory / "place"
    place.mkdir()
    container = await launch(f"touch {place}/file", isolation=ISOLATION, volumes=(plugin.volume(path=str(place)),))
    assert await container.wait() == 0
    assert (plugin.directory / "volumes/one/file").exists()
    assert not (place / "file").exists()


async def test_containers_share_a_volume_until_the_last_one_ends(launch: Launch, plugin: Plugin) -> None:
    """Nested ones, too, which end first."""
    first = await launch.sleeping(isolation=ISOLATION, volumes=(plugin.volume(),))
    second = await launch.sleeping(isolation=ISOLATION, volumes=(plugin.volume(),))
    nested = await launch("touch data/file", parent=second, volumes=(plugin.volume(),))
    assert await nested.wait() == 0, nested.stream("stderr")
    assert (plugin.directory / "volumes/one/file").exists()
    await first.destroy()
    assert plugin.mounted() == ["one"]
    await second.destroy()
    assert plugin.mounted() == []
    assert plugin.calls() == ["Create", "Mount", "Unmount"]


async def test_the_same_volume_twice_is_refused(launch: Launch, plugin: Plugin) -> None:
    with pytest.raises(ContainerError, match=r"has the volume 'one' of the driver .* twice"):
        await launch("true", isolation=ISOLATION, volumes=(plugin.volume(), plugin.volume(path="other")))
    assert plugin.calls() == []


@pytest.mark.parametrize("given", [True, False])
async def test_the_volume_is_the_users_if_so_flagged(
    launch: Launch, plugin: Plugin, writable_rootfs: Path, given: bool
) -> None:
    launch.containerizer(ISOLATION, docker_volume_chown=given)
    options = {"isolation": ISOLATION, "rootfs": writable_rootfs, "user": "65534"}
    container = await launch("test -w /data", volumes=(plugin.volume(path="/data"),), **options)
    assert await container.wait() == (0 if given else 1)
    assert (plugin.directory / "volumes/one").stat().st_uid == (65534 if given else 0)


@pytest.mark.parametrize(
    ("name", "message"),
    [("garbage", "answers VolumeDriver.Mount with b'<html>'"), ("fail", "it is broken"), ("die", "cannot be asked")],
)
async def test_a_plugin_that_fails(launch: Launch, plugin: Plugin, flags: Flags, name: str, message: str) -> None:
    with pytest.raises((ContainerError, ExceptionGroup)) as caught:
        await launch("true", isolation=ISOLATION, volumes=(plugin.volume(name),))
    assert message in "; ".join(map(str, leaves(caught.value)))
    assert list(flags.docker_volume_checkpoint_dir.iterdir()) == []
    assert plugin.mounted() == []


async def test_a_plugin_that_hangs_is_given_up(launch: Launch, plugin: Plugin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "MOUNT_TIMEOUT", 0.5)
    other = await launch.sleeping(isolation=ISOLATION)
    with pytest.raises((ContainerError, ExceptionGroup)) as caught:
        await launch("true", isolation=ISOLATION, volumes=(plugin.volume("hang"),))
    assert "has not answered in 0.5 s" in "; ".join(map(str, leaves(caught.value)))
    await other.destroy()


async def test_what_cannot_be_unmounted_is_tried_again(launch: Launch, plugin: Plugin) -> None:
    (plugin.directory / "stuck").touch()
    container = await launch.sleeping(isolation=ISOLATION, volumes=(plugin.volume("stuck"),))
    with pytest.raises(ContainerError, match="it is in use"):
        await container.destroy()
    (plugin.directory / "stuck").unlink()
    await container.destroy()
    assert plugin.mounted() == []


async def test_dvdcli(launch: Launch, plugin: Plugin, run_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a driver that has no plugin here."""
    programs, volume = run_directory / "programs", run_directory / "dvd"
    programs.mkdir()
    volume.mkdir()
    (programs / "dvdcli").write_text(f'#!/bin/sh\necho "$@" >> {programs}/calls\n[ "$1" = unmount ] || echo {volume}\n')
    (programs / "dvdcli").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    asked = Volume("data", docker_volume=DockerVolume("rexray", "v", {"size": "5"}))
    container = await launch("touch data/file", isolation=ISOLATION, volumes=(asked,))
    assert await container.wait() == 0
    assert (volume / "file").exists()
    assert (programs / "calls").read_text().splitlines() == [
        "mount --volumedriver=rexray --volumename=v --volumeopts=size=5",
        "unmount --volumedriver=rexray --volumename=v",
    ]


@pytest.mark.parametrize("program", ["echo it is broken >&2; exit 1", "echo /no/such/place", "sleep 60"])
async def test_a_dvdcli_that_fails(
    launch: Launch, flags: Flags, run_directory: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    """To mount: nothing is left on record, and what it may have mounted is unmounted once."""
    monkeypatch.setattr(plugins, "MOUNT_TIMEOUT", 0.5)
    calls = run_directory / "calls"
    dvdcli = run_directory / "dvdcli"
    dvdcli.write_text(f'#!/bin/sh\necho "$1" >> {calls}\n[ "$1" = unmount ] && exit 1\n{program}\n')
    dvdcli.chmod(0o755)
    monkeypatch.setenv("PATH", f"{run_directory}:{os.environ['PATH']}")
    asked = Volume("data", docker_volume=DockerVolume("rexray", "v"))
    with pytest.raises((ContainerError, ExceptionGroup)) as caught:
        await launch("true", isolation=ISOLATION, volumes=(asked,))
    expected = {"echo it": "dvdcli mount 'v': it is broken", "echo /n": "mounted 'v' at '/no/such/place'"}
    assert expected.get(program[:7], "has not ended in 0.5 s") in "; ".join(map(str, leaves(caught.value)))
    assert calls.read_text().split() == (["mount"] if "broken" in program else ["mount", "unmount"])
    assert list(flags.docker_volume_checkpoint_dir.iterdir()) == []


async def test_a_dvdcli_that_cannot_unmount_is_tried_again(
    launch: Launch, run_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, stuck = run_directory / "calls", run_directory / "stuck"
    dvdcli = run_directory / "dvdcli"
    script = f"if [ $1 = mount ]; then echo {run_directory}; elif [ -e {stuck} ]; then echo busy >&2; exit 1; fi"
    dvdcli.write_text(f'#!/bin/sh\necho "$1" >> {calls}\n{script}\n')
    dvdcli.chmod(0o755)
    stuck.touch()
    monkeypatch.setenv("PATH", f"{run_directory}:{os.environ['PATH']}")
    asked = Volume("data", docker_volume=DockerVolume("rexray", "v"))
    container = await launch.sleeping(isolation=ISOLATION, volumes=(asked,))
    with pytest.raises(ContainerError, match="dvdcli unmount 'v': busy"):
        await container.destroy()
    stuck.unlink()
    await container.destroy()
    assert calls.read_text().split() == ["mount", "unmount", "unmount"]


@pytest.mark.parametrize("kind", ["spec", "json", "tcp"])
async def test_a_plugin_that_a_file_tells_of(
    launch: Launch, plugin: Plugin, run_directory: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """On a socket elsewhere, or one of TCP, which is passed on to the plugin's."""
    specifications = run_directory / "specifications"
    specifications.mkdir()
    monkeypatch.setattr(plugins, "SPECIFICATIONS", (run_directory / "none", specifications))
    socket = plugins.SOCKETS / f"{plugin.driver}.sock"
    driver = f"told-{plugin.driver}"
    async with passed_on(socket) as port:
        address = f"tcp://127.0.0.1:{port}" if kind == "tcp" else f"unix://{socket}"
        content = json.dumps({"Name": driver, "Addr": address}) if kind == "json" else f"{address}\n"
        (specifications / f"{driver}.{'json' if kind == 'json' else 'spec'}").write_text(content)
        asked = Volume("data", docker_volume=DockerVolume(driver, "one"))
        container = await launch("touch data/file", isolation=ISOLATION, volumes=(asked,))
        assert await container.wait() == 0
    assert (plugin.directory / "volumes/one/file").exists()
    assert plugin.calls() == ["Create", "Mount", "Unmount"]


@contextlib.asynccontextmanager
async def passed_on(socket: Path) -> AsyncIterator[int]:
    """A port of this machine that leads to the socket: one request of each connection, as this plugin answers."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"content-length: (\d+)", head, re.IGNORECASE)[1])  # type: ignore[index]
        answers, requests = await asyncio.open_unix_connection(str(socket))
        requests.write(head + await reader.readexactly(length))
        writer.write(await answers.read())
        for each in (requests, writer):
            each.close()
            await each.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1")
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("x.json", "[]", "x.json is no specification of a plugin"),
        ("x.json", "{}", "x.json is no specification of a plugin: 'Addr'"),
        ("x.spec", "ftp://host", "'ftp://host'; unix, tcp or http will do"),
        ("x.spec", "", "the plugin 'x' has the address ''"),
        ("x.spec", "tcp://127.0.0.1:1", "the plugin 'x' cannot be asked"),
        ("x.spec", "unix:///no/such/socket", "the plugin 'x' cannot be asked"),
    ],
)
async def test_files_that_tell_of_no_plugin(
    launch: Launch, run_directory: Path, monkeypatch: pytest.MonkeyPatch, file: str, content: str, expected: str
) -> None:
    monkeypatch.setattr(plugins, "SPECIFICATIONS", (run_directory,))
    (run_directory / file).write_text(content)
    with pytest.raises((ContainerError, ExceptionGroup)) as caught:
        await launch("true", isolation=ISOLATION, volumes=(Volume("data", docker_volume=DockerVolume("x", "v")),))
    assert expected in "; ".join(map(str, leaves(caught.value)))


async def test_no_such_driver(launch: Launch, plugin: Plugin) -> None:
    asked = Volume("data", docker_volume=DockerVolume("nonesuch", "v"))
    with pytest.raises((ContainerError, ExceptionGroup)) as caught:
        await launch("true", isolation=ISOLATION, volumes=(asked,))
    assert "there is no volume plugin 'nonesuch'" in "; ".join(map(str, leaves(caught.value)))


def test_recovery_after_kill_9(agent: AgentProcess, plugin: Plugin, flags: Flags) -> None:
    """One that runs keeps its volume; that of one which nobody knows any more is unmounted.

    Where the machine ended before the record was on disk, it is empty, and the volume is left to the operator.
    """
    records = f"--docker_volume_checkpoint_dir={flags.docker_volume_checkpoint_dir}"
    agent.start(records, isolation=ISOLATION)
    for name in ("forgotten", "kept", "lost"):
        source = {"type": "DOCKER_VOLUME", "docker_volume": {"driver": plugin.driver, "name": name}}
        volume = {"mode": "RW", "container_path": "data", "source": source}
        asked = {"type": "MESOS", "volumes": [volume]}
        answer = agent.launch(name, "echo up > data/file; sleep 60", container=asked)
        assert answer.status == 200, answer.text
    assert plugin.mounted() == ["forgotten", "kept", "lost"]
    os.kill(agent.pid, 9)
    agent.wait()
    (flags.docker_volume_checkpoint_dir / "empty").mkdir()
    (flags.docker_volume_checkpoint_dir / "empty/volumes").touch()
    (flags.docker_volume_checkpoint_dir / "forgotten/volumes").write_text("")
    shutil.rmtree(agent.flags.runtime_dir / "containers/lost")
    agent.start(records, isolation=ISOLATION)
    assert set(agent.containers()) == {"forgotten", "kept"}
    for name in ("forgotten", "kept"):
        agent.call("KILL_CONTAINER", container_id={"value": name})
        agent.wait_for(name)
    deadline = time.monotonic() + TIMEOUT
    while plugin.mounted() != ["forgotten"] or list(flags.docker_volume_checkpoint_dir.iterdir()):
        assert time.monotonic() < deadline, plugin.mounted()
        time.sleep(0.02)  # What nobody knows is given up beside all else.
    assert plugin.calls().count("Unmount") == 2
    subprocess.run(["umount", plugin.directory / "mounts/forgotten"], check=True)
