"""What Docker says of a container and of an image (`docker inspect`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mesocosm.dataclass import dataclass, field
from mesocosm.errors import ContainerError

_NEVER = "0001-01-01T00:00:00Z"


class DockerError(ContainerError):
    """Docker's client cannot be executed, its daemon does not answer, or it refuses what it is asked."""


class HangingError(DockerError):
    """Docker did not answer in time: nobody knows whether it has done, or will do, what it was asked for."""


class NameTakenError(DockerError):
    """Docker has a container of that name already."""


class NoSuchContainerError(DockerError):
    """Docker has no container of that name."""


@dataclass(frozen=True, slots=True)
class Container:
    """A container: its `pid` on the host if it runs, and its addresses in the network that it was made for.

    `exit_code` is None before its end. `error` is what kept it from starting.
    """

    id: str
    name: str
    pid: int | None
    started: bool
    running: bool
    exit_code: int | None = None
    error: str = ""
    ip_address: str | None = None
    ipv6_address: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Container:
        """As `docker inspect` describes it. Raises DockerError."""
        try:
            state, pid = found["State"], int(found["State"]["Pid"])
            started = state["StartedAt"] not in ("", _NEVER) and not state["StartedAt"].startswith("0001-01-01")
            running = bool(state["Running"])
            addresses = _addresses(found)
            return cls(
                id=found["Id"],
                name=found["Name"].removeprefix("/"),
                pid=pid or None,
                started=started,
                running=running,
                exit_code=int(state["ExitCode"]) if started and not running else None,
                error=str(state.get("Error") or ""),
                ip_address=addresses.get("IPAddress") or None,
                ipv6_address=addresses.get("GlobalIPv6Address") or None,
                labels=(found.get("Config") or {}).get("Labels") or {},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DockerError(f"docker inspect describes no container: {error!r}") from error


def _addresses(found: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is said of the network that the container was made for; of old daemons, of the only one there is."""
    settings = found.get("NetworkSettings") or {}
    mode = (found.get("HostConfig") or {}).get("NetworkMode")
    networks = settings.get("Networks") or {}
    name = "bridge" if mode == "default" else mode
    chosen: Mapping[str, Any] = networks.get(name) or settings
    return chosen


@dataclass(frozen=True, slots=True)
class Image:
    """An image: what it executes unless told otherwise, and its variables."""

    id: str
    entrypoint: tuple[str, ...] | None
    command: tuple[str, ...] | None
    environment: Mapping[str, str]

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Image:
        """As `docker inspect` describes it. Raises DockerError."""
        try:
            config = found.get("Config") or found.get("ContainerConfig") or {}
            variables = [each.partition("=") for each in config.get("Env") or ()]
            if any(not separator for _, separator, _ in variables):
                raise ValueError("a variable without a value")
            return cls(
                id=found["Id"],
                entrypoint=_words(config.get("Entrypoint")),
                command=_words(config.get("Cmd")),
                environment={name: value for name, _, value in variables},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DockerError(f"docker inspect describes no image: {error!r}") from error


def _words(value: Any) -> tuple[str, ...] | None:
    """None of none, as an empty list is none to Docker, too."""
    if not value:
        return None
    if not isinstance(value, list) or any(not isinstance(word, str) for word in value):
        raise TypeError(f"{value!r} is no list of words")
    return tuple(value)
