"""What became of a command that was run in a container."""

from __future__ import annotations

import os
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended, what it wrote, and what it used. Times are seconds, `peak_memory` is bytes.

    `exit_status` is as a shell tells it: 128 + N for signal N, and 124 if the time was over. `status` is that of
    wait(2). `limit` is the limit that the command ran into, `mem`, `disk` or `timeout`, for which it was ended;
    `message` says it in words. `truncated` if it wrote more than was kept.
    """

    exit_status: int
    status: int | None = None
    stdout: bytes = field(default=b"", repr=False)
    stderr: bytes = field(default=b"", repr=False)
    truncated: bool = False
    limit: str | None = None
    message: str | None = None
    wall_time: float = 0.0
    user_time: float = 0.0
    system_time: float = 0.0
    peak_memory: int | None = None

    @property
    def ok(self) -> bool:
        """Whether the command succeeded."""
        return self.exit_status == 0 and self.limit is None

    @property
    def signal(self) -> int | None:
        """The signal that ended the command; None if it exited."""
        return os.WTERMSIG(self.status) if self.status is not None and os.WIFSIGNALED(self.status) else None

    @property
    def cpu_time(self) -> float:
        """The time of the user and of the system together."""
        return self.user_time + self.system_time

    @property
    def text(self) -> str:
        """The standard output as text; what is no UTF-8 is replaced."""
        return self.stdout.decode(errors="replace")

    @property
    def error_text(self) -> str:
        """The standard error as text."""
        return self.stderr.decode(errors="replace")
