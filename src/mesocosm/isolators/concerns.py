"""Which isolators have something to do for a container: known without loading them, as that takes longer than a launch.

They have all to do for one that asks for nothing, but for those below: what they prepare, watch and measure then is
nothing. A program that launches one container can do without.
"""

from __future__ import annotations

from collections.abc import Callable

from mesocosm.container import ContainerConfig, VolumeKind


def concerns(name: str, config: ContainerConfig) -> bool:
    """Whether the isolator `name` has something to do for a container that `config` is asked for."""
    asks = CONDITIONAL.get(name)
    return asks is None or asks(config)


def _asks_for_names(config: ContainerConfig) -> bool:
    """Whether it does not see the host's network and its files of names anyway."""
    own_root = config.rootfs is not None or config.image is not None
    return own_root or bool(config.networks) or config.loopback_only or config.hostname is not None


def _asks_for(*kinds: VolumeKind) -> Callable[[ContainerConfig], bool]:
    return lambda config: any(volume.kind in kinds for volume in config.volumes)


CONDITIONAL: dict[str, Callable[[ContainerConfig], bool]] = {
    "docker/volume": _asks_for(VolumeKind.DOCKER_VOLUME),
    "environment_secret": lambda config: bool(config.secret_environment),
    "network/cni": _asks_for_names,
    "posix/rlimits": lambda config: bool(config.rlimits),
    "volume/host_path": _asks_for(VolumeKind.HOST_PATH),
    "volume/image": lambda config: bool(config.image_volumes),
    "volume/sandbox_path": _asks_for(VolumeKind.SANDBOX_PATH),
    "volume/secret": _asks_for(VolumeKind.SECRET),
}
"""The isolators that have nothing to do for some containers, and whether they have for one."""
