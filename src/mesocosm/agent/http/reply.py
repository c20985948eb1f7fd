"""What a handler answers, and the errors that are answers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec

from mesocosm.api.headers import EXIT_STATUS
from mesocosm.errors import CommandError, leaves

if TYPE_CHECKING:
    from mesocosm.agent.http.websocket import Conversation

JSON = "application/json"
PROTOBUF = "application/x-protobuf"
RECORDIO = "application/recordio"
TEXT = "text/plain; charset=utf-8"
_LONGEST = 4096
"""Characters of what is said to be wrong, which may quote all that was sent."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer. Without a body it has no content type either, as in Mesos."""

    status: HTTPStatus = HTTPStatus.OK
    body: bytes = b""
    content_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    stream: AsyncGenerator[bytes, None] | None = None
    """The body piece by piece, instead of `body`. It is closed in any case."""
    conversation: Conversation | None = None
    """What is said by a WebSocket, instead of an answer."""
    patience: float | None = None
    """Seconds after which a client that takes nothing of the stream is cut; None: it is waited for."""
    release: Callable[[], None] | None = None
    """Gives back what the stream holds. It is called in the end, also if the stream has not begun."""


class StreamCutError(Exception):
    """A stream that ends before its end, and says why in one line: the client sees its connection reset."""


class RequestError(Exception):
    """A request that is refused: the status, and one line for whoever sent it."""

    def __init__(self, status: HTTPStatus, text: str = "", headers: Mapping[str, str] | None = None) -> None:
        text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
        super().__init__(text)
        self.reply = Reply(status, text.encode(errors="replace"), TEXT if text else None, headers or {})


def json_reply(value: Any) -> Reply:
    """`value` as JSON. Text that is no Unicode (a file name, say) has its odd bytes replaced."""
    try:
        return Reply(body=msgspec.json.encode(value), content_type=JSON)
    except UnicodeEncodeError:
        return Reply(body=msgspec.json.encode(_printable(value)), content_type=JSON)


def bad_request(text: str) -> RequestError:
    """400, with what is wrong with the request."""
    return RequestError(HTTPStatus.BAD_REQUEST, text)


def not_found(text: str) -> RequestError:
    """404, with what there is not."""
    return RequestError(HTTPStatus.NOT_FOUND, text)


def not_launched(error: Exception) -> RequestError:
    """400, with why there is no container; of a command that cannot be executed also with what a shell's status is."""
    errors = list(leaves(error))
    status = next((each.exit_status for each in errors if isinstance(each, CommandError)), None)
    headers = {} if status is None else {EXIT_STATUS: str(status)}
    return RequestError(HTTPStatus.BAD_REQUEST, "; ".join(map(str, errors)), headers)


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="surrogateescape").decode(errors="replace")
    if isinstance(value, dict):
        return {_printable(key): _printable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_printable(entry) for entry in value]
    return value
