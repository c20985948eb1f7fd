"""`docker/volume` with a `dvdcli` that is a script: what is on record, and what becomes of it."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from mesocosm.container import CommandInfo, ContainerConfig, ContainerID, DockerVolume, Volume
from mesocosm.docker.plugins import PluginDriver
from mesocosm.errors import ContainerError
from mesocosm.flags import Flags
from mesocosm.isolators.base import ContainerState
from mesocosm.isolators.docker import volume as volume_module
from mesocosm.isolators.docker.volume import DockerVolumeIsolator
from mesocosm.launcher.info import Credentials
from mesocosm.linux.poll import readable

NAMESAKES = (ContainerID.parse("a.x"), ContainerID.parse("b.x"))


@pytest.fixture
def flags(tmp_path: Path) -> Flags:
    return Flags(docker_volume_checkpoint_dir=tmp_path / "records")


@pytest.fixture(autouse=True)
def dvdcli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What was asked of the script. It mounts each volume at a directory of its name."""
    programs, calls = tmp_path / "programs", tmp_path / "calls"
    programs.mkdir()
    script = f"#!/bin/sh\nset -e\nname=${{3#*=}}\necho $1 $name >> {calls}\nmkdir -p {tmp_path}/$name\n"
    (programs / "dvdcli").write_text(f"{script}[ $1 = unmount ] || echo {tmp_path}/$name\n")
    (programs / "dvdcli").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return calls


def config_of(tmp_path: Path, *names: str) -> ContainerConfig:
    volumes = tuple(Volume(name, docker_volume=DockerVolume("driver", name)) for name in names)
    return ContainerConfig(CommandInfo("true"), directory=tmp_path / "sandbox", volumes=volumes)


def recorded(flags: Flags) -> dict[str, list[str]]:
    return {
        directory.name: [each["name"] for each in json.loads((directory / "volumes").read_text())["volumes"]]
        for directory in flags.docker_volume_checkpoint_dir.iterdir()
    }


@pytest.mark.parametrize("restarts", [False, True])
async def test_nested_containers_of_one_name_have_a_record_each(
    tmp_path: Path, flags: Flags, dvdcli: Path, restarts: bool
) -> None:
    isolator, configs = DockerVolumeIsolator.create(flags), {}
    for container_id in NAMESAKES:
        configs[container_id] = config_of(tmp_path, f"v{container_id.root}")
        await isolator.prepare(container_id, configs[container_id])
    assert recorded(flags) == {"a.x": ["va"], "b.x": ["vb"]}
    if restarts:
        await isolator.close()
        isolator = DockerVolumeIsolator.create(flags)
        await isolator.recover([ContainerState(each, config, None) for each, config in configs.items()], [])
    await isolator.cleanup(NAMESAKES[0])
    assert recorded(flags) == {"b.x": ["vb"]}
    await isolator.cleanup(NAMESAKES[1])
    assert recorded(flags) == {}
    await isolator.cleanup(NAMESAKES[1])
    await isolator.close()
    assert dvdcli.read_text().splitlines() == ["mount va", "mount vb", "unmount va", "unmount vb"]


async def test_what_is_of_no_container_stays_and_harms_nobody(tmp_path: Path, flags: Flags, dvdcli: Path) -> None:
    records, container_id = flags.docker_volume_checkpoint_dir, ContainerID("c")
    config = config_of(tmp_path, "v")
    isolator = DockerVolumeIsolator.create(flags)
    await isolator.prepare(container_id, config)
    (records / ".snapshot").mkdir()
    (records / "README").touch()
    isolator = DockerVolumeIsolator.create(flags)
    await isolator.recover([ContainerState(container_id, config, None)], [])
    await isolator.cleanup(container_id)
    await isolator.close()
    assert sorted(path.name for path in records.iterdir()) == [".snapshot", "README"]
    assert dvdcli.read_text().splitlines() == ["mount v", "unmount v"]


async def test_a_record_that_cannot_be_written_leaves_nothing(tmp_path: Path, flags: Flags, dvdcli: Path) -> None:
    (flags.docker_volume_checkpoint_dir / "c/volumes/in the way").mkdir(parents=True)
    isolator = DockerVolumeIsolator.create(flags)
    with pytest.raises(OSError, match="volumes"):
        await isolator.prepare(ContainerID("c"), config_of(tmp_path, "v"))
    await isolator.cleanup(ContainerID("c"))
    assert list(flags.docker_volume_checkpoint_dir.iterdir()) == []
    assert not dvdcli.exists()


