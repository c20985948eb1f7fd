"""The part of a launch that is no isolator's: the command, its environment, its user and its directory."""

from __future__ import annotations

import os

from mesocosm.container import ContainerConfig
from mesocosm.errors import ContainerError
from mesocosm.flags import DEFAULT_PATH, Flags
from mesocosm.launcher import programs
from mesocosm.launcher.info import Command, Credentials, LaunchInfo

_ROOT = Credentials(0, 0)


def find_credentials(config: ContainerConfig) -> Credentials | None:
    """Who the command is to be: root if root launches it and names nobody; None: the launching user.

    Raises ContainerError for a user there is not, or that the launching user may not become.
    """
    is_root = os.geteuid() == 0
    if config.user is None:
        return _ROOT if is_root else None
    from mesocosm.users import resolve

    wanted = resolve(config.user, config.root_layers)
    if is_root and hasattr(os, "setresuid"):
        return wanted
    if (wanted.uid, wanted.gid) == (os.geteuid(), os.getegid()):
        return None
    raise ContainerError(f"the command cannot run as the user {config.user!r}", "only root on Linux may switch users")


def describe(config: ContainerConfig, credentials: Credentials | None, flags: Flags) -> LaunchInfo:
    """The launch of the command of `config`. Raises ContainerError for one that cannot be executed anywhere."""
    sandbox = str(config.directory) if config.rootfs is None else flags.sandbox_directory
    environment = {"PATH": DEFAULT_PATH, "MESOS_SANDBOX": sandbox, **config.environment}
    command = _command(config)
    directory = os.path.join(sandbox, config.working_directory or "")  # noqa: PTH118 - a path of the container.
    for text in (*command.argv, command.executable, directory, *environment, *environment.values()):
        if "\0" in text:
            raise ContainerError(f"the command, its environment or its directory has a NUL character: {text!r}")
    for name in environment:
        if not name or "=" in name:
            raise ContainerError(f"{name!r} is no name of an environment variable")
    tty = config.tty_info
    return LaunchInfo(
        environment=environment,
        working_directory=directory.rstrip("/") or "/",
        credentials=credentials,
        command=command,
        tty=None if tty is None else (tty.rows, tty.columns),
    )


def _command(config: ContainerConfig) -> Command:
    command = config.command
    if command.program is not None:
        programs.check_known(command.program)
    elif not command.value:
        raise ContainerError("the container has no command")
    if not command.value:
        return Command("", (), command.program)
    if command.shell:
        return Command("/bin/sh", ("sh", "-c", command.value), command.program)
    return Command(command.value, command.arguments or (command.value,), command.program)
