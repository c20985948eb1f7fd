"""What a check does once: it asks a task something, and returns a `CheckStatusInfo` with the answer."""

from __future__ import annotations

import ipaddress
import os
import signal
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import SplitResult, urljoin, urlsplit

from mesocosm.dataclass import replace
from mesocosm.executors.http import Address, Connection
from mesocosm.executors.processes import TO_STDERR, Children, signal_tree
from mesocosm.executors.statuses import Json, describe
from mesocosm.executors.tasks import command_of, variables_of

Probe = Callable[[], Awaitable[Json]]
"""Raises CheckError or UnaskedError where there is no answer."""

_LOOPBACK = {"IPv4": "127.0.0.1", "IPv6": "::1"}
"""Not `localhost`, which some images have no address for."""
_LOCALHOST = ("localhost", "localhost.")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_REDIRECTIONS = (301, 302, 303, 307, 308)
_MOST_REDIRECTIONS = 50


def _accept_any() -> ssl.SSLContext:
    """A task checks itself: no certificate of 127.0.0.1 is to be expected."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


_TLS = _accept_any()
"""Made here, as its making reads the configuration of OpenSSL: it shall be that of the host."""


class CheckError(Exception):
    """A check could not be performed."""


class UnaskedError(Exception):
    """The task was not asked, for what is no fault of its own."""


class Place(Protocol):
    """Where a task is, and from where it is asked."""

    async def execute(self, command: Json) -> int:
        """The exit code of a `CommandInfo`. Killed, if it is cancelled. Raises CheckError or UnaskedError for none."""

    def address(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> Address:
        """An address, as the task has it."""


@dataclass(frozen=True, slots=True)
class Beside:
    """Where the executor itself is."""

    children: Children

    async def execute(self, command: Json) -> int:
        """With the executor's environment; what it prints is no output of the task."""
        try:
            environment = {**os.environ, **variables_of(command)}
            pid, exited = self.children.start(command_of(command), environment, TO_STDERR)
        except (OSError, ValueError) as error:  # Of which the latter is for a NUL character.
            raise CheckError(f"the command cannot be executed: {error}") from error
        try:
            status = await exited
        except BaseException:
            signal_tree(pid, signal.SIGKILL)
            raise
        if not os.WIFEXITED(status):
            raise CheckError(describe(status))
        return os.WEXITSTATUS(status)

    def address(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> Address:
        """As it is."""
        return Address(host, port, tls=tls)


def create(check: Json, place: Place) -> Probe:
    """The probe of a `CheckInfo` or a `HealthCheck`, which is complete."""
    kind = check["type"]
    if kind == "COMMAND":
        command = check["command"]
        return _command(command.get("command", command), place)
    details = check[kind.lower()]
    host = _LOOPBACK[details.get("protocol", "IPv4")]
    if kind == "TCP":
        return _tcp(place.address(host, details["port"]))
    named = f"[{host}]" if ":" in host else host
    return _http(f"{details.get('scheme', 'http')}://{named}:{details['port']}{details.get('path', '')}", host, place)


def _command(command: Json, place: Place) -> Probe:
    async def probe() -> Json:
        return {"type": "COMMAND", "command": {"exit_code": await place.execute(command)}}

    return probe


def _tcp(address: Address) -> Probe:
    async def probe() -> Json:
        try:
            (await address.connect()).close()
        except OSError:
            return {"type": "TCP", "tcp": {"succeeded": False}}
        return {"type": "TCP", "tcp": {"succeeded": True}}

    return probe


def _http(url: str, loopback: str, place: Place) -> Probe:
    async def probe() -> Json:
        try:
            return {"type": "HTTP", "http": {"status_code": await _get(url, loopback, place)}}
        except (OSError, ValueError) as error:
            raise CheckError(f"{url}: {error}") from error

    return probe


async def _get(url: str, loopback: str, place: Place) -> int:
    """The status of the answer to a GET, after all redirections. Raises OSError, ValueError."""
    for _ in range(_MOST_REDIRECTIONS):
        parts = urlsplit(url)
        async with await Connection.open(_address(parts, loopback, place)) as connection:
            target = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
            response = await connection.request("GET", target, {"Accept": "*/*", "Connection": "close"})
        if response.status not in _REDIRECTIONS or "location" not in response.headers:
            return response.status
        url = urljoin(url, response.headers["location"])
    raise ValueError(f"more than {_MOST_REDIRECTIONS} redirections")


def _address(parts: SplitResult, loopback: str, place: Place) -> Address:
    """Raises ValueError: no name is looked up in a container, and `localhost` alone needs no look-up (RFC 6761)."""
    if parts.scheme not in _DEFAULT_PORTS:
        raise ValueError(f"{parts.scheme!r} is neither http nor https")
    tls = _TLS if parts.scheme == "https" else None
    port = parts.port or _DEFAULT_PORTS[parts.scheme]
    host = parts.hostname or ""
    if host in _LOCALHOST:
        return replace(place.address(loopback, port, tls), name=host)
    try:
        return place.address(str(ipaddress.ip_address(host)), port, tls)
    except ValueError:
        raise ValueError(f"{host!r} is no address, and names are not looked up") from None
