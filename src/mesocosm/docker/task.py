"""What the executor of a task of Docker is told by the agent that launches it: one argument, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import field

from mesocosm.dataclass import dataclass
from mesocosm.docker.client import Docker


@dataclass(frozen=True, slots=True)
class TaskContainer:
    """The container `name` that the executor is to make, by the client `program` of the daemon at `socket`.

    The `arguments` are those of `docker create`. It has the `variables`, and those `secrets` that the executor finds
    in its environment, beside what the task itself says. `stop_timeout` is in seconds, for a task without a policy.
    """

    name: str
    arguments: tuple[str, ...]
    program: str
    socket: str
    variables: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    stop_timeout: float = 0.0

    @property
    def client(self) -> Docker:
        """Docker, as the agent asks it."""
        return Docker(self.program, self.socket)

    def dump(self) -> str:
        """The argument."""
        return json.dumps({name: getattr(self, name) for name in self.__dataclass_fields__})

    @classmethod
    def load(cls, text: str) -> TaskContainer:
        """What `dump` has made. Raises ValueError."""
        try:
            content = json.loads(text)
            tuples = {name: tuple(content[name]) for name in ("arguments", "secrets")}
            return cls(**{**content, **tuples})
        except (TypeError, KeyError) as error:
            raise ValueError(f"it is no container of a task: {error}") from error
