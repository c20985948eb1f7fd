"""Messages in protobuf's own format, from outside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from mesocosm.api.json import check_required

_FAILED = "Failed to parse body into a protobuf object"

_Message = TypeVar("_Message", bound=Message)


def from_bytes(data: bytes, kind: type[_Message]) -> _Message:
    """The message of `kind` that `data` is. Raises ValueError in the words of Mesos.

    The messages' own methods do for what is trusted only: in proto2 they let text pass that is not UTF-8, have bytes
    then where a str is expected, and do not miss required fields.
    """
    message = kind()
    try:
        message.ParseFromString(data)
        _check_text(message)
        check_required(message)
    except DecodeError:
        raise ValueError(_FAILED) from None
    except ValueError as error:
        raise ValueError(f"{_FAILED}: {error}") from None
    return message


def _check_text(message: Message) -> None:
    """Raises ValueError for text that is not UTF-8."""
    for field, value in message.ListFields():
        if not field.is_repeated:
            values = [value]
        elif isinstance(value, Mapping):
            values = [*value, *(value[key] for key in value if isinstance(key, str))]
        else:
            values = value
        for part in values:
            if isinstance(part, Message):
                _check_text(part)
            elif isinstance(part, bytes) and field.type != FieldDescriptor.TYPE_BYTES:
                raise ValueError(f"{field.full_name} is not UTF-8")
