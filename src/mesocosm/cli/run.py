"""`mesocosm run`: runs a command in a container."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from mesocosm.cli.options import COUNT, FLAG, MANY, NUMBER, OF_AGENT, OPTIONS, PATH, TEXT

_EPILOG = """\b
Examples:
  mesocosm run -- echo hello
  mesocosm run --mem 64MB --cpus 0.5 --timeout 10 -- ./untrusted
  mesocosm run --rootfs /srv/debian --read-only --tmpfs /tmp:64MB -it -- bash
  mesocosm run --image debian:12 -it
  mesocosm run --task task.json
  mesocosm run --agent http://host:5051 --mem 64MB -- ./untrusted
  tar c . | mesocosm run -i --volume /srv/out:/out --rootfs /srv/debian -- tar xC /out

\b
The exit status is that of the command: 128+N if signal N ended it; 124 after a
timeout, 125 if the container could not be made, 126 if the command cannot be
executed, 127 if it is not found. SIGQUIT and kill -9 end what ignores ^C.
"""


_TYPES: dict[str, dict[str, Any]] = {
    TEXT: {},
    MANY: {"multiple": True},
    NUMBER: {"type": float},
    COUNT: {"type": int},
    PATH: {"type": click.Path(path_type=Path)},
    FLAG: {"is_flag": True},
}


def _with_options(command: Callable[..., int]) -> Callable[..., int]:
    for names, kind, metavar, text in reversed(OPTIONS):
        command = click.option(*names, metavar=metavar or None, help=text, **_TYPES[kind])(command)
    return command


@click.command(
    context_settings={
        "allow_interspersed_args": False,
        "max_content_width": 100,
        "help_option_names": ["-h", "--help"],
    },
    epilog=_EPILOG,
)
@_with_options
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[--] COMMAND [ARG]...")
def run(**options: Any) -> int:
    """Run a command in a container."""
    from mesocosm.cli.execution import Options, execute

    if options["agent"] is None and (given := [name for name in OF_AGENT if options[name]]):
        raise click.UsageError(f"--{given[0].replace('_', '-')} goes with --agent")
    if options["task"] is not None:
        from mesocosm.cli.tasks import run_tasks

        return run_tasks(Options(**options))
    if not options["command"] and options["image"] is None:
        raise click.UsageError("there is no command to run; write it after --")
    if options["agent"] is not None:
        from mesocosm.cli.remote import run_remotely

        return run_remotely(Options(**options))
    return execute(Options(**options))
