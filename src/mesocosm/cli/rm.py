"""`mesocosm rm`: removes containers that have ended."""

from __future__ import annotations

import click

from mesocosm.cli.agent_option import agent_options
from mesocosm.cli.calls import identity
from mesocosm.cli.containers import container_argument, for_each
from mesocosm.client import Json
from mesocosm.client.address import Address, AgentError
from mesocosm.client.connection import Connection

_EPILOG = """\b
Examples:
  mesocosm rm batch-1
  mesocosm rm --force web
"""
_NOT_FOUND, _CONFLICT = 404, 409


@click.command(epilog=_EPILOG)
@click.option("-f", "--force", is_flag=True, help="End those first that still run.")
@container_argument(lambda container: container.has_ended, several=True)
@agent_options
def rm(agent: Address, *, ids: tuple[str, ...], force: bool) -> int:
    """Remove containers that have ended: their sandboxes, and how they ended; prints their ids."""
    with Connection(agent) as connection:

        def remove(container_id: str) -> None:
            about: Json = {"container_id": identity(container_id)}
            if force:
                _end(connection, about)
            try:
                connection.call("REMOVE_CONTAINER", about)
            except AgentError as error:
                if error.status != _CONFLICT or force:
                    raise
                hint = f"`mesocosm rm --force {container_id}` ends it first"
                raise AgentError(error.message.partition(";")[0], hint, error.status) from None

        return for_each(connection, ids, remove)


def _end(connection: Connection, about: Json) -> None:
    """Ends a container, and waits for that. Raises AgentError."""
    try:
        connection.call("KILL_CONTAINER", about)
    except AgentError as error:
        if error.status != _NOT_FOUND:  # It has ended, or there is none; of which the next call tells.
            raise
    connection.call("WAIT_CONTAINER", about, patient=True)
