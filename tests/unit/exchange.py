"""What a real master, agent and executors said to each other, as recorded in data/cluster_exchange.txt."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_name("data") / "cluster_exchange.txt"

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
