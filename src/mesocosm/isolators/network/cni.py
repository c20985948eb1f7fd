"""The isolator `network/cni`: a network of the container's own by CNI plugins, none at all, or that of the host."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

from mesocosm.cni.store import NAMES, TAKEN, Store
from mesocosm.container import ContainerConfig, ContainerID, ContainerStatus
from mesocosm.dataclass import replace
from mesocosm.errors import ContainerError, FlagError, UnsupportedError
from mesocosm.flags import Flags
from mesocosm.isolators.base import NO_STATISTICS, NO_STATUS, ContainerState, Isolator, Phase
from mesocosm.isolators.records import containers_in
from mesocosm.launcher.info import LaunchInfo
from mesocosm.launcher.operations import Bind, HostFile, Operation, RaiseLoopback, ReceiveMounts
from mesocosm.linux import capabilities, network
from mesocosm.linux.namespaces import Namespace, supported
from mesocosm.networks import IPAddress, NetworkInfo
from mesocosm.statistics import ResourceStatistics

if TYPE_CHECKING:
    # Not for containers in the network of the host: they would pay for what they do not use.
    from mesocosm.cni.configuration import Network
    from mesocosm.cni.files import DefaultDns
    from mesocosm.cni.plugin import Plugins
    from mesocosm.cni.result import Result

logger = logging.getLogger(__name__)

_STATE = "isolators/network/cni"
_WITH_MOUNTS = frozenset({"filesystem/linux", "filesystem/shared"})
"""The isolators that give every container a mount namespace."""


@dataclass(frozen=True, slots=True)
class _Scope:
    """Whose network a container is in, and whose host name and files of names it has; None: the host's."""

    network: ContainerID | None = None
    names: ContainerID | None = None


@dataclass(slots=True)
class _Joined:
    """A container with networks of its own: what it asked for, and what it is to be attached to or has got."""

    infos: tuple[NetworkInfo, ...]
    networks: tuple[Network, ...] = ()
    results: list[Result] = field(default_factory=list)


