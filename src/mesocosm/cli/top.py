"""`mesocosm top`: the machine of an agent and its containers, on the whole screen."""

from __future__ import annotations

import contextlib
import curses
import locale
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator

import click

from mesocosm.cli.agent_option import agent_options
from mesocosm.cli.containers import Overview, overview
from mesocosm.cli.screen import View, header, help_line, order_of, table
from mesocosm.cli.table import cut
from mesocosm.client.address import Address
from mesocosm.client.connection import Connection
from mesocosm.errors import FlagError, MesocosmError
from mesocosm.units import parse_duration

_FIRST = 0.5
"""Seconds until the second look, of which there are the first rates."""
_NAMES = ("LEFT", "RIGHT", "UP", "DOWN", "PPAGE", "NPAGE", "HOME", "END")
_KEYS = {getattr(curses, f"KEY_{name}"): name for name in _NAMES}
_EPILOG = """\b
Examples:
  mesocosm top
  mesocosm top --interval 5 --sort memory
  mesocosm top --agent https://host:5051 --credential ~/.mesocosm

\b
Keys: left and right choose what is sorted by, r turns the order round, t shows
the tree, up, down and page keys scroll, + and - change the interval, space looks
at once, q ends it.
"""


@click.command(epilog=_EPILOG)
@click.option("-n", "--interval", metavar="DURATION", default="2", show_default=True, help="Between two looks.")
@click.option("-s", "--sort", metavar="COLUMN", help="What is sorted by. Default: nothing, it is a tree.")
@agent_options
def top(agent: Address, *, interval: str, sort: str | None) -> int:
    """Show what the machine and its containers do, on the whole screen."""
    seconds = parse_duration(interval)
    if seconds <= 0:
        raise FlagError(f"--interval: {interval} is no time to wait", "write seconds, such as 2")
    view = View(seconds, order_of(sort))
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise MesocosmError("top needs a terminal", "`mesocosm stats` does not")
    locale.setlocale(locale.LC_ALL, "")
    with Connection(agent) as connection:
        view.looks = None, overview(connection)  # Where there is no agent, there is no screen either.
        with _ending_by_signals():
            try:
                curses.wrapper(_Top(connection, view).run)
            except curses.error as error:
                raise MesocosmError(f"this terminal cannot be used: {error}", "set TERM to what it is") from None
            except KeyboardInterrupt:
                pass
    return 0


@contextlib.contextmanager
def _ending_by_signals() -> Iterator[None]:
    """Has signals end the program in order, so that the terminal is given back as it was."""

    def end(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)


class _Top:
    """The loop: what comes is keys, looks at the agent, and a window of another size."""

    def __init__(self, connection: Connection, view: View) -> None:
        self._view = view
        self._plain = "utf" not in locale.getpreferredencoding(False).lower()
        self._event, self._notice = os.pipe()
        os.set_blocking(self._notice, False)
        self._looking = _Looking(connection, view, self._notice)

    def run(self, screen: curses.window) -> None:
        """Until `q`."""
        with contextlib.suppress(curses.error):
            curses.curs_set(0)
        with contextlib.suppress(curses.error):
            curses.use_default_colors()
        screen.nodelay(True)
        signal.signal(signal.SIGWINCH, lambda *_: os.write(self._notice, b"w"))
        self._looking.start()
        while True:
            self._draw(screen)
            ready, _, _ = select.select([0, self._event], [], [])
            if self._event in ready and b"w" in os.read(self._event, 4096):
                curses.resizeterm(*os.get_terminal_size(0)[::-1])
            while (key := screen.getch()) != curses.ERR:
                name = _KEYS.get(key, chr(key) if 0 < key < 128 else "")
                if name == "q":
                    return
                self._view.press(name)
                if name in (" ", "+", "-"):
                    self._looking.hurry()

    def _draw(self, screen: curses.window) -> None:
        rows, columns = screen.getmaxyx()
        screen.erase()
        lines = header(self._view, columns, plain=self._plain)
        titles, *containers = table(self._view, columns, plain=self._plain)
        lines = lines[: max(rows - 4, 0)]
        self._view.page = max(rows - len(lines) - 2, 1)
        self._view.offset = max(min(self._view.offset, len(containers) - self._view.page), 0)
        shown = containers[self._view.offset : self._view.offset + self._view.page]
        attributes = [curses.A_NORMAL] * len(lines) + [curses.A_REVERSE] + [curses.A_NORMAL] * len(shown)
        for row, (line, attribute) in enumerate(zip([*lines, titles.ljust(columns), *shown], attributes, strict=True)):
            _put(screen, row, line, columns, attribute)
        attribute = curses.A_DIM if self._view.problem is None else curses.A_BOLD
        _put(screen, rows - 1, self._view.problem or help_line(plain=self._plain), columns, attribute)
        screen.refresh()


def _put(screen: curses.window, row: int, text: str, columns: int, attribute: int) -> None:
    if row < screen.getmaxyx()[0]:
        with contextlib.suppress(curses.error):  # What is written into the last cell moves the cursor out.
            screen.addstr(row, 0, cut(text, columns), attribute)


class _Looking(threading.Thread):
    """Asks the agent again and again, however long it takes, and goes on when it comes back."""

    def __init__(self, connection: Connection, view: View, notice: int) -> None:
        super().__init__(daemon=True)
        self._connection = connection
        self._view = view
        self._notice = notice
        self._hurry = threading.Event()

    def hurry(self) -> None:
        """Has the next look at once."""
        self._hurry.set()

    def run(self) -> None:
        """For ever."""
        self._hurry.wait(_FIRST)
        while True:
            self._hurry.clear()
            self._look()
            os.write(self._notice, b"l")
            self._hurry.wait(self._view.interval)

    def _look(self) -> None:
        before: Overview | None = None if self._view.looks is None else self._view.looks[1]
        try:
            self._view.looks = before, overview(self._connection)
            self._view.problem = None
        except MesocosmError as error:
            self._view.problem = str(error)
