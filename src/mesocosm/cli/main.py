"""The commands of `mesocosm`, and what its exit statuses are."""

from __future__ import annotations

import importlib
import io
import sys

import click
from click.shell_completion import CompletionItem

from mesocosm.cli.messages import FAILED, complain, guard
from mesocosm.version import __version__

_SECTIONS = {
    "Commands": {
        "run": "Run a command in a container.",
        "agent": "Run the agent of this machine.",
        "doctor": "Show which isolators work here.",
        "completion": "Have a shell complete command lines.",
    },
    "Containers of an agent, here or elsewhere": {
        "ps": "Show containers.",
        "inspect": "Show all that is known of a container.",
        "logs": "Show what containers have written, and write.",
        "exec": "Run another command in a container that runs.",
        "attach": "Connect the terminal to a container.",
        "stats": "Show what containers use.",
        "top": "Show what the machine and its containers do, on the whole screen.",
        "files": "Look into the sandboxes of containers.",
        "kill": "End containers, or send them another signal.",
        "wait": "Wait until containers have ended.",
        "rm": "Remove containers that have ended.",
    },
    "Images of this machine": {
        "pull": "Get an image into the store.",
        "images": "Show the images in the store.",
        "prune": "Remove the images that no container uses.",
    },
}
_COMMANDS = {name: text for section in _SECTIONS.values() for name, text in section.items()}
_FUNCTIONS = {"exec": "execute"}
"""Of commands that are called as something else in Python."""
_EPILOG = """\b
Examples:
  mesocosm run -- echo hello
  mesocosm run --mem 64MB --timeout 5 -- python3 -c 'print(2**100)'
  mesocosm ps --agent http://host:5051
  mesocosm doctor
"""


class _Commands(click.Group):
    """Imports a command when it is used, and not where it is only told of."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"mesocosm.cli.{cmd_name}")
        command: click.Command = getattr(module, _FUNCTIONS.get(cmd_name, cmd_name))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, section in _SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl(list(section.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        found = [CompletionItem(name, help=text) for name, text in _COMMANDS.items() if name.startswith(incomplete)]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]


@click.command(cls=_Commands, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="mesocosm %(version)s")
def commands() -> None:
    """Containers out of composable isolators."""


def run(arguments: list[str]) -> int:
    """Runs a command line; returns its exit status. Whatever is wrong is one line on the standard error."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(
            errors="backslashreplace"
        )  # Names of files may be no text, and locales are what they are.
    return guard(lambda: _invoke(arguments))


def _invoke(arguments: list[str]) -> int:
    try:
        result = commands.main(arguments, prog_name="mesocosm", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help() if error.ctx else "")
        return 0
    except click.ClickException as error:
        complain(f"{_first_lower(error.format_message())}; see `{_help_of(error)}`")
        return FAILED
    except click.exceptions.Abort:
        return 130
    return result if isinstance(result, int) else 0


def _first_lower(text: str) -> str:
    return text[:1].lower() + text[1:].rstrip(".")


def _help_of(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return f"{context.command_path if context is not None else 'mesocosm'} --help"
