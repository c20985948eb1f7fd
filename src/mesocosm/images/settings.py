"""Where images come from, and where they are kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mesocosm.dataclass import dataclass, field

DEFAULT_REGISTRY = "https://registry-1.docker.io"
DEFAULT_STORE = Path("/var/lib/mesocosm/images")
"""The store of the command line, which the agent shares if `--docker_store_dir` is the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSettings:
    """How images are pulled."""

    registry: str = DEFAULT_REGISTRY
    """`--docker_registry`: a registry's URL, or what has archives or layouts on this machine."""
    config: Mapping[str, Any] | None = None
    """`--docker_config`: the content of a `~/.docker/config.json`, or of the older `~/.dockercfg`."""
    mirrors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """URLs that are asked before the registry, by the registry's name, such as `docker.io`."""
    stall_timeout: float = 60.0
    """How long a registry may be silent, in seconds."""
