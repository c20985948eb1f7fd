"""How far a pull is, for whoever wants to show it."""

from __future__ import annotations


class Progress:
    """What is called in the event loop while an image is pulled, with diff ids of layers. By itself, it does nothing.

    Where somebody else in this process pulls the same layer, one of the two is told of the download, and both of the
    end.
    """

    def waiting(self, layer: str) -> None:
        """Another process is pulling a layer, and this one waits for it."""

    def expect(self, layer: str, size: int | None) -> None:
        """A layer is to be downloaded, of so many bytes if that is known; not one that is on this machine."""

    def received(self, layer: str, count: int) -> None:
        """So many more bytes of a layer have come."""

    def finished(self, layer: str) -> None:
        """A layer is in the store, by this pull or from before."""
