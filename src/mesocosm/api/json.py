"""Messages as JSON, as Mesos writes and reads it (stout's `JSON::protobuf` and `protobuf::parse`).

That is neither protobuf's own JSON format nor quite what a reader expects of it: names are those of the fields, 64-bit
integers are numbers, and an optional field that has a default in the .proto file is written also when it is not set,
unless it is deprecated.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import msgspec
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

_DEEPEST = 100
"""Messages in messages, as many as protobuf reads in its own format."""
_MOST_MISSING = 10
"""Fields that an error names as missing."""
_LONGEST = 64
"""Characters of what an error quotes."""
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,99})(?:\.[0-9]{1,99})?(?:[eE][+-]?[0-9]{1,9})?", re.ASCII)
_INFINITE = {"Infinity": math.inf, "-Infinity": -math.inf}
_BOOLEANS = {"true": True, "false": False}

_Message = TypeVar("_Message", bound=Message)
_Kind = TypeVar("_Kind")
_Write = Callable[[Any], Any]
"""From the value of a field to JSON."""
_Read = Callable[[Any], Any]
"""From JSON to the value of a field. Raises _Refusal."""
_Fill = Callable[[Message, Any, int], None]
"""Sets a field of a message to a value out of JSON, at a depth. Raises _Refusal."""


def to_json(message: Message) -> dict[str, Any]:
    """The message as Mesos writes it, in the order of the .proto file. An infinite number is "Infinity"."""
    result = {}
    for field in _writers(message.DESCRIPTOR):
        if field.repeated:
            if values := getattr(message, field.name):
                result[field.name] = field.write(values)
        elif field.has_default or message.HasField(field.name):
            result[field.name] = field.write(getattr(message, field.name))
    return result


def from_json(value: Any, kind: type[_Message]) -> _Message:
    """The message of `kind` that `value` is, as a JSON decoder returns it. Raises ValueError that names the field.

    What `kind` does not know is ignored, and null is as if it was absent. Unlike Mesos, this refuses a number that the
    field cannot hold, and a name that its enumeration has not.
    """
    if type(value) is not dict:
        raise ValueError("Expecting a JSON object")
    message = kind()
    try:
        _fill(message, value, 0)
    except _Refusal as refusal:
        raise ValueError(str(refusal)) from None
    check_required(message)
    return message


def unknown_fields(value: Any, kind: type[Message]) -> Iterator[str]:
    """What `value` has that a message of this kind has not, as `field.field`.

    `from_json` leaves it out, as in Mesos; but people who have written it by hand have mistyped it.
    """
    descriptor: Any = kind.DESCRIPTOR  # Of the classes that have one in their stubs, mypy takes neither for both.
    return _unknown(value, descriptor, "")


def _unknown(value: Any, descriptor: Descriptor, within: str) -> Iterator[str]:
    if not isinstance(value, Mapping):
        return
    for name, part in value.items():
        field = descriptor.fields_by_name.get(name)
        if field is None:
            yield f"{within}{name}"
        elif field.message_type is not None and not _is_map(field):
            for each in part if isinstance(part, list) else (part,):
                yield from _unknown(each, field.message_type, f"{within}{name}.")


def loads(text: bytes) -> Any:
    """What JSON text says. Raises ValueError in the words of Mesos, also for text that is nested too deeply."""
    try:
        return msgspec.json.decode(text)
    except RecursionError:
        raise ValueError("Failed to parse body into JSON: it is nested too deeply") from None
    except (msgspec.MsgspecError, ValueError) as error:
        raise ValueError(f"Failed to parse body into JSON: {error}") from None


def check_required(message: Message) -> None:
    """Raises ValueError if a required field is missing, and names it."""
    if not message.IsInitialized():
        missing = message.FindInitializationErrors()  # type: ignore[attr-defined]
        more = [] if len(missing) <= _MOST_MISSING else ["..."]
        raise ValueError(f"Missing required fields: {', '.join([*missing[:_MOST_MISSING], *more])}")


# Writing.


@dataclass(frozen=True, slots=True)
class _Writer:
    name: str
    repeated: bool
    has_default: bool
    write: _Write


@cache
def _writers(descriptor: Descriptor) -> tuple[_Writer, ...]:
    return tuple(
        _Writer(
            field.name,
            field.is_repeated,
            field.has_default_value and not field.GetOptions().deprecated,
            _writer(field),
        )
        for field in descriptor.fields
    )


def _writer(field: FieldDescriptor) -> _Write:
    if _is_map(field):
        write = _value_writer(_value_of(field))
        return lambda values: {key: write(values[key]) for key in values}
    write = _value_writer(field)
    return (lambda values: [write(value) for value in values]) if field.is_repeated else write


def _value_writer(field: FieldDescriptor) -> _Write:
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        return to_json
    if field.type == FieldDescriptor.TYPE_ENUM:
        return {number: name for name, number in _enumeration(field).items()}.__getitem__
    if field.type == FieldDescriptor.TYPE_BYTES:
        return lambda value: base64.b64encode(value).decode()
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        return _write_double
    return lambda value: value


def _write_double(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


# Reading.


class _Refusal(Exception):
    """What is wrong with a value, around the path of its field, which grows on the way out."""

    def __init__(self, before: str, after: str = "") -> None:
        super().__init__(before)
        self._before = before
        self._after = after
        self._path = ""

    def within(self, part: str) -> _Refusal:
        """The same, seen from the message or the list that the value is in."""
        self._path = f"{part}.{self._path}" if self._path and self._path[0] != "[" else part + self._path
        return self

    def __str__(self) -> str:
        return f"{self._before} '{self._path}'{self._after}"


def _fill(message: Message, value: Any, depth: int) -> None:
    if depth > _DEEPEST:
        raise _Refusal("Nested too deeply: field")
    fields = _fillers(message.DESCRIPTOR)
    for name, part in _expected(value, dict).items():
        if part is not None and (fill := fields.get(name)) is not None:
            try:
                fill(message, part, depth)
            except _Refusal as refusal:
                raise refusal.within(name) from None


@cache
def _fillers(descriptor: Descriptor) -> dict[str, _Fill]:
    return {field.name: _filler(field) for field in descriptor.fields}


def _filler(field: FieldDescriptor) -> _Fill:
    name = field.name
    if _is_map(field):
        return _map_filler(name, _value_of(field))
    if field.is_repeated:
        return _list_filler(name, field)
    if field.type == FieldDescriptor.TYPE_MESSAGE:

        def fill_message(message: Message, value: Any, depth: int) -> None:
            inner = getattr(message, name)
            inner.SetInParent()
            _fill(inner, value, depth + 1)

        return fill_message
    read = _reader(field)
    return lambda message, value, depth: setattr(message, name, read(value))


def _list_filler(name: str, field: FieldDescriptor) -> _Fill:
    if field.type == FieldDescriptor.TYPE_MESSAGE:

        def fill_messages(message: Message, value: Any, depth: int) -> None:
            values = getattr(message, name)
            _fill_each(enumerate(_expected(value, list)), lambda _, part: _fill(values.add(), part, depth + 1))

        return fill_messages
    read = _reader(field)

    def fill(message: Message, value: Any, depth: int) -> None:
        values = getattr(message, name)
        _fill_each(enumerate(_expected(value, list)), lambda _, part: values.append(read(part)))

    return fill


def _map_filler(name: str, field: FieldDescriptor) -> _Fill:
    """For maps from text: there are no others."""
    if field.type == FieldDescriptor.TYPE_MESSAGE:

        def fill_messages(message: Message, value: Any, depth: int) -> None:
            values = getattr(message, name)
            _fill_each(
                _expected(value, dict).items(), lambda key, part: _fill(values[_read_text(key)], part, depth + 1)
            )

        return fill_messages
    read = _reader(field)

    def fill(message: Message, value: Any, depth: int) -> None:
        values = getattr(message, name)
        _fill_each(_expected(value, dict).items(), lambda key, part: values.__setitem__(_read_text(key), read(part)))

    return fill


def _fill_each(parts: Iterable[tuple[Any, Any]], put: Callable[[Any, Any], object]) -> None:
    for key, part in parts:
        if part is not None:
            try:
                put(key, part)
            except _Refusal as refusal:
                raise refusal.within(f"[{_shown(key)}]") from None


def _reader(field: FieldDescriptor) -> _Read:
    if field.type == FieldDescriptor.TYPE_ENUM:
        return _enum_reader(_enumeration(field))
    if field.type in _INTEGERS:
        return _integer_reader(*_INTEGERS[field.type])
    return _READERS[field.type]


def _read_text(value: Any) -> str:
    text = _expected(value, str)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _Refusal("Not expecting half of a surrogate pair for field") from None
    return text


def _read_bytes(value: Any) -> bytes:
    try:
        return base64.b64decode(_expected(value, str), validate=True)
    except ValueError as error:
        raise _Refusal("Failed to base64 decode bytes field", f": {error}") from None


def _read_boolean(value: Any) -> bool:
    if type(value) is bool:
        return value
    if (found := _BOOLEANS.get(_expected(value, str))) is None:
        raise _Refusal(f"Failed to parse '{_shown(value)}' as a JSON boolean for field")
    return found


def _read_double(value: Any) -> float:
    if type(value) is str and (infinite := _INFINITE.get(value)) is not None:
        return infinite
    number = _number(value)
    try:
        found = float(number)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise _Refusal("The number is out of range for field")
    return found


def _integer_reader(least: int, most: int) -> _Read:
    def read(value: Any) -> int:
        number = value if type(value) is int else _number(value)
        if not least <= number <= most:  # Neither is a NaN.
            raise _Refusal("The number is out of range for field")
        if number != (found := int(number)):
            raise _Refusal("Expecting a whole number for field")
        return found

    return read


def _enum_reader(numbers: dict[str, int]) -> _Read:
    def read(value: Any) -> int:
        if (number := numbers.get(_expected(value, str))) is None:
            raise _Refusal(f"Failed to find enum for '{_shown(value)}' of field")
        return number

    return read


def _number(value: Any) -> int | float:
    """A number, also one in a string."""
    if type(value) is int or type(value) is float:
        return value
    text = _expected(value, str)
    if not _NUMBER.fullmatch(text):
        raise _Refusal(f"Failed to parse '{_shown(text)}' as a JSON number for field")
    return int(text) if text.lstrip("-").isdecimal() else float(text)


def _expected(value: Any, kind: type[_Kind]) -> _Kind:
    if type(value) is not kind:
        raise _Refusal(f"Not expecting a JSON {_KINDS.get(type(value), 'value')} for field")
    return value


def _shown(value: object) -> str:
    """A key or text in a message, which stays one line that is not too long."""
    text = repr(str(value))[1:-1]
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def _value_of(field: FieldDescriptor) -> FieldDescriptor:
    """The values of a map."""
    assert field.message_type is not None
    return field.message_type.fields_by_name["value"]


def _enumeration(field: FieldDescriptor) -> dict[str, int]:
    assert field.enum_type is not None
    return {value.name: value.number for value in field.enum_type.values}


_KINDS = {dict: "object", list: "array", str: "string", bool: "boolean", int: "number", float: "number"}
_INTEGERS = {
    FieldDescriptor.TYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.TYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.TYPE_UINT32: (0, (1 << 32) - 1),
    FieldDescriptor.TYPE_UINT64: (0, (1 << 64) - 1),
}
_READERS: dict[int, _Read] = {
    FieldDescriptor.TYPE_STRING: _read_text,
    FieldDescriptor.TYPE_BYTES: _read_bytes,
    FieldDescriptor.TYPE_BOOL: _read_boolean,
    FieldDescriptor.TYPE_DOUBLE: _read_double,
}
