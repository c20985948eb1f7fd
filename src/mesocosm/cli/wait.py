"""`mesocosm wait`: waits until containers have ended."""

from __future__ import annotations

import json

import click

from mesocosm.cli.agent_option import agent_options, json_option
from mesocosm.cli.calls import identity
from mesocosm.cli.containers import container_argument, with_container
from mesocosm.cli.shown import exit_status, outcome
from mesocosm.client import Json
from mesocosm.client.address import Address
from mesocosm.client.connection import Connection, persistently

_EPILOG = """\b
Examples:
  mesocosm wait batch-1 && echo well done
  mesocosm wait --json batch-1 batch-2 | jq .exit_status

\b
The exit status is that of the last container: 128+N if signal N ended it, 125
if nobody knows or it could not be waited for.
"""


@click.command(epilog=_EPILOG)
@json_option
@container_argument(lambda container: not container.has_ended, several=True)
@agent_options
def wait(agent: Address, *, ids: tuple[str, ...], as_json: bool) -> int:
    """Wait until containers have ended, and print how each did.

    An agent may be started anew meanwhile.
    """
    status = 0
    with Connection(agent) as connection:

        def ask(container_id: str) -> Json:
            about = {"container_id": identity(container_id)}
            return persistently(lambda: connection.call("WAIT_CONTAINER", about, patient=True))

        for text in ids:
            found, termination = with_container(connection, text, ask)
            status = exit_status(termination.get("exit_status"))
            if as_json:
                click.echo(json.dumps({"id": found} | termination | {"exit_status": status}))
            else:
                click.echo(f"{found}: {outcome(termination)}")
    return status
