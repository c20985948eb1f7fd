"""The container logger `sandbox`: the files `stdout` and `stderr` of the sandbox, however long they become."""

from __future__ import annotations

from mesocosm.loggers.base import ContainerLogger


class SandboxContainerLogger(ContainerLogger):
    """Does nothing: to write to these files is what a containerizer does by itself."""
