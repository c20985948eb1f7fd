"""One container in one network: what is on disk of it, and the commands to the plugins.

network.conf            what the container was attached with, also when the configuration has changed since
<interface>/network.info   what came of it
plugin                  the process that is at it
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesocosm.cni.configuration import WITH_PREVIOUS, Network, Plugin
from mesocosm.cni.plugin import PluginError, Plugins, end_recorded
from mesocosm.cni.result import Result
from mesocosm.errors import ContainerError
from mesocosm.linux import interfaces
from mesocosm.linux.replace import replace_file

logger = logging.getLogger(__name__)

_CONFIGURATION = "network.conf"
_RESULT = "network.info"
_RECORD = "plugin"
_MASQUERADING = frozenset({"bridge", "ptp"})


@dataclass(frozen=True, slots=True)
class Attachment:
    """A container, by the name that plugins know it by, and its interface in a network; `directory` is of its own.

    `namespace` is a path of its network namespace, None where that is gone.
    """

    directory: Path
    container: str
    interface: str
    namespace: Path | None

    @classmethod
    def find(cls, directory: Path, container: str, namespace: Path | None) -> Attachment:
        """The one that is on disk. Raises OSError."""
        interfaces = [entry.name for entry in directory.iterdir() if entry.is_dir()]
        return cls(directory, container, interfaces[0] if interfaces else "eth0", namespace)

    async def add(self, network: Network, plugins: Plugins) -> Result:
        """Attaches the container. Raises PluginError, OSError; what it has made then, `remove` takes away."""
        await _check_versions(network, plugins)
        self._result_file.parent.mkdir(parents=True)
        replace_file(self.directory / _CONFIGURATION, network.dump(), synced=True)  # A reboot must not lose it.
        result: Result | None = None
        for plugin in network.plugins:
            output = await self._run("ADD", network, plugin, None if result is None else result.content, plugins)
            try:
                result = Result.parse(output)
            except ValueError as error:
                raise PluginError(f"the CNI plugin {plugin['type']!r} answered ADD with no result: {error}") from error
            replace_file(self._result_file, output, synced=True)
        assert result is not None
        return result

    async def check(self, plugins: Plugins) -> None:
        """Has the plugins look whether all is as they made it. Raises PluginError, OSError."""
        network, result = self.network(), self.result()
        if network is None or result is None or not network.check or network.version not in WITH_PREVIOUS:
            return
        for plugin in network.plugins:
            await self._run("CHECK", network, plugin, result.content, plugins)

    async def remove(self, plugins: Plugins) -> None:
        """Detaches the container, the last plugin first, and forgets it. All are asked. Raises ContainerError, OSError.

        Also after an `add` that failed, or was cut off when this process was killed.
        """
        end_recorded(self.directory / _RECORD)
        network, result = self.network(), self.result()
        errors: list[Exception] = []
        if network is not None and result is not None and self.namespace is not None:
            await self._restore(self.namespace, network, result)
        for plugin in reversed(network.plugins if network is not None else ()):
            assert network is not None
            previous = result.content if result is not None and network.version in WITH_PREVIOUS else None
            try:
                await self._run("DEL", network, plugin, previous, plugins)
            except (ContainerError, OSError) as error:
                errors.append(error)
        if errors:
            lines = "; ".join(map(str, errors))
            raise ContainerError(f"{self.container} is not detached from the network {self.directory.name!r}: {lines}")
        shutil.rmtree(self.directory)

    async def _restore(self, namespace: Path, network: Network, result: Result) -> None:
        """Gives back the addresses that root in the container may have taken from its interface.

        These plugins of CNI 1.1 ask the interface for which addresses they have made rules, and would leave the rules.
        """
        if not any(plugin["type"] in _MASQUERADING and plugin.get("ipMasq") for plugin in network.plugins):
            return
        # A thread that does nothing else, as it moves to the namespace.
        executor = ThreadPoolExecutor(1)
        try:
            arguments = str(namespace), self.interface, result.interfaces
            await asyncio.get_running_loop().run_in_executor(executor, interfaces.restore, *arguments)
        except OSError as error:
            logger.warning("the interface %s of %s is not as it was made: %s", self.interface, self.container, error)
        finally:
            executor.shutdown(wait=False)

    def network(self) -> Network | None:
        """What it was attached with; None if that has not begun. Raises ContainerError, OSError."""
        file = self.directory / _CONFIGURATION
        try:
            return Network.parse(file.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise ContainerError(
                f"{file} is damaged: {error}", "have the plugins' leases and rules removed by hand, then the directory"
            ) from error

    def result(self) -> Result | None:
        """What came of it; None if no plugin has succeeded, or nobody knows any more. Raises OSError."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            return Result.parse(self._result_file.read_bytes())
        return None

    @property
    def _result_file(self) -> Path:
        return self.directory / self.interface / _RESULT

    async def _run(
        self, command: str, network: Network, plugin: Plugin, previous: Mapping[str, Any] | None, plugins: Plugins
    ) -> bytes:
        parameters = {"CNI_CONTAINERID": self.container, "CNI_IFNAME": self.interface}
        if self.namespace is not None:
            parameters["CNI_NETNS"] = str(self.namespace)
        request = network.request(plugin, previous)
        return await plugins.run(plugin["type"], command, parameters, request, self.directory / _RECORD)


async def _check_versions(network: Network, plugins: Plugins) -> None:
    """Raises PluginError for a plugin that is missing, or does not speak the version of the configuration."""
    for plugin in network.plugins:
        kind = plugin["type"]
        spoken = await plugins.versions(kind)
        if spoken is not None and network.version not in spoken:
            raise PluginError(
                f"the CNI plugin {kind!r} does not speak the version {network.version} of the network {network.name!r}",
                f"set cniVersion to one of {', '.join(sorted(spoken))}",
            )
