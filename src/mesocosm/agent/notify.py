"""What the agent tells the service manager: sd_notify(3), without its library.

Where no manager asks for it, nothing is sent; and that a message does not arrive is no reason to stop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Mapping

logger = logging.getLogger(__name__)


class Notifier:
    """The socket of the service manager, if there is one."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        """Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID."""
        address = environment.get("NOTIFY_SOCKET", "")
        # "@" is how an environment, which has no NUL, writes an address that is not in the file system.
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self.watchdog: float | None = None
        """Seconds after which the manager takes a silent agent for dead. None: it does not watch."""
        period = environment.get("WATCHDOG_USEC", "")
        if (
            self._address
            and period.isdecimal()
            and environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        ):
            self.watchdog = int(period) / 1e6 or None

    def ready(self) -> None:
        """The agent has started."""
        self._send("READY=1")

    def stopping(self) -> None:
        """It begins to end."""
        self._send("STOPPING=1")

    async def keep_alive(self) -> None:
        """Tells the watchdog twice in its time that the event loop turns, until cancelled."""
        while self.watchdog is not None:
            self._send("WATCHDOG=1")
            await asyncio.sleep(self.watchdog / 2)

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
                manager.setblocking(False)
                manager.sendto(message.encode(errors="replace"), self._address)
        except OSError as error:
            logger.warning("the service manager was not told %s: %s", message.partition("\n")[0], error.strerror)
