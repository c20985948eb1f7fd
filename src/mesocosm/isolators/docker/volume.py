"""`docker/volume`: volumes of Docker's volume plugins."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import Self

from mesocosm.concurrency import together
from mesocosm.container import ContainerConfig, ContainerID, Volume, VolumeKind, VolumeMode
from mesocosm.docker.plugins import RefusedError, find_driver
from mesocosm.errors import ContainerError, MesocosmError, RecoveryError, leaves
from mesocosm.flags import Flags
from mesocosm.isolators import mounting
from mesocosm.isolators.base import ContainerState, Isolator, Phase
from mesocosm.isolators.records import containers_in
from mesocosm.launcher.info import LaunchInfo
from mesocosm.launcher.operations import Bind
from mesocosm.linux.replace import replace_file
from mesocosm.users import resolve

logger = logging.getLogger(__name__)

_Key = tuple[str, str]
"""The driver of a volume, and its name there."""
_RECORD = "volumes"


class DockerVolumeIsolator(Isolator):
    """Has plugins mount volumes on the host, and unmount them after the last container that had them.

    What a container has is on record before it is mounted, where Mesos has it: `CHECKPOINT_DIR/CONTAINER/volumes`.
    """

    phase = Phase.VOLUMES
    requires = ("filesystem/linux",)
    requires_launcher = "linux"

    def __init__(self, flags: Flags) -> None:
        self._flags = flags
        self._records = flags.docker_volume_checkpoint_dir
        self._used: dict[ContainerID, set[_Key]] = {}
        self._unsure: set[tuple[ContainerID, _Key]] = set()
        self._unknown: dict[ContainerID, asyncio.Task[None]] = {}
        self._turns: defaultdict[_Key, asyncio.Lock] = defaultdict(asyncio.Lock)

    @classmethod
    def create(cls, flags: Flags) -> Self:
        """Works where `filesystem/linux` does: which plugins there are may change at any time."""
        return cls(flags)

    async def recover(self, containers: Collection[ContainerState], orphans: Collection[ContainerID]) -> None:
        """Reads what containers have; what nobody has any more is unmounted, later, as a plugin may take long."""
        known = {*(state.container_id for state in containers), *orphans}
        self._used.update(await asyncio.to_thread(_read_all, self._records))
        for container_id in self._used.keys() - known:
            task = self._unknown[container_id] = asyncio.create_task(self._give_up(container_id))
            task.add_done_callback(lambda _, gone=container_id: self._unknown.pop(gone))  # type: ignore[misc]

    async def prepare(self, container_id: ContainerID, config: ContainerConfig) -> LaunchInfo | None:
        """Has the volumes mounted, all at once, and each for one container after the other."""
        volumes = [volume for volume in config.volumes if volume.kind is VolumeKind.DOCKER_VOLUME]
        if not volumes:
            return None
        keys = [_key(volume) for volume in volumes]
        for key in keys:
            if keys.count(key) > 1:
                raise ContainerError(f"{container_id} has the volume {key[1]!r} of the driver {key[0]!r} twice")
        targets = [
            mounting.target(container_id, volume.container_path, config, self._flags.sandbox_directory)
            for volume in volumes
        ]
        await self._settle(container_id)
        if container_id in self._used:
            raise ContainerError(
                f"volumes of an earlier container {container_id} are still mounted", "end what uses them, and try again"
            )
        self._used[container_id] = set()
        await asyncio.to_thread(_write, self._record(container_id), keys)
        paths = await together(self._mount(container_id, volume) for volume in volumes)
        await asyncio.to_thread(self._give, config, paths)
        binds = (
            Bind(str(path), read_only=volume.mode is VolumeMode.RO, **target)
            for path, volume, target in zip(paths, volumes, targets, strict=True)
        )
        return LaunchInfo(volumes=tuple(binds))

    async def cleanup(self, container_id: ContainerID) -> None:
        """Has unmounted what no other container has. It is tried again if it fails: what is on record stays."""
        await self._settle(container_id)
        await self._unmount_all(container_id)

    async def close(self) -> None:
        """Leaves what is still to be unmounted to the next one."""
        tasks = tuple(self._unknown.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _settle(self, container_id: ContainerID) -> None:
        """Waits for what is tried to unmount volumes of one that is gone, and had this id."""
        if (task := self._unknown.get(container_id)) is not None:
            await asyncio.wait((task,))

    def _record(self, container_id: ContainerID) -> Path:
        return self._records / str(container_id) / _RECORD

    async def _mount(self, container_id: ContainerID, volume: Volume) -> Path:
        assert volume.docker_volume is not None
        key = _key(volume)
        async with self._turns[key]:
            driver, again = find_driver(key[0]), self._has_another(container_id, key)
            self._used[container_id].add(key)
            try:
                return await driver.mount(key[1], volume.docker_volume.options, again=again)
            except RefusedError:
                self._used[container_id].discard(key)
                raise
            except BaseException:
                self._unsure.add((container_id, key))  # It may have mounted it, also where a launch ends meanwhile.
                raise

    async def _unmount_all(self, container_id: ContainerID) -> None:
        keys = self._used.get(container_id)
        if keys is None:
            return
        await together(self._unmount(container_id, key) for key in keys)
        await asyncio.to_thread(_remove, self._record(container_id).parent)
        del self._used[container_id]

    async def _unmount(self, container_id: ContainerID, key: _Key) -> None:
        async with self._turns[key]:
            try:
                if not self._has_another(container_id, key):
                    await find_driver(key[0]).unmount(key[1])
            except (ContainerError, OSError) as error:
                if (container_id, key) not in self._unsure:
                    raise
                logger.warning("%s: the volume %s may still be mounted: %s", container_id, key[1], error)
            self._unsure.discard((container_id, key))
            self._used[container_id] = self._used[container_id] - {key}

    def _has_another(self, container_id: ContainerID, key: _Key) -> bool:
        return any(key in keys for other, keys in self._used.items() if other != container_id)

    async def _give_up(self, container_id: ContainerID) -> None:
        try:
            await self._unmount_all(container_id)
        except (MesocosmError, OSError, ExceptionGroup) as error:
            reasons = "; ".join(map(str, leaves(error)))
            logger.error("the volumes of %s, which is gone, are not unmounted: %s", container_id, reasons)

    def _give(self, config: ContainerConfig, paths: list[Path]) -> None:
        """Makes the volumes, but not what is in them, the user's if the flag asks for it."""
        if self._flags.docker_volume_chown and config.user is not None:
            user = resolve(config.user, config.root_layers)
            for path in paths if user.uid else ():
                os.chown(path, user.uid, user.gid)


def _key(volume: Volume) -> _Key:
    assert volume.docker_volume is not None
    return volume.docker_volume.driver, volume.docker_volume.name


def _write(record: Path, keys: list[_Key]) -> None:
    """Records them, as Mesos does (DockerVolumes of its state.proto), and whole or not at all."""
    record.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    text = json.dumps({"volumes": [{"driver": driver, "name": name} for driver, name in keys]})
    replace_file(record, text.encode(), synced=True)


def _read_all(records: Path) -> dict[ContainerID, set[_Key]]:
    """What all containers have. Raises RecoveryError."""
    return {container_id: _read(records / str(container_id) / _RECORD) for container_id in containers_in(records)}


def _read(record: Path) -> set[_Key]:
    """What is on record; nothing if the agent or the machine ended before it was written. Raises RecoveryError."""
    text = record.read_text() if record.exists() else ""
    if not text:
        return set()
    try:
        return {(volume["driver"], volume["name"]) for volume in json.loads(text)["volumes"]}
    except (ValueError, KeyError, TypeError) as error:
        raise RecoveryError(f"{record} is damaged: {error}", "unmount what it names, and remove it") from None


def _remove(directory: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(directory)
