"""`mesocosm exec`: runs another command in a container that runs."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

import click

from mesocosm.cli.agent_option import agent_options
from mesocosm.cli.calls import command_info, identity, terminal_info
from mesocosm.cli.containers import container_argument, find_running
from mesocosm.cli.conversation import Conversation, pieces_of
from mesocosm.cli.messages import FAILED, complain
from mesocosm.cli.shown import exit_status
from mesocosm.client import Json
from mesocosm.client.address import Address, AgentError
from mesocosm.client.connection import Connection
from mesocosm.errors import FlagError

_EPILOG = """\b
Examples:
  mesocosm exec web -- ps ax
  mesocosm exec -it web -- bash
  mesocosm exec --user nobody web.side -- id
  tar c . | mesocosm exec -i web -- tar x

\b
The exit status is that of the command: 128+N if signal N ended it, 127 if there
is no such program, 126 if it cannot be executed, 125 if nobody knows. It ends
with this program.
"""


@click.command("exec", epilog=_EPILOG, context_settings={"allow_interspersed_args": False})
@click.option("-i", "--interactive", is_flag=True, help="Pass the standard input on. Default: it is empty.")
@click.option("-t", "--tty", is_flag=True, help="Give the command a terminal.")
@click.option("-u", "--user", metavar="USER", help="Whose process it is. Default: as that of the container.")
@click.option("-e", "--env", metavar="K[=V]", multiple=True, help="A variable, or one that is passed on.")
@agent_options
@container_argument(lambda container: not container.has_ended)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="[--] COMMAND [ARG]...")
def execute(
    agent: Address,
    *,
    container: str,
    command: tuple[str, ...],
    interactive: bool,
    tty: bool,
    user: str | None,
    env: tuple[str, ...],
) -> int:
    """Run another command in a container that runs, in all of its namespaces."""
    if command[0] == "--":
        command = command[1:]
    if not command:
        raise click.UsageError("there is no command to run; write it after --")
    if interactive and tty and not os.isatty(0):
        raise FlagError("-t: the standard input is no terminal", "leave -t out, or -i")
    with Connection(agent) as connection:
        parent = find_running(connection, container)
        container_id = f"{parent.id}.exec-{secrets.token_hex(6)}"
        asked = _asked(command, user or parent.entry.get("user"), env, tty=tty)
        messages = _launch(connection, container_id, asked)
        conversation = Conversation(agent, container_id, interactive=interactive, terminal=tty, silent=not tty)
        conversation.listen(pieces_of(messages), connection.abort)
        return _status(connection, conversation.container_id)


def _asked(command: tuple[str, ...], user: str | None, env: tuple[str, ...], *, tty: bool) -> Json:
    """What the command is, but for its name."""
    container = {"container": {"type": "MESOS", "tty_info": terminal_info()}} if tty else {}
    return {"command": command_info(command, user, env, terminal=tty), **container}


def _launch(connection: Connection, container_id: str, asked: Json) -> Iterator[Json]:
    """Begins with the command; what it writes. Raises AgentError."""
    about = {"container_id": identity(container_id), **asked}
    try:
        return connection.stream("LAUNCH_NESTED_CONTAINER_SESSION", about)
    except AgentError as error:  # Of a name that nobody knows.
        raise error.without(f"{container_id}: ") from None


def _status(connection: Connection, container_id: str) -> int:
    """The exit status of a command that has ended, of which nothing is left then."""
    about = {"container_id": identity(container_id)}
    try:
        termination = connection.call("WAIT_NESTED_CONTAINER", about, patient=True)
        connection.call("REMOVE_NESTED_CONTAINER", about)
    except AgentError as error:
        complain(f"nobody knows how the command ended: {error}")
        return FAILED
    return exit_status(termination.get("exit_status"))
