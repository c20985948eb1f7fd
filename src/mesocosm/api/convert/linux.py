"""What is asked of the isolators that take rights away, and of those on Linux."""

from __future__ import annotations

from mesocosm.api import v1
from mesocosm.api.convert.resources import MB
from mesocosm.container import IpcMode, LinuxInfo, RLimit, SeccompInfo
from mesocosm.errors import ContainerError


def linux_info(message: v1.LinuxInfo) -> LinuxInfo:
    """What is asked of the isolators on Linux that there are."""
    is_set = message.ipc_mode != v1.LinuxInfo.UNKNOWN
    return LinuxInfo(
        share_pid_namespace=message.share_pid_namespace,
        ipc_mode=IpcMode[v1.LinuxInfo.IpcMode.Name(message.ipc_mode)] if is_set else None,
        shm_size=message.shm_size * MB if message.HasField("shm_size") else None,
        share_cgroups=message.share_cgroups,
        effective_capabilities=_effective_capabilities(message),
        bounding_capabilities=_capabilities(message, "bounding_capabilities"),
        seccomp=_seccomp_info(message.seccomp) if message.HasField("seccomp") else None,
    )


def _effective_capabilities(message: v1.LinuxInfo) -> tuple[str, ...] | None:
    """Those of either field: the older one is deprecated, but no less valid. Raises ContainerError for both."""
    if message.HasField("capability_info") and message.HasField("effective_capabilities"):
        raise ContainerError(
            "container.linux_info has both capability_info and effective_capabilities", "leave out capability_info"
        )
    return _capabilities(
        message, "capability_info" if message.HasField("capability_info") else "effective_capabilities"
    )


def _capabilities(message: v1.LinuxInfo, field: str) -> tuple[str, ...] | None:
    if not message.HasField(field):
        return None
    asked: v1.CapabilityInfo = getattr(message, field)
    names = tuple(v1.CapabilityInfo.Capability.Name(each) for each in asked.capabilities)
    if "UNKNOWN" in names:
        raise ContainerError(f"container.linux_info.{field}: UNKNOWN is no capability", "leave it out")
    return names


def _seccomp_info(message: v1.SeccompInfo) -> SeccompInfo:
    return SeccompInfo(message.profile_name if message.HasField("profile_name") else None, message.unconfined)


def rlimits(message: v1.RLimitInfo) -> tuple[RLimit, ...]:
    """The limits of processes. Raises ContainerError for one without a type."""
    return tuple(_rlimit(index, limit) for index, limit in enumerate(message.rlimits))


def _rlimit(index: int, message: v1.RLimitInfo.RLimit) -> RLimit:
    if message.type == v1.RLimitInfo.RLimit.UNKNOWN:
        raise ContainerError(f"container.rlimit_info.rlimits[{index}] has no type", "write one, such as RLMT_NOFILE")
    return RLimit(
        v1.RLimitInfo.RLimit.Type.Name(message.type).removeprefix("RLMT_"),
        soft=message.soft if message.HasField("soft") else None,
        hard=message.hard if message.HasField("hard") else None,
    )