async def test_a_container_with_the_id_of_one_that_is_gone_waits_for_its_volumes(
    tmp_path: Path, flags: Flags, dvdcli: Path
) -> None:
    before = DockerVolumeIsolator.create(flags)
    await before.prepare(ContainerID("c"), config_of(tmp_path, "old"))
    isolator = DockerVolumeIsolator.create(flags)
    await isolator.recover([], [])
    await isolator.prepare(ContainerID("c"), config_of(tmp_path, "new"))
    assert recorded(flags) == {"c": ["new"]}
    await isolator.cleanup(ContainerID("c"))
    assert dvdcli.read_text().splitlines() == ["mount old", "unmount old", "mount new", "unmount new"]


async def test_a_volume_that_stays_mounted_is_not_forgotten_for_another_of_the_id(
    tmp_path: Path, flags: Flags, dvdcli: Path
) -> None:
    before = DockerVolumeIsolator.create(flags)
    await before.prepare(ContainerID("c"), config_of(tmp_path, "old"))
    program, stuck = tmp_path / "programs/dvdcli", tmp_path / "stuck"
    program.write_text(f"{program.read_text()}[ ! -e {stuck} ]\n")
    stuck.touch()
    isolator = DockerVolumeIsolator.create(flags)
    await isolator.recover([], [])
    with pytest.raises(ContainerError, match="volumes of an earlier container c are still mounted"):
        await isolator.prepare(ContainerID("c"), config_of(tmp_path, "new"))
    assert recorded(flags) == {"c": ["old"]}
    stuck.unlink()
    await isolator.cleanup(ContainerID("c"))
    assert recorded(flags) == {}
    assert dvdcli.read_text().splitlines() == ["mount old", "unmount old", "unmount old"]


async def test_a_launch_that_ends_while_its_volume_is_being_mounted(tmp_path: Path, flags: Flags) -> None:
    """Nobody knows whether it was mounted: that it cannot be unmounted does not keep the container."""
    os.mkfifo(tmp_path / "begun")
    begun = os.open(tmp_path / "begun", os.O_RDWR | os.O_NONBLOCK)
    script = f"[ $1 = unmount ] && exit 1; echo > {tmp_path}/begun; exec sleep 1000"
    (tmp_path / "programs/dvdcli").write_text(f"#!/bin/sh\n{script}\n")
    isolator = DockerVolumeIsolator.create(flags)
    launch = asyncio.create_task(isolator.prepare(ContainerID("c"), config_of(tmp_path, "v")))
    await asyncio.wait_for(readable(begun), 30)
    os.close(begun)
    launch.cancel()
    await asyncio.wait((launch,))
    await isolator.cleanup(ContainerID("c"))
    assert recorded(flags) == {}


async def test_others_go_on_while_names_of_users_are_looked_up(
    tmp_path: Path, flags: Flags, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That can be a question to a directory service far away."""
    looked_up = []

    def resolve(name: str, layers: object) -> Credentials:
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()
        looked_up.append(name)
        return Credentials(0, 0)

    monkeypatch.setattr(volume_module, "resolve", resolve)
    isolator = DockerVolumeIsolator.create(replace(flags, docker_volume_chown=True))
    await isolator.prepare(ContainerID("c"), replace(config_of(tmp_path, "v"), user="somebody"))
    await isolator.cleanup(ContainerID("c"))
    assert looked_up == ["somebody"]


async def test_an_answer_that_comes_in_parts(tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b'{"Err": ')
        await writer.drain()
        await asyncio.sleep(0.05)  # They are two segments, and the first is read before the second is there.
        writer.write(b'"it is in use"}')
        writer.close()

    socket = tmp_path / "socket"
    async with await asyncio.start_unix_server(serve, socket):
        with pytest.raises(ContainerError, match=r"VolumeDriver\.Unmount: it is in use"):
            await PluginDriver("plugin", f"unix://{socket}").unmount("v")
