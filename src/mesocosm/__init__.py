"""Mesocosm: the Mesos Containerizer in Python. Containers out of composable isolators.

    import mesocosm
    result = mesocosm.run(["sh", "-c", "echo hello"], mem="64MB", timeout=5)

The names below are loaded when they are first used, so that nothing pays for what it does not use.
"""

from __future__ import annotations

import importlib

from mesocosm.version import __version__

TYPE_CHECKING = False  # As `typing` has it, without the time that it takes to load.
if TYPE_CHECKING:
    from typing import Any

    from mesocosm.containerizer.mesos import MesosContainerizer
    from mesocosm.oneshot.result import Result
    from mesocosm.oneshot.runner import run

_HOMES = {
    "MesosContainerizer": "mesocosm.containerizer.mesos",
    "Result": "mesocosm.oneshot.result",
    "run": "mesocosm.oneshot.runner",
}

__all__ = ["MesosContainerizer", "Result", "__version__", "run"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
