"""Messages of libprocess to the actors of this process: `POST /ACTOR/NAME`, whose sender is said in a header."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from mesocosm.agent.http.reply import Reply, bad_request, not_found
from mesocosm.agent.http.routes import Request, Route, Routes
from mesocosm.libprocess.inbox import Inbox, sender_of

_METHODS = frozenset({"GET", "HEAD", "POST"})


def add_actor(routes: Routes, name: str, inbox: Inbox, is_ready: Callable[[], bool]) -> None:
    """Has `inbox` take what is sent to the actor `name`; until it `is_ready`, what comes is dropped, as in Mesos.

    Whatever becomes of a message, the answer is 202: the sender learns from messages alone.
    """

    async def handle(request: Request) -> Reply:
        message = request.path.removeprefix(f"/{name}/")
        try:
            sender = sender_of(request.headers)
        except ValueError as error:
            raise bad_request(str(error)) from None
        if request.method != "POST" or sender is None or message == request.path or "/" in message:
            raise not_found(f"there is nothing at {request.path!r}")
        if request.remote is None:  # Executors may have a Unix socket: whatever they claim to be, they are no master.
            raise bad_request("messages are taken by TCP alone, where it is seen who sent them")
        body = await request.read()
        return Reply(inbox.deliver(sender, request.remote, message, body) if is_ready() else HTTPStatus.ACCEPTED)

    routes.add(Route(f"/{name}", handle, realm=None, methods=_METHODS))
