"""`mesocosm agent`: the service that an operator runs on each machine."""

from __future__ import annotations

import asyncio
import gc
import os

import click

from mesocosm.agent.flags import asked, help_text, load
from mesocosm.cli.messages import complain
from mesocosm.version import __version__


@click.command(add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def agent(arguments: tuple[str, ...]) -> int:
    """Run the agent of this machine."""
    match asked(arguments, os.environ):
        case "help":
            click.echo(help_text())
        case "version":
            click.echo(f"mesocosm {__version__}")
        case _:
            _serve(arguments)
    return 0


def _serve(arguments: tuple[str, ...]) -> None:
    loaded = load(arguments, os.environ)
    gc.disable()  # What is loaded is no garbage. The agent looks for some when it has loaded all.
    from mesocosm.agent.logs import Logs
    from mesocosm.agent.main import serve

    for warning in loaded.warnings:
        complain(f"warning: {warning}")
    flags = loaded.agent
    logs = Logs(flags.logging_level, quiet=flags.quiet, log_dir=flags.log_dir)
    logs.install()
    asyncio.run(serve(loaded, logs))
