"""The Unix socket by which executors reach the agent (`--http_executor_domain_sockets`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from mesocosm.agent.flags import AgentFlags


@dataclass(frozen=True, slots=True)
class DomainSocket:
    """The agent listens at `path`, and for executors that have other files than the host at `enclosed`.

    That is alone in its directory, which they see: the socket is made anew when the agent starts again, and a mount of
    the socket itself would still be the old one.
    """

    path: Path
    enclosed: Path

    @classmethod
    def create(cls, flags: AgentFlags, runtime_dir: Path) -> Self | None:
        """As the flags have it, if they do."""
        if not flags.http_executor_domain_sockets:
            return None
        path = Path(flags.domain_socket_location or runtime_dir / "agent.sock")
        return cls(path.absolute(), (runtime_dir / "executors" / "agent.sock").absolute())
