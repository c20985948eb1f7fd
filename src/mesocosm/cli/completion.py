"""`mesocosm completion`: what has a shell complete command lines of this program."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

PROGRAM, VARIABLE = "mesocosm", "_MESOCOSM_COMPLETE"
_EPILOG = """\b
Examples:
  source <(mesocosm completion bash)                       # in ~/.bashrc
  source <(mesocosm completion zsh)                        # in ~/.zshrc
  mesocosm completion fish > ~/.config/fish/completions/mesocosm.fish
"""


@click.command(epilog=_EPILOG)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> int:
    """Print the script that has a shell complete commands, options, containers and their files."""
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(context.find_root().command, {}, PROGRAM, VARIABLE).source())
    return 0
