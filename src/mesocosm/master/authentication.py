"""How the agent authenticates at a master: by CRAM-MD5, a mechanism of SASL (RFC 2195), over messages of libprocess.

The master sends a challenge, which is answered with the principal and the challenge's HMAC by the secret. Source:
`src/authentication/cram_md5/`, and `Slave::authenticate` in slave.cpp for the time that an attempt has.
"""

from __future__ import annotations

import asyncio
import hmac
import itertools
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass

from google.protobuf.message import Message

from mesocosm.api import internal
from mesocosm.errors import MasterError
from mesocosm.libprocess.address import ActorAddress
from mesocosm.libprocess.inbox import Inbox
from mesocosm.libprocess.outbox import Outbox

logger = logging.getLogger(__name__)

MECHANISM = "CRAM-MD5"

Listen = Callable[[str, Inbox], Callable[[], None]]
"""Has an inbox take what is sent to an actor of that name, until what it returns is called."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an attempt may take, in seconds: a random time from `least` to a limit that doubles, up to `most`."""

    least: float
    most: float
    factor: float

    def limit(self, attempt: int) -> float:
        """The longest that an attempt may take; the first is 0."""
        return min(self.least + self.factor * 2.0 ** (attempt + 1), self.most)

    def choose(self, attempt: int) -> float:
        """How long an attempt takes at most, this time."""
        return random.uniform(self.least, max(self.least, self.limit(attempt)))


class CramMd5:
    """Proves to masters who the agent `client` is."""

    def __init__(
        self,
        principal: str,
        secret: str,
        client: ActorAddress,
        listen: Listen,
        patience: Patience,
        outbox: Callable[[ActorAddress], Outbox] = Outbox,
    ) -> None:
        """`outbox` makes what sends in the name of an actor."""
        self._principal = principal
        self._secret = secret
        self._client = client
        self._listen = listen
        self._patience = patience
        self._outbox = outbox
        self._names = (f"crammd5-authenticatee({number})" for number in itertools.count(1))

    async def authenticate(self, master: ActorAddress) -> None:
        """Tries until the master knows who the agent is. Raises MasterError where it does not accept that."""
        for attempt in itertools.count():
            # What fails at once is not tried again at once.
            ending = asyncio.get_running_loop().time() + self._patience.choose(attempt)
            try:
                async with asyncio.timeout_at(ending):
                    await self._attempt(master)
                    logger.info("authenticated at %s as %s", master, self._principal)
                    return
            except TimeoutError:
                logger.warning("authentication: %s did not answer in time", master)
            except _AttemptError as error:
                logger.warning("authentication at %s: %s", master, error)
                await asyncio.sleep(ending - asyncio.get_running_loop().time())

    async def _attempt(self, master: ActorAddress) -> None:
        """Raises MasterError and _AttemptError."""
        name = next(self._names)
        outbox = self._outbox(ActorAddress(name, self._client.ip, self._client.port))
        dialogue = _Dialogue(master, self._principal, self._secret, outbox.send)
        stop = self._listen(name, dialogue.inbox)
        try:
            outbox.send(master, internal.AuthenticateMessage(pid=str(self._client)))
            await dialogue.done
        finally:
            stop()
            await outbox.close()


class _AttemptError(Exception):
    """Something that another attempt may not meet."""


class _Dialogue:
    """One attempt: what the authenticator, an actor of the master's process, asks and is answered."""

    def __init__(
        self, master: ActorAddress, principal: str, secret: str, send: Callable[[ActorAddress, Message], None]
    ) -> None:
        self.inbox = Inbox()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._master = master
        self._principal = principal
        self._secret = secret
        self._send = send
        self._answered = False
        for kind in (
            internal.AuthenticationMechanismsMessage,
            internal.AuthenticationStepMessage,
            internal.AuthenticationCompletedMessage,
            internal.AuthenticationFailedMessage,
            internal.AuthenticationErrorMessage,
        ):
            self.inbox.receive(kind, self._receive)

    def _receive(self, sender: ActorAddress, message: Message) -> None:
        if sender.authority != self._master.authority or self.done.done():
            return
        match message:
            case internal.AuthenticationMechanismsMessage(mechanisms=mechanisms):
                self._start(sender, list(mechanisms))
            case internal.AuthenticationStepMessage(data=challenge):
                self._answer(sender, challenge)
            case internal.AuthenticationCompletedMessage() if self._answered:
                self.done.set_result(None)
            case internal.AuthenticationFailedMessage():
                self.done.set_exception(
                    MasterError(
                        f"{self._master} does not accept {self._principal!r} and its secret", "see --credential"
                    )
                )
            case internal.AuthenticationErrorMessage(error=error):
                self._fail(error)
            case _:
                self._fail("it says that all is done before it has asked anything")

    def _start(self, sender: ActorAddress, mechanisms: list[str]) -> None:
        if MECHANISM not in mechanisms:
            self._fail(f"of mechanisms it has {', '.join(mechanisms) or 'none'}, and not {MECHANISM}")
            return
        self._send(sender, internal.AuthenticationStartMessage(mechanism=MECHANISM, data=b""))

    def _answer(self, sender: ActorAddress, challenge: bytes) -> None:
        digest = hmac.digest(self._secret.encode(), challenge, "md5").hex()
        self._send(sender, internal.AuthenticationStepMessage(data=f"{self._principal} {digest}".encode()))
        self._answered = True

    def _fail(self, reason: str) -> None:
        self.done.set_exception(_AttemptError(reason))
