"""Messages that come in: from the request of another process to the actor that it is for."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus

from google.protobuf.message import Message

from mesocosm.api import internal
from mesocosm.libprocess.address import ActorAddress

logger = logging.getLogger(__name__)

FROM = "Libprocess-From"
AGENT = "User-Agent"
AGENT_PREFIX = "libprocess/"

Receive = Callable[[ActorAddress, Message], None]
"""Takes a message from an actor. It returns at once: the next message of that actor comes after it."""


def sender_of(headers: Mapping[str, str]) -> ActorAddress | None:
    """Who sent a request; None for one that is no message of an actor. Raises ValueError for a wrong address."""
    if (sender := headers.get(FROM)) is not None:
        return ActorAddress.parse(sender)
    # So did those before version 0.20 say it.
    agent = headers.get(AGENT, "")
    return ActorAddress.parse(agent.removeprefix(AGENT_PREFIX)) if agent.startswith(AGENT_PREFIX) else None


class Inbox:
    """Hands messages on by their kind. What nobody wants is dropped, as libprocess does, and told in the log."""

    def __init__(self) -> None:
        self._receivers: dict[str, Receive] = {}

    def receive(self, kind: type[Message], receive: Receive) -> None:
        """Has messages of this kind handed to `receive`."""
        self._receivers[kind.DESCRIPTOR.full_name] = receive

    def deliver(self, sender: ActorAddress, remote: str | None, name: str, body: bytes) -> HTTPStatus:
        """Takes the request with the message `name`, which came from the address `remote`; returns its answer.

        A sender has to be where it says it is, as an answer goes there (LIBPROCESS_REQUIRE_PEER_ADDRESS_IP_MATCH).
        """
        if remote is not None and _plain(remote) != _plain(sender.ip):
            logger.warning("a message that claims to be from %s came from %s", sender, remote)
            return HTTPStatus.BAD_REQUEST
        try:
            message = internal.parse(name, body)
        except ValueError as error:
            logger.warning("from %s: %s", sender, error)
            return HTTPStatus.ACCEPTED
        receiver = self._receivers.get(name)
        if message is None or receiver is None:
            logger.warning("%s sent %s, which nobody here takes", sender, name)
        else:
            receiver(sender, message)
        return HTTPStatus.ACCEPTED


def _plain(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address, which a socket for both versions of IP writes as one of IPv6."""
    parsed = ipaddress.ip_address(address)
    return parsed.ipv4_mapped or parsed if isinstance(parsed, ipaddress.IPv6Address) else parsed
