"""What a container shall know, and nobody else. Names are those of `mesos.proto`."""

from __future__ import annotations

from mesocosm.dataclass import dataclass


class Hidden:
    """Bytes that neither a text of this value nor a record on disk has: who wants them calls `reveal`."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes = b"") -> None:
        self._data = data

    def reveal(self) -> bytes:
        """The bytes; none if this was read from a record."""
        return self._data

    def __repr__(self) -> str:
        return "<hidden>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hidden) and self._data == other._data

    def __hash__(self) -> int:
        return hash(self._data)


@dataclass(frozen=True, slots=True)
class SecretReference:
    """By what a secret resolver finds a secret: `name`, and `key` where that has several (`Secret.Reference`)."""

    name: str
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Secret:
    """What a container shall know, and no log, record or answer shows (`Secret` of mesos.proto). One of both is set."""

    value: Hidden | None = None
    reference: SecretReference | None = None
