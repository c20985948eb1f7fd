"""What the commands that ask an agent have in common: which agent it is, who asks, and in which form they answer."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mesocosm.client.address import Address, Trust, default_address
from mesocosm.errors import FlagError

if TYPE_CHECKING:
    from mesocosm.cli.execution import Options

Command = TypeVar("Command", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
"""`--json`, for scripts."""

NAMES = ("agent", "credential", "ca_file", "cert", "key")
"""What the options are called in Python."""
_FILE = click.Path(path_type=Path, dir_okay=False)
_OPTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        "--agent",
        {
            "metavar": "URL|SOCKET",
            "envvar": "MESOCOSM_AGENT",
            "help": "The agent. Default: that of this machine.",
        },
    ),
    (
        "--credential",
        {
            "metavar": "FILE",
            "type": _FILE,
            "envvar": "MESOCOSM_CREDENTIAL",
            "help": "A principal and its secret, as a line or as JSON.",
        },
    ),
    (
        "--ca-file",
        {
            "metavar": "FILE",
            "type": _FILE,
            "envvar": "MESOCOSM_CA_FILE",
            "help": "Whose certificates the agent may have. Default: of whom the system trusts.",
        },
    ),
    (
        "--cert",
        {
            "metavar": "FILE",
            "type": _FILE,
            "envvar": "MESOCOSM_CERT",
            "help": "A certificate of one's own, for agents that ask for it.",
        },
    ),
    (
        "--key",
        {
            "metavar": "FILE",
            "type": _FILE,
            "envvar": "MESOCOSM_KEY",
            "help": "Its key, if that is not in the same file.",
        },
    ),
)


def agent_options(command: Command) -> Command:
    """The options that say which agent is meant; the command gets its `Address`, as `agent`."""

    @functools.wraps(command)
    def with_address(*arguments: Any, **options: Any) -> Any:
        given = {name: options.pop(name) for name in NAMES}
        return command(*arguments, agent=address_of(**given), **options)

    for name, settings in reversed(_OPTIONS):
        with_address = click.option(name, **settings)(with_address)
    return with_address  # type: ignore[return-value]


def address_of(
    agent: str | None = None,
    credential: Path | None = None,
    ca_file: Path | None = None,
    cert: Path | None = None,
    key: Path | None = None,
) -> Address:
    """The agent that the options mean. Raises FlagError, AgentError."""
    if key is not None and cert is None:
        raise FlagError("--key goes with --cert", "name the certificate, too")
    return Address.parse(agent or default_address(), _credentials(credential), Trust(ca_file, cert, key))


def address_given(options: Options) -> Address:
    """The agent that the options of `mesocosm run` mean, of which the variables say the rest. Raises MesocosmError."""
    given = {name: getattr(options, name) for name in NAMES}
    for name, settings in _OPTIONS[1:]:
        field = name.removeprefix("--").replace("-", "_")
        if given[field] is None and (path := os.environ.get(settings["envvar"])):
            given[field] = Path(path)
    return address_of(**given)


def _credentials(file: Path | None) -> tuple[str, str] | None:
    if file is None:
        return None
    from mesocosm.agent.authentication import load_credential  # More to load than the rest of a command.

    found = load_credential(file)
    return found.principal, found.secret
