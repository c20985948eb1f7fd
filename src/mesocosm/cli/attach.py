"""`mesocosm attach`: connects the terminal to a container."""

from __future__ import annotations

import click

from mesocosm.cli.agent_option import agent_options
from mesocosm.cli.calls import identity
from mesocosm.cli.containers import container_argument, find_running
from mesocosm.cli.conversation import DETACH_KEYS, Conversation, DetachKeys, pieces_of, tell_of_leaving
from mesocosm.cli.shown import exit_status
from mesocosm.client.address import Address
from mesocosm.client.connection import Connection

_EPILOG = """\b
Examples:
  mesocosm attach shell
  mesocosm attach --no-stdin web
  mesocosm attach --detach-keys ctrl-a,d shell

\b
The exit status is that of the container, or 0 after the detach keys, which
leave it alone.
"""


@click.command(epilog=_EPILOG)
@click.option(
    "--detach-keys", metavar="KEYS", default=DETACH_KEYS, show_default=True, help="What leaves the container alone."
)
@click.option("--no-stdin", is_flag=True, help="Type nothing, only look.")
@container_argument(lambda container: not container.has_ended)
@agent_options
def attach(agent: Address, *, container: str, detach_keys: str, no_stdin: bool) -> int:
    """See what a container writes from now on, and type into it where it takes that.

    Without a terminal of its own it is told nothing of ^C, which ends this program.
    """
    keys = DetachKeys(detach_keys)
    with Connection(agent) as connection:
        found = find_running(connection, container)
        about = {"container_id": identity(found.id)}
        messages = connection.stream("ATTACH_CONTAINER_OUTPUT", about)
        types = not no_stdin and bool(found.entry.get("takes_input"))
        has_terminal = types and bool(found.entry.get("has_terminal"))
        conversation = Conversation(
            agent, found.id, interactive=types, terminal=has_terminal, detach_keys=keys if has_terminal else None
        )
        conversation.listen(pieces_of(messages), connection.abort)
        if conversation.detached:
            tell_of_leaving(found.id)
            return 0
        termination = connection.call("WAIT_CONTAINER", about, patient=True)
    return exit_status(termination.get("exit_status"))
