"""The signals that ask a program for something, which are for the command instead of this program."""

from __future__ import annotations

import signal

_NAMES = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2")


def forwarded() -> list[signal.Signals]:
    """Those that are passed on: all but what the caller ignores."""
    return [each for each in map(signal.Signals.__getitem__, _NAMES) if signal.getsignal(each) is not signal.SIG_IGN]
