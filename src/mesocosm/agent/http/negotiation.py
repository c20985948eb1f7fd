"""Which formats a request of the v1 API comes in, and which it takes for an answer; with Mesos's status codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from mesocosm.agent.http.reply import JSON, PROTOBUF, RECORDIO, RequestError, bad_request

_MESSAGE_CONTENT_TYPE = "Message-Content-Type"
_MESSAGE_ACCEPT = "Message-Accept"


@dataclass(frozen=True, slots=True)
class MediaTypes:
    """The content and the accepted type; where one is RecordIO, also the type of the messages in it."""

    content: str
    accept: str
    message_content: str | None = None
    message_accept: str | None = None


def negotiate(headers: Mapping[str, str]) -> MediaTypes:
    """The types of a request with `headers`, whose names may be in any case. Raises RequestError: 400, 406, 415."""
    content = _content_type(headers)
    message_content = _message_content_type(headers, content)
    accept = accepted_type(headers.get("Accept"), (JSON, PROTOBUF, RECORDIO))
    if accept is None:
        raise _not_acceptable(f"Expecting 'Accept' to allow {JSON} or {PROTOBUF} or {RECORDIO}")
    message_accept = None
    if accept == RECORDIO:
        message_accept = accepted_type(headers.get(_MESSAGE_ACCEPT), (JSON, PROTOBUF))
        if message_accept is None:
            raise _not_acceptable(f"Expecting '{_MESSAGE_ACCEPT}' to allow {JSON} or {PROTOBUF}")
    elif _MESSAGE_ACCEPT in headers:
        raise _not_acceptable(f"Expecting '{_MESSAGE_ACCEPT}' to be not set for non-streaming responses")
    return MediaTypes(content, accept, message_content, message_accept)


def _content_type(headers: Mapping[str, str]) -> str:
    given = headers.get("Content-Type")
    if given is None:
        raise bad_request("Expecting 'Content-Type' to be present")
    content = essence(given)
    if content not in (JSON, PROTOBUF, RECORDIO):
        raise _unsupported(f"Expecting 'Content-Type' of {JSON} or {PROTOBUF} or {RECORDIO}")
    return content


def _message_content_type(headers: Mapping[str, str], content: str) -> str | None:
    given = headers.get(_MESSAGE_CONTENT_TYPE)
    if content != RECORDIO:
        if given is not None:
            raise _unsupported(f"Expecting '{_MESSAGE_CONTENT_TYPE}' to be not set for non-streaming requests")
        return None
    if given is None:
        raise bad_request(f"Expecting '{_MESSAGE_CONTENT_TYPE}' to be set for streaming requests")
    if essence(given) not in (JSON, PROTOBUF):
        raise _unsupported(f"Expecting '{_MESSAGE_CONTENT_TYPE}' of {JSON} or {PROTOBUF}")
    return essence(given)


def accepted_type(accept: str | None, offered: tuple[str, ...]) -> str | None:
    """The first of `offered` that a header such as `text/*;q=0.5, application/json` allows; all if there is none."""
    for media_type in offered:
        if accept is None or any(_allows(entry, media_type) for entry in accept.split(",")):
            return media_type
    return None


def _allows(entry: str, media_type: str) -> bool:
    pattern = essence(entry)
    parameters = (parameter.strip().lower() for parameter in entry.split(";")[1:])
    if any(parameter.startswith("q=") and parameter[2:].strip("0.") == "" for parameter in parameters):
        return False  # A quality of 0 means: not this one (RFC 9110, 12.4.2).
    return pattern in ("*/*", media_type, f"{media_type.partition('/')[0]}/*")


def essence(value: str) -> str:
    """The media type without its parameters."""
    return value.partition(";")[0].strip().lower()


def _unsupported(text: str) -> RequestError:
    return RequestError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, text)


def _not_acceptable(text: str) -> RequestError:
    return RequestError(HTTPStatus.NOT_ACCEPTABLE, text)
