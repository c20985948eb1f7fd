"""The containers of an agent: what there is, and which of them a command line means."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from mesocosm.cli.messages import FAILED, complain, printable
from mesocosm.client import Json
from mesocosm.client.address import AgentError
from mesocosm.client.connection import Connection
from mesocosm.client.names import abbreviates
from mesocosm.dataclass import dataclass
from mesocosm.errors import MesocosmError, UnknownContainerError

Result = TypeVar("Result")

ENDED, RUNNING = "ENDED", "RUNNING"
_NOT_FOUND = 404
_NO_SUCH = (400, _NOT_FOUND)
"""What the agent answers where there is no such container; 400 where that could be no name of one."""
_TYPING = 2.0
"""Seconds for which somebody who writes a command line waits for an answer."""
_SHOWN = 5
"""How many ids a message has."""


@dataclass(frozen=True, slots=True)
class Container:
    """A container in an overview of the agent; `entry` is all that this tells of it. Times are of the epoch."""

    id: str
    parent: str | None
    state: str
    launched: float | None
    ended: float | None
    entry: Json

    @property
    def has_ended(self) -> bool:
        """Whether nothing runs any more."""
        return self.state == ENDED

    @property
    def statistics(self) -> Json:
        """What it uses; nothing of one that has ended."""
        found: Json = self.entry.get("statistics", {})
        return found

    @property
    def command(self) -> str:
        """What it executes; nothing where its image says that."""
        return self.entry.get("command") or ""

    @property
    def name(self) -> str:
        """The last part of the id."""
        return self.id.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class Overview:
    """What an agent and its containers do at the `time` of the agent."""

    time: float
    agent: Json
    machine: Json
    containers: tuple[Container, ...]


def overview(connection: Connection, name: str | None = None, *, measured: bool = True) -> Overview:
    """Asks for it; it comes sooner if nothing has to be `measured`. Raises AgentError.

    Of all that has ended it has the last ones; of what `name` may mean, and of what is nested there, every one.
    """
    query = ({} if measured else {"statistics": "false"}) | ({} if name is None else {"id": name})
    try:
        found = connection.get("/overview", query)
        containers = tuple(map(_container, found["containers"]))
        return Overview(found["agent"]["time"], found["agent"], found["machine"], containers)
    except AgentError as error:
        if error.status != _NOT_FOUND:
            raise
        raise connection.address.no_agent("it has no /overview") from None
    except (TypeError, KeyError):
        raise connection.address.no_agent("its /overview is another one") from None


def _container(entry: Json) -> Container:
    return Container(entry["id"], entry.get("parent"), entry["state"], entry.get("launched"), entry.get("ended"), entry)


# Names.


def find(connection: Connection, text: str) -> Container:
    """The container that `text` means: by its id, or by the beginning of each part of it.

    Raises AgentError, and UnknownContainerError where that is none or several.
    """
    return choose(overview(connection, text, measured=False).containers, text)


def find_running(connection: Connection, text: str) -> Container:
    """The same, of one that has not ended."""
    found = find(connection, text)
    if found.has_ended:
        raise _ended(found)
    return found


def choose(containers: Iterable[Container], text: str) -> Container:
    """The same among some containers. Raises UnknownContainerError."""
    meant = []
    for container in containers:
        if container.id == text:
            return container
        if abbreviates(text, container.id):
            meant.append(container)
    if len(meant) == 1:
        return meant[0]
    if not meant:
        raise UnknownContainerError(f"there is no container {text!r}", "`mesocosm ps --all` shows what there is")
    ids = sorted(container.id for container in meant)
    names = ", ".join(ids[:_SHOWN]) + (", …" if len(ids) > _SHOWN else "")
    raise UnknownContainerError(f"{text!r} could be {names}", "write more of it")


def with_container(connection: Connection, text: str, action: Callable[[str], Result]) -> tuple[str, Result]:
    """The id of the container that `text` means, and what `action` makes of that; whole ids are not looked up.

    Raises MesocosmError.
    """
    try:
        return text, action(text)
    except AgentError as error:
        if error.status not in _NO_SUCH:
            raise
        found, refusal = find(connection, text), error
    if found.id != text:
        try:
            return found.id, action(found.id)
        except AgentError as error:
            refusal = error
    if found.has_ended and refusal.status in _NO_SUCH:
        raise _ended(found)
    raise refusal


def _ended(container: Container) -> UnknownContainerError:
    return UnknownContainerError(f"{container.id} has ended already")


def for_each(connection: Connection, texts: Iterable[str], action: Callable[[str], object]) -> int:
    """Does it with each container, and prints its id, or why not; returns the exit status."""
    status = 0
    for text in texts:
        try:
            found, _ = with_container(connection, text, action)
        except UnknownContainerError as error:
            complain(str(error))
            status = FAILED
        except AgentError as error:
            if error.status is None:  # Nor will it answer for the others.
                raise
            complain(str(error) if error.message.startswith(text) else f"{text}: {error}")
            status = FAILED
        else:
            click.echo(found)
    return status


class ContainerName(click.types.StringParamType):
    """An id, which the shell completes."""

    def __init__(self, wanted: Callable[[Container], bool] = lambda container: True) -> None:
        self._wanted = wanted

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The ids that begin so and make sense for the command; none where no agent can be asked."""
        named = ctx.params.get(param.name or "") or ()
        with completing(ctx) as connection:
            return [
                CompletionItem(container.id, help=printable(container.command))
                for container in overview(connection, measured=False).containers
                if self._wanted(container) and container.id.startswith(incomplete) and container.id not in named
            ]
        return []


@contextlib.contextmanager
def completing(ctx: click.Context) -> Iterator[Connection]:
    """The agent of a command line that is being written; what goes wrong with it is no news there."""
    from mesocosm.cli.agent_option import NAMES, address_of

    given = {name: ctx.params.get(name) for name in NAMES}
    with contextlib.suppress(MesocosmError), Connection(address_of(**given), _TYPING) as connection:
        yield connection


def container_argument(
    wanted: Callable[[Container], bool] = lambda container: True, *, several: bool = False, required: bool = True
) -> Callable[[Any], Any]:
    """The argument ID, or ID..., of the containers that are `wanted`."""
    if not several:
        return click.argument("container", metavar="ID", type=ContainerName(wanted))
    metavar = "ID..." if required else "[ID]..."
    return click.argument("ids", metavar=metavar, nargs=-1, required=required, type=ContainerName(wanted))
