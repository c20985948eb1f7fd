"""What a fetch can raise, and the interface of what fetches other schemes than `file`, `http` and `https`."""

from __future__ import annotations

from typing import Protocol

from mesocosm.errors import ContainerError

ENTRY_POINTS = "mesocosm.fetchers"
"""The entry point group of SchemeFetchers, each under the name of its scheme."""


class FetchError(ContainerError):
    """A URI could not be fetched."""


def reason_of(error: Exception) -> str:
    """What went wrong, without the number of an OSError."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename!r}: {error.strerror}" if isinstance(error.filename, str) else error.strerror
    return str(error) or type(error).__name__


class SchemeFetcher(Protocol):
    """Fetches URIs of one scheme. An entry point names a class of these, which takes no arguments.

    It is loaded, and one is made, before the worker process becomes the container's user: all that it imports belongs
    at the top of its module. Its environment has proxies and a PATH, and no more; what it prints goes to `stderr`.
    """

    def fetch(self, uri: str, target: int) -> None:
        """Writes what `uri` names to the open, empty file `target`, as the container's user. May block, and raise."""