class CniIsolator(Isolator):
    """Gives a container that names networks a network namespace, and has the plugins of these attach it.

    What there is to undo is kept below `<runtime_dir>/isolators/network/cni`, as Mesos does.

    Sources: the specification of CNI, the Mesos pages on CNI, network_namespaces(7).
    """

    phase = Phase.NAMESPACES
    requires_launcher = "linux"

    def __init__(self, flags: Flags) -> None:
        self._flags = flags
        self._needs_mounts = _WITH_MOUNTS.isdisjoint(flags.isolators)
        base = flags.work_dir if flags.network_cni_root_dir_persist else flags.runtime_dir
        self._store = Store(base.absolute() / _STATE)
        self._scopes: dict[ContainerID, _Scope] = {}
        self._joined: dict[ContainerID, _Joined] = {}
        self._host_names: dict[ContainerID, str] = {}
        self._pids: dict[ContainerID, int] = {}
        self._check: asyncio.Task[None] | None = None
        self._made_plugins: Plugins | None = None
        self._made_dns: DefaultDns | None = None

    @classmethod
    def create(cls, flags: Flags) -> Self:
        """Refuses where there are no network namespaces, and directories that make no sense.

        Without a directory of configurations there are no networks to join, but there still is the host's.
        """
        if not capabilities.has(capabilities.SYS_ADMIN):
            raise UnsupportedError("a network namespace takes root with CAP_SYS_ADMIN", "run as root")
        if not (supported(Namespace.NETWORK) and supported(Namespace.UTS)):
            raise UnsupportedError("this kernel has no network or no UTS namespaces", "remove network/cni")
        plugins, configurations = flags.network_cni_plugins_dir, flags.network_cni_config_dir
        if configurations is not None and not plugins:
            raise FlagError("--network_cni_config_dir needs --network_cni_plugins_dir", "say where the plugins are")
        if plugins and configurations is None:
            raise FlagError("--network_cni_plugins_dir needs --network_cni_config_dir", "say where the networks are")
        if configurations is not None and not configurations.is_dir():
            raise FlagError(f"--network_cni_config_dir: {configurations} is no directory", "make it first")
        isolator = cls(flags)
        if flags.default_container_dns is not None:
            isolator._dns()
        return isolator

    # The life of a container.

    async def recover(self, containers: Collection[ContainerState], orphans: Collection[ContainerID]) -> None:
        """Takes up the networks of `containers`, and gives back those that nobody else knows of."""
        for state in sorted(containers, key=lambda state: state.container_id.depth):
            self._recover(state)
        known = {state.container_id for state in containers} | set(orphans)
        for container_id in containers_in(self._store.root):
            if container_id not in known:
                try:
                    await self.cleanup(container_id)
                except (ContainerError, OSError) as error:
                    logger.error("what is left of the networks of %s: %s", container_id, error)
        if self._joined:
            self._check = asyncio.create_task(self._check_all())

    async def prepare(self, container_id: ContainerID, config: ContainerConfig) -> LaunchInfo | None:
        """The namespaces, and the files of names; what the container asks for that there is not is refused."""
        scope = self._find_scope(container_id, config)
        own_names = scope.names == container_id
        if config.networks and not config.debug:
            self._joined[container_id] = await self._find_networks(container_id, config)
        if own_names:
            self._make_files(container_id, config)
        self._scopes[container_id] = scope
        if scope == _Scope() and config.rootfs is None:
            return None
        clone, enter, operations = self._mounts(config)
        for owner, namespace in ((scope.network, Namespace.NETWORK), (scope.names, Namespace.UTS)):
            if owner == container_id:
                clone |= namespace
            elif owner is not None:
                enter |= namespace
        if Namespace.NETWORK in clone:
            operations = (*operations, RaiseLoopback())
        return LaunchInfo(
            clone_namespaces=clone,
            enter_namespaces=enter,
            operations=operations if config.debug else (*operations, *self._binds(scope, config)),
            environment={"LIBPROCESS_IP": "0.0.0.0"} if scope.network in self._joined else {},
            hostname=self._host_names[container_id] if own_names else None,
        )

    async def isolate(self, container_id: ContainerID, pid: int) -> None:
        """Has the plugins attach the container, one network after the other, and writes its files of names."""
        scope = self._scopes[container_id]
        self._pids[container_id] = pid
        if (joined := self._joined.get(container_id)) is not None:
            self._store.bind_namespace(container_id, pid)
            for index, configured in enumerate(joined.networks):
                attachment = self._store.attachment(container_id, configured.name, f"eth{index}")
                joined.results.append(await attachment.add(configured, self._plugins()))
        if scope.names == container_id:
            self._write_files(container_id, joined)

    async def cleanup(self, container_id: ContainerID) -> None:
        """Has the plugins detach the container, and removes what is mounted and kept for it."""
        if self._store.directory(container_id).exists():
            await self._detach(container_id)
            self._store.remove(container_id)
        for known in (self._scopes, self._joined, self._host_names, self._pids):
            known.pop(container_id, None)

    async def close(self) -> None:
        """Ends the look at recovered containers."""
        if self._check is not None:
            self._check.cancel()
            await asyncio.wait([self._check])

    # What is told of it.

    async def status(self, container_id: ContainerID) -> ContainerStatus:
        """The networks that the container is in, or the one around it whose network it shares, with its addresses."""
        scope = self._scopes.get(container_id, _Scope())
        joined = self._joined.get(scope.network) if scope.network is not None else None
        if joined is None:
            return NO_STATUS
        infos = zip(joined.infos, joined.results, strict=False)
        return ContainerStatus(network_infos=tuple(_with_addresses(info, result) for info, result in infos))

    async def usage(self, container_id: ContainerID) -> ResourceStatistics:
        """What the interfaces that it was given have carried."""
        joined, pid = self._joined.get(container_id), self._pids.get(container_id)
        if joined is None or pid is None or not self._flags.network_cni_metrics:
            return NO_STATISTICS
        found = network.traffic(pid)
        carried = [found[name] for name in _interfaces(joined) if name in found]
        return ResourceStatistics(
            **{f"net_{name}": sum(getattr(each, name) for each in carried) for name in network.Traffic.__slots__}
        )

    # Small things.

    def _recover(self, state: ContainerState) -> None:
        container_id, config = state.container_id, state.config
        self._scopes[container_id] = self._find_scope(container_id, config)
        if state.pid is not None:
            self._pids[container_id] = state.pid
        if config.networks and not config.debug:
            results = []
            for index, info in enumerate(config.networks):
                assert info.name is not None
                result = self._store.attachment(container_id, info.name, f"eth{index}").result()
                if result is None:
                    logger.warning("%s: nobody knows its addresses in the network %r any more", container_id, info.name)
                    break
                results.append(result)
            self._joined[container_id] = _Joined(config.networks, results=results)

    async def _check_all(self) -> None:
        """Has the plugins check what they have made for the containers that were recovered, and tells what they say."""
        for container_id in list(self._joined):
            for attachment in self._store.attachments(container_id) if container_id in self._joined else ():
                try:
                    await attachment.check(self._plugins())
                except (ContainerError, OSError) as error:
                    if container_id in self._joined:
                        logger.warning("%s in the network %s: %s", container_id, attachment.directory.name, error)

    def _find_scope(self, container_id: ContainerID, config: ContainerConfig) -> _Scope:
        around = _Scope()
        if container_id.parent is not None:
            around = self._scopes.get(container_id.parent, around)
        if config.debug:
            return around
        return _Scope(
            network=container_id if config.networks or config.loopback_only else around.network,
            names=container_id if config.networks or config.hostname is not None else around.names,
        )

    async def _find_networks(self, container_id: ContainerID, config: ContainerConfig) -> _Joined:
        """What the networks are now that the container asks for. Raises ContainerError, OSError."""
        from mesocosm.cni import configuration

        if config.loopback_only:
            raise ContainerError(f"{container_id} asks for networks, and to have only the loopback interface")
        if not configuration.is_name(str(container_id)):
            raise ContainerError(
                f"{container_id} can join no network with this id", "use letters, digits, '-', '_' and '.'"
            )
        names = [str(info.name) for info in config.networks]
        for name in names:
            if name in TAKEN:
                raise ContainerError(f"{container_id}: no network can be called {name!r}", "give it another name")
            if names.count(name) > 1:
                raise ContainerError(f"{container_id} asks for the network {name!r} twice", "join it once")
        directory = self._flags.network_cni_config_dir
        if directory is None:
            raise ContainerError(
                f"{container_id}: there is no network {names[0]!r}: there are no configurations of networks",
                "give --network_cni_config_dir and --network_cni_plugins_dir",
            )
        found = await asyncio.to_thread(configuration.load, directory)
        networks = []
        for info in config.networks:
            if (described := found.networks.get(str(info.name))) is None:
                problems = "".join(f"; {problem}" for problem in found.problems)
                raise ContainerError(
                    f"{container_id}: no file in {directory} describes a network {info.name!r}{problems}"
                )
            for plugin in described.plugins:
                self._plugins().find(plugin["type"])
            networks.append(described.asked(info))
        return _Joined(config.networks, tuple(networks))

    async def _detach(self, container_id: ContainerID) -> None:
        """Detaches it from every network that it was, or was about to be, attached to. Raises ContainerError."""
        errors = []
        for attachment in reversed(self._store.attachments(container_id)):
            try:
                await attachment.remove(self._plugins())
            except (ContainerError, OSError) as error:
                errors.append(str(error))
        if errors:
            raise ContainerError("; ".join(errors), f"what is left is in {self._store.directory(container_id)}")

    # Files of names.

    def _make_files(self, container_id: ContainerID, config: ContainerConfig) -> None:
        """Makes them empty: the init mounts them while the plugins find out what is to be in them."""
        from mesocosm.cni import files

        self._host_names[container_id] = files.host_name(config.hostname, container_id.value)
        self._store.make_files(container_id)

    def _write_files(self, container_id: ContainerID, joined: _Joined | None) -> None:
        from mesocosm.cni import files

        name = self._host_names[container_id]
        directory = self._store.files(container_id)
        around = self._around(container_id)
        resolver = ""
        if joined is None:
            hosts = files.hosts_with(name, files.read(around / "hosts"))
        else:
            results = [(str(info.name), result) for info, result in zip(joined.infos, joined.results, strict=True)]
            hosts = files.hosts(name, [address for _, result in results for address in result.addresses])
            dns = files.resolver(results, self._dns())
            resolver = str(dns) if dns.nameservers else ""
        contents = (hosts, f"{name}\n", resolver or files.read(Path("/etc/resolv.conf")))
        for file, content in zip(NAMES, contents, strict=True):
            (directory / file).write_text(content)

    def _around(self, container_id: ContainerID) -> Path:
        """The directory with the files that the container around it has."""
        scope = self._scopes.get(container_id.parent) if container_id.parent is not None else None
        return Path("/etc") if scope is None or scope.names is None else self._store.files(scope.names)

    def _mounts(self, config: ContainerConfig) -> tuple[Namespace, Namespace, tuple[Operation, ...]]:
        """The mount namespace to clone, or to enter, and what comes first in it, where no other isolator says that."""
        if not self._needs_mounts:
            return Namespace.NONE, Namespace.NONE, ()
        if config.debug:
            return Namespace.NONE, Namespace.MOUNT, ()
        return Namespace.MOUNT, Namespace.NONE, (ReceiveMounts(),)

    def _binds(self, scope: _Scope, config: ContainerConfig) -> Iterator[Operation]:
        """Mounts the files of names; those of the host only where they would not be seen otherwise."""
        own_root = config.rootfs is not None
        directory = None if scope.names is None else self._store.files(scope.names)
        for name in NAMES:
            target = f"/etc/{name}"
            there = os.path.isfile(target)  # noqa: PTH113 - for each container.
            if directory is None:
                if own_root and there:
                    yield HostFile(target)
            elif (own_root or there) and os.path.exists(source := f"{directory}/{name}"):  # noqa: PTH110 - likewise.
                yield Bind(source, target, create=own_root)

    # Made when they are needed.

    def _plugins(self) -> Plugins:
        if self._made_plugins is None:
            from mesocosm.cni.plugin import Plugins

            directories = [
                Path(part).absolute() for part in (self._flags.network_cni_plugins_dir or "").split(":") if part
            ]
            self._made_plugins = Plugins(directories, self._flags.network_cni_plugin_timeout)
        return self._made_plugins

    def _dns(self) -> DefaultDns:
        if self._made_dns is None:
            from mesocosm.cni.files import DefaultDns

            self._made_dns = DefaultDns(self._flags.default_container_dns)
        return self._made_dns


def _interfaces(joined: _Joined) -> list[str]:
    return [f"eth{index}" for index in range(len(joined.infos))]


def _with_addresses(info: NetworkInfo, result: Result) -> NetworkInfo:
    """A network as it was asked for, with the addresses that the container has got there."""
    addresses = tuple(IPAddress("IPv6" if ":" in address else "IPv4", address) for address in result.addresses)
    return replace(info, ip_addresses=addresses)
