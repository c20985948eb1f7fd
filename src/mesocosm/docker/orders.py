"""What the executor of Docker is told beside its task: by whom the task's container is made, and how.

It comes in a variable of its environment, as nobody but root sees that of a process: a container may have secrets.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, MutableMapping
from dataclasses import asdict

from mesocosm.dataclass import dataclass, field
from mesocosm.docker.values import DockerError

_VARIABLE = "MESOCOSM_DOCKER_ORDERS"


@dataclass(frozen=True, slots=True)
class Orders:
    """The client `program` and the `socket` of its daemon, the `name` of the container, and how that is created.

    That is: by the `arguments` of `docker create`, and with the `variables`, both of which are complete. The
    executor removes nothing: the container belongs to whoever has thought of its name. `stop_timeout` is how many
    seconds a task has at least to end that has no policy for that (`--docker_stop_timeout`).
    """

    program: str
    socket: str
    name: str
    arguments: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    stop_timeout: float = 0.0

    def environment(self) -> dict[str, str]:
        """The variable of an executor that says so."""
        return {_VARIABLE: json.dumps(asdict(self))}

    @classmethod
    def take(cls, environment: MutableMapping[str, str]) -> Orders:
        """Those of this executor, which are not left in its `environment`. Raises DockerError."""
        try:
            told = json.loads(environment.pop(_VARIABLE))
            return cls(**{**told, "arguments": tuple(told["arguments"])})
        except (KeyError, TypeError, ValueError) as error:
            raise DockerError(f"{_VARIABLE} has no orders: {error!r}", "executors are started by an agent") from error
