"""Docker volume plugins: by their own protocol, or by `dvdcli`.

Source: docs.docker.com/engine/extend, plugin_api and plugins_volume.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mesocosm.bodies import read_up_to
from mesocosm.errors import ContainerError

SOCKETS = Path("/run/docker/plugins")
SPECIFICATIONS = (Path("/etc/docker/plugins"), Path("/usr/lib/docker/plugins"))
MOUNT_TIMEOUT, UNMOUNT_TIMEOUT = 120.0, 600.0
"""Seconds, as in Mesos."""
_USER = "mesocosm"
"""Who has a volume, to the plugin: one for all containers, which are counted here."""
_MOST = 1 << 20
"""Bytes of an answer."""
_SHOWN = 300
_DVDCLI = "dvdcli"


class RefusedError(ContainerError):
    """A driver has said that it did not do what it was asked for."""


class Driver:
    """A volume driver. Whatever goes wrong is a ContainerError or an OSError; so is that it takes too long."""

    async def mount(self, volume: str, options: Mapping[str, str], *, again: bool) -> Path:
        """Where the volume is on the host, made and mounted if it is not; `again` if others of ours have it already."""
        raise NotImplementedError

    async def unmount(self, volume: str) -> None:
        """Lets go of a volume."""
        raise NotImplementedError


def find_driver(name: str) -> Driver:
    """The driver of that name: a plugin if there is one, else what `dvdcli` knows. Raises ContainerError, OSError."""
    if "/" in name or name in ("", ".", ".."):
        raise ContainerError(f"the volume driver {name!r} is no name")
    if (address := _address(name)) is not None:
        return PluginDriver(name, address)
    if (program := shutil.which(_DVDCLI)) is not None:
        return DvdcliDriver(name, program)
    raise ContainerError(
        f"there is no volume plugin {name!r}", f"start it, with a socket in {SOCKETS}, or install {_DVDCLI}"
    )


def _address(name: str) -> str | None:
    """As Docker looks for plugins: sockets first, then files that say where one is."""
    for path in (SOCKETS / f"{name}.sock", SOCKETS / name / f"{name}.sock"):
        if path.is_socket():
            return f"unix://{path}"
    for directory in SPECIFICATIONS:
        if (path := directory / f"{name}.spec").is_file():
            return path.read_text().strip()
        if (path := directory / f"{name}.json").is_file():
            return _address_in(path)
    return None


def _address_in(path: Path) -> str:
    try:
        return str(json.loads(path.read_text())["Addr"])
    except (ValueError, KeyError, TypeError) as error:
        raise ContainerError(f"{path} is no specification of a plugin: {error}") from None


@dataclass(frozen=True, slots=True)
class PluginDriver(Driver):
    """A plugin that listens at `address`: `unix:///PATH`, `tcp://HOST:PORT` or `http://HOST:PORT`."""

    name: str
    address: str

    async def mount(self, volume: str, options: Mapping[str, str], *, again: bool) -> Path:
        """Creates the volume if there is none, as Docker does."""
        return Path(await self._within(MOUNT_TIMEOUT, self._mount(volume, options, again=again)))

    async def unmount(self, volume: str) -> None:
        """Has the plugin unmount it."""
        await self._within(UNMOUNT_TIMEOUT, self._call("VolumeDriver.Unmount", Name=volume, ID=_USER))

    async def _mount(self, volume: str, options: Mapping[str, str], *, again: bool) -> Path:
        if again and (found := (await self._call("VolumeDriver.Path", Name=volume)).get("Mountpoint")):
            return await self._path(found)
        implements = (await self._call("Plugin.Activate")).get("Implements")
        if not isinstance(implements, list) or "VolumeDriver" not in implements:
            raise ContainerError(f"the plugin {self.name!r} is no volume driver")
        if (await self._ask("VolumeDriver.Get", Name=volume)).get("Err"):
            await self._call("VolumeDriver.Create", Name=volume, Opts=dict(options))
        return await self._path((await self._call("VolumeDriver.Mount", Name=volume, ID=_USER)).get("Mountpoint"))

    async def _path(self, mountpoint: object) -> Path:
        if not isinstance(mountpoint, str) or not await _is_directory(mountpoint):
            raise ContainerError(f"the plugin {self.name!r} says that it has mounted at {str(mountpoint)[:_SHOWN]!r}")
        return Path(mountpoint)

    async def _within(self, seconds: float, work: Any) -> Any:
        try:
            return await asyncio.wait_for(work, seconds)
        except TimeoutError:
            raise ContainerError(f"the plugin {self.name!r} has not answered in {seconds:g} s") from None

    async def _call(self, method: str, **fields: object) -> dict[str, Any]:
        """What it answers. Raises ContainerError for an answer that is an error."""
        answer = await self._ask(method, **fields)
        if answer.get("Err"):
            raise RefusedError(f"the plugin {self.name!r}: {method}: {str(answer['Err'])[:_SHOWN]}")
        return answer

    async def _ask(self, method: str, **fields: object) -> dict[str, Any]:
        # Imported here: it takes a while, and few containers have such volumes.
        import aiohttp

        address = urlsplit(self.address)
        is_local = address.scheme == "unix"
        if not is_local and address.scheme not in ("tcp", "http"):
            raise ContainerError(
                f"the plugin {self.name!r} has the address {self.address!r}", "unix, tcp or http will do"
            )
        connector = aiohttp.UnixConnector(address.path) if is_local else aiohttp.TCPConnector()
        url = f"http://{'plugin' if is_local else address.netloc}/{method}"
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as session,
                session.post(url, data=json.dumps(fields), headers=_HEADERS) as response,
            ):
                return self._parse(method, await read_up_to(response.content, _MOST))
        except aiohttp.ClientError as error:
            raise ContainerError(f"the plugin {self.name!r} cannot be asked: {error}") from error

    def _parse(self, method: str, data: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(data)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise ContainerError(f"the plugin {self.name!r} answers {method} with {data[:_SHOWN]!r}")
        return answer


_HEADERS = {"Accept": "application/vnd.docker.plugins.v1.2+json", "Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class DvdcliDriver(Driver):
    """What the `program` dvdcli knows, a command for the volume plugins of Docker."""

    name: str
    program: str

    async def mount(self, volume: str, options: Mapping[str, str], *, again: bool) -> Path:
        """dvdcli minds no volume that is mounted already."""
        arguments = [f"--volumeopts={key}={value}" for key, value in options.items()]
        path = await self._run(MOUNT_TIMEOUT, "mount", volume, *arguments)
        if not await _is_directory(path):
            raise ContainerError(f"{_DVDCLI} says that it has mounted {volume!r} at {path[:_SHOWN]!r}")
        return Path(path)

    async def unmount(self, volume: str) -> None:
        """Has it unmounted."""
        await self._run(UNMOUNT_TIMEOUT, "unmount", volume)

    async def _run(self, seconds: float, command: str, volume: str, *arguments: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *(self.program, command, f"--volumedriver={self.name}", f"--volumename={volume}", *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            output, errors = await asyncio.wait_for(process.communicate(), seconds)
        except TimeoutError:
            raise ContainerError(f"{_DVDCLI} {command} {volume!r} has not ended in {seconds:g} s") from None
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if process.returncode:
            raise RefusedError(f"{_DVDCLI} {command} {volume!r}: {errors.decode(errors='replace').strip()[:_SHOWN]}")
        return output.decode(errors="replace").strip()


async def _is_directory(path: str) -> bool:
    """Asked in a thread: what a plugin mounts may be far away, and not answer."""
    return path.startswith("/") and await asyncio.to_thread(Path(path).is_dir)
