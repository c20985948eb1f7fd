"""Which launcher `--launcher` means."""

from __future__ import annotations

import os
import sys

from mesocosm.errors import FlagError, UnsupportedError
from mesocosm.flags import Flags
from mesocosm.launcher.base import Launcher
from mesocosm.launcher.client import LauncherProcess


def launcher_name(flags: Flags) -> str:
    """`linux` or `posix`: the one that was asked for, else `linux` for root on Linux. Raises FlagError."""
    if flags.launcher is None:
        return "linux" if sys.platform == "linux" and os.geteuid() == 0 else "posix"
    if flags.launcher not in ("linux", "posix"):
        raise FlagError(f"--launcher: there is no launcher {flags.launcher!r}", "use linux or posix")
    return flags.launcher


def create_launcher(flags: Flags, process: LauncherProcess) -> Launcher:
    """The launcher, which will fork by `process`. Raises FlagError where it does not work."""
    if launcher_name(flags) == "posix":
        from mesocosm.launcher.posix import PosixLauncher

        return PosixLauncher(process)
    from mesocosm.launcher.linux import LinuxLauncher

    try:
        return LinuxLauncher(flags, process)
    except UnsupportedError as error:
        raise FlagError(f"--launcher: {error.message}", error.hint) from error
