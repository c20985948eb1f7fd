"""`mesocosm kill`: sends a signal to the commands of containers."""

from __future__ import annotations

import signal

import click

from mesocosm.cli.agent_option import agent_options
from mesocosm.cli.calls import identity
from mesocosm.cli.containers import container_argument, for_each
from mesocosm.client.address import Address
from mesocosm.client.connection import Connection
from mesocosm.errors import FlagError

_EPILOG = """\b
Examples:
  mesocosm kill web
  mesocosm kill --signal TERM web.side batch-1

A container that is ended by a signal ends those that are nested in it.
"""


@click.command(epilog=_EPILOG)
@click.option("-s", "--signal", "name", metavar="NAME|NUMBER", default="KILL", show_default=True, help="The signal.")
@container_argument(lambda container: not container.has_ended, several=True)
@agent_options
def kill(agent: Address, *, ids: tuple[str, ...], name: str) -> int:
    """End containers, or send them another signal; prints their ids."""
    number = parse_signal(name)

    with Connection(agent) as connection:

        def send(container_id: str) -> None:
            connection.call("KILL_CONTAINER", {"container_id": identity(container_id), "signal": number})

        return for_each(connection, ids, send)


def parse_signal(text: str) -> int:
    """The number of a signal such as `TERM`, `SIGTERM` or `15`. Raises FlagError."""
    name = text.upper()
    for known in signal.valid_signals():
        if text == str(int(known)) or (isinstance(known, signal.Signals) and name in (known.name, known.name[3:])):
            return int(known)
    raise FlagError(f"--signal: {text!r} is no signal", "write a name such as TERM, or a number")
