"""Containers in a few words for people: how they are nested, their states, how they ended, and when."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Iterator, Mapping

from mesocosm.cli.containers import Container
from mesocosm.cli.messages import FAILED, printable
from mesocosm.cli.table import has_unicode
from mesocosm.client import Json

_ASCII = str.maketrans("├└│─", "|`|-")
_SIGNAL = 0x7F
"""The part of a status of wait(2) that is the number of a signal."""


def in_tree(containers: Iterable[Container]) -> Iterator[tuple[str, Container]]:
    """Each container after the one that it is nested in, the oldest first, with the branch that leads to it."""
    known = {container.id: container for container in containers}
    nested: dict[str | None, list[Container]] = {}
    for container in sorted(known.values(), key=lambda each: (each.launched or 0.0, each.id)):
        nested.setdefault(container.parent if container.parent in known else None, []).append(container)
    for branch, container in _branches(nested, None, ""):
        yield branch if has_unicode() else branch.translate(_ASCII), container


def _branches(
    nested: Mapping[str | None, list[Container]], parent: str | None, before: str
) -> Iterator[tuple[str, Container]]:
    of_parent = nested.get(parent, [])
    for number, container in enumerate(of_parent, 1):
        last = number == len(of_parent)
        branch = "" if parent is None else "└─ " if last else "├─ "
        yield before + branch, container
        yield from _branches(nested, container.id, before + ("" if parent is None else "   " if last else "│  "))


def state_of(container: Container) -> str:
    """In one or two words: `running`, `exit 3`, `SIGKILL`, `memory limit`."""
    if not container.has_ended:
        return container.state.lower()
    status, reason = container.entry.get("status"), container.entry.get("reason") or ""
    if limit := reason.partition("CONTAINER_LIMITATION_")[2]:
        return f"{limit.lower()} limit"
    if status is None:
        return "lost"
    return signal_name(status & _SIGNAL) if status & _SIGNAL else f"exit {status >> 8}"


def signal_name(number: int) -> str:
    """`SIGKILL` for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def since(moment: float | None, now: float | None = None) -> str:
    """How long ago it was: `12s`, `3m`, `5h`, `12d`."""
    if moment is None:
        return ""
    seconds = max((time.time() if now is None else now) - moment, 0)
    for most, unit, length in ((120, "s", 1), (7200, "m", 60), (172800, "h", 3600)):
        if seconds < most:
            return f"{int(seconds // length)}{unit}"
    return f"{int(seconds // 86400)}d"


def outcome(termination: Json) -> str:
    """How a container ended, of what WAIT_CONTAINER answers or an overview tells, in one line."""
    status = termination.get("exit_status")
    if status is None:
        text = "nobody saw how it ended"
    elif status & _SIGNAL:
        text = f"killed by {signal_name(status & _SIGNAL)}"
    else:
        text = f"exit status {status >> 8}"
    reason = printable((termination.get("message") or "").partition("\n")[0])
    return f"{text}: {reason}" if reason else text


def exit_status(status: int | None) -> int:
    """As a shell reports a status of wait(2): 128+N for signal N. Of one that nobody saw, that of a failure."""
    if status is None:
        return FAILED
    return 128 + (status & _SIGNAL) if status & _SIGNAL else status >> 8
