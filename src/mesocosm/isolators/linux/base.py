"""What the isolators of `linux/` agree on: which capabilities a container has."""

from __future__ import annotations

from collections.abc import Iterable

from mesocosm.container import ContainerConfig, ContainerID
from mesocosm.errors import ContainerError
from mesocosm.flags import Flags
from mesocosm.launcher.info import Capabilities
from mesocosm.linux import capabilities


def find_capabilities(flags: Flags, container_id: ContainerID, config: ContainerConfig) -> Capabilities | None:
    """What the container asks for, else what the flags say; None for what its user has anyway.

    Without a bound, what is effective is the bound, too. Raises ContainerError for more than is allowed.
    """
    info = config.linux_info
    allowed = flags.bounding_capabilities
    if info.bounding_capabilities is not None and allowed is not None:
        _check(container_id, "bounding", info.bounding_capabilities, allowed, "--bounding_capabilities allows")
    effective = _first(info.effective_capabilities, flags.effective_capabilities)
    bounding = _first(info.bounding_capabilities, allowed, effective)
    if bounding is None:
        return None
    if effective is None:
        return Capabilities(capabilities.set_of(bounding))
    _check(container_id, "effective", effective, bounding, "its bounding capabilities are")
    own = capabilities.names_of(capabilities.get().permitted)
    _check(container_id, "effective", effective, own, "Mesocosm itself has")
    return Capabilities(capabilities.set_of(bounding), capabilities.set_of(effective))


def show(names: Iterable[str]) -> str:
    """Capabilities for people, in the order of the kernel."""
    return ", ".join(sorted(names, key=capabilities.NAMES.index)) or "none"


def _check(container_id: ContainerID, kind: str, asked: Iterable[str], allowed: Iterable[str], bound: str) -> None:
    if beyond := set(asked) - set(allowed):
        raise ContainerError(
            f"{container_id} asks for the {kind} capabilities {show(beyond)}, but {bound} {show(allowed)}",
            "ask for less, or allow more",
        )


def _first(*choices: tuple[str, ...] | None) -> tuple[str, ...] | None:
    return next((choice for choice in choices if choice is not None), None)
