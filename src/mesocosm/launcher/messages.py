"""What a container's init and the containerizer say to each other over the container's channel.

START    to the init: what container it is the init of
RELEASE  to the init: the container is isolated; with the descriptors of the command's streams, a copy of the
         containerizer's own end of the channel, and the `tasks` of the cgroups of v1 that the init enters by itself
reports  from the init: the terminal that it has made, if the command is to have one; the command runs, or could not be
         started; and when it ran, how it ended

The init sets the container up as soon as it is started, and blocks before the command until it is released. After its
last report it stays until it is killed. As it holds both ends of the channel, that report waits there until somebody
has recorded it: also a containerizer that is started after the one that launched the container was killed. Nothing of
the host, no file and no directory, is open in the init meanwhile. (Only where nothing is isolated the init has no copy
of the other end. It records the exit itself.)

A report has a fixed size: a container's root could write to the channel, so nothing in it is trusted but its form.
"""

from __future__ import annotations

import enum
import pickle
import signal
import socket
import struct
from collections.abc import Sequence

from mesocosm.dataclass import dataclass
from mesocosm.launcher.info import LaunchInfo
from mesocosm.linux import descriptors

RELEASE = b"R"

STOP_COMMAND = getattr(signal, "SIGRTMAX", signal.SIGTSTP)
"""The signal that has an init stop the command. SIGSTOP, which no process can catch, would stop the init itself."""

CHANNEL = 3
"""The descriptor of the init's end in every init."""
PEER = 4
"""The descriptor of the containerizer's end in every init that was released."""

_LENGTH = struct.Struct("=I")
_REPORT = struct.Struct("=iiqqq160s316s")
REPORT_SIZE = _REPORT.size


@dataclass(frozen=True, slots=True)
class Start:
    """The container that an init is for. The exit status is also written to `status_file` if there is one."""

    info: LaunchInfo
    status_file: str | None = None


class Kind(enum.IntEnum):
    """What a report says. With that of a terminal comes its master."""

    RUNNING = 1
    FAILED = 2
    NOT_EXECUTED = 3
    EXITED = 4
    TERMINAL = 5


@dataclass(frozen=True, slots=True)
class Report:
    """`value` is an errno (FAILED, NOT_EXECUTED), or the wait(2) status of the command (EXITED).

    `step` and `path` tell what failed; times are microseconds, `memory` is bytes: the command's and its children's.
    """

    kind: Kind
    value: int = 0
    user_time: int = 0
    system_time: int = 0
    memory: int = 0
    step: str = ""
    path: str = ""

    def pack(self) -> bytes:
        """The report as REPORT_SIZE bytes; texts that are too long are cut."""
        return _REPORT.pack(
            *(self.kind, self.value, self.user_time, self.system_time, self.memory),
            *(self.step.encode(errors="surrogateescape"), self.path.encode(errors="surrogateescape")),
        )

    @classmethod
    def unpack(cls, data: bytes) -> Report:
        """The inverse of `pack`. Raises ValueError for what is no report."""
        if len(data) != REPORT_SIZE:
            raise ValueError(f"a report of {len(data)} bytes")
        kind, value, user_time, system_time, memory, step, path = _REPORT.unpack(data)
        return cls(Kind(kind), value, user_time, system_time, memory, _text(step), _text(path))


def _text(field: bytes) -> str:
    return field.rstrip(b"\0").decode(errors="replace")


def send_object(line: socket.socket, value: object, passed: Sequence[int] = ()) -> None:
    """Sends `value`, with copies of the descriptors `passed`, to a process that trusts this one. Raises OSError."""
    content = pickle.dumps(value)
    descriptors.send(line, _LENGTH.pack(len(content)) + content, passed)


def receive_object(line: socket.socket, most: int) -> tuple[object, list[int]] | None:
    """What `send_object` sent, with at most `most` descriptors; None at the end. Raises OSError."""
    try:
        header, passed = descriptors.receive(line, _LENGTH.size, most)
        if not header:
            return None
        header += _read(line, _LENGTH.size - len(header))
        # Only a containerizer sends objects, to processes that it started.
        return pickle.loads(_read(line, _LENGTH.unpack(header)[0])), passed
    except (EOFError, ConnectionResetError):  # Reset if the other end was killed with something unread.
        return None


def _read(line: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        part = line.recv(length - len(data))
        if not part:
            raise EOFError
        data += part
    return bytes(data)
