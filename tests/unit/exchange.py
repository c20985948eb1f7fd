"""What a real master, agent and executors said to each other, as recorded in data/cluster_exchange.txt."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

FILE = Path(__file__).with_name("data") / "cluster_exchange.txt"

KINDS = {
    getattr(FieldDescriptor, name): name.removeprefix("TYPE_").lower()
    for name in dir(FieldDescriptor)
    if name.startswith("TYPE_")
}

_REQUEST = re.compile(r"^=== \+[\d.]+s (\S+) -> (\S+)\nPOST (\S+) HTTP/1\.1\n(.*?)\n\n(.*)", re.DOTALL | re.MULTILINE)
_BODY = re.compile(r"# body: (\d+) bytes, (\S+)\n(.*?)# hex: *([0-9a-f]*)\n", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Recorded:
    """One message of libprocess: the peers as the recording calls them, the headers, and the body in bytes."""

    source: str
    target: str
    path: str
    headers: dict[str, str]
    name: str
    body: bytes


def messages() -> list[Recorded]:
    """All whose bytes are in the recording, in order."""
    found = []
    for part in re.split(r"\n(?==== \+)", FILE.read_text()):
        request = _REQUEST.match(part.lstrip("\n"))
        if request is None or (body := _BODY.search(request[5] + "\n")) is None:
            continue
        headers = dict(line.split(": ", 1) for line in request[4].splitlines())
        data = bytes.fromhex(body[4])
        assert len(data) == int(body[1])
        found.append(Recorded(request[1], request[2], request[3], headers, body[2], data))
    return found


def shape(message: Message) -> set[str]:
    """The fields that are set in a message, with those of its parts, as `tasks[].resources[].scalar.value: double`."""
    found = set()
    for field, value in message.ListFields():
        name = f"{field.name}[]" if field.is_repeated else field.name
        if field.message_type is None:
            found.add(f"{name}: {KINDS[field.type]}")
            continue
        parts = value if field.is_repeated else [value]
        found |= {f"{name}.{inner}" for part in parts for inner in shape(part)} or {name}
    return found


def recorded_shapes(kind: type[Message]) -> list[set[str]]:
    """The shapes of every message of a kind in the recording."""
    name = kind.DESCRIPTOR.full_name
    return [shape(kind.FromString(each.body)) for each in messages() if each.name == name]
