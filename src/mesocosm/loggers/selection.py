"""Which container logger `--container_logger` means."""

from __future__ import annotations

from mesocosm.loggers.base import ContainerLogger, LoggerSettings
from mesocosm.loggers.logrotate import LogrotateContainerLogger
from mesocosm.loggers.sandbox import SandboxContainerLogger
from mesocosm.plugins import find

DEFAULT = "sandbox"
ENTRY_POINTS = "mesocosm.container_loggers"
_BUILT_IN: dict[str, type[ContainerLogger]] = {
    DEFAULT: SandboxContainerLogger,
    "logrotate": LogrotateContainerLogger,
}


def keeps_in_sandbox(name: str) -> bool:
    """Whether the logger writes the files `stdout` and `stderr` of the sandbox, as far as is known of it."""
    return name in _BUILT_IN


def create_logger(name: str, settings: LoggerSettings) -> ContainerLogger:
    """The container logger `name`. Raises FlagError if there is none, or for its settings; UnsupportedError."""
    kind = _BUILT_IN.get(name) or find("container_logger", ENTRY_POINTS, name, ContainerLogger, tuple(_BUILT_IN))
    return kind.create(settings)
