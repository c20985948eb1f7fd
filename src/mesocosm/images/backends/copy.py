"""The backend `copy`: a copy of all layers, of the container's own."""

from __future__ import annotations

import os
import shutil
import stat
import threading
from pathlib import Path

from mesocosm.container import ProvisionedImage
from mesocosm.images.backends.base import Backend
from mesocosm.images.image import Image
from mesocosm.linux.copying import copy_attributes, copy_node, copy_times
from mesocosm.linux.layers import is_opaque, is_whiteout


class CopyBackend(Backend):
    """Works on every file system; blocks are shared where that can (reflink). The copy has no overlayfs in it."""

    name = "copy"
    copies = True

    def provision(self, image: Image, rootfs: Path, scratch: Path, stop: threading.Event) -> ProvisionedImage:
        """Copies one layer over the other."""
        rootfs.mkdir()
        for layer in image.layers:
            _Copy(str(layer), str(rootfs)).run(stop)
        return ProvisionedImage(rootfs, image.config)


class _Copy:
    """One layer on top of what is there. The target is nobody else's, and no link in it is followed."""

    def __init__(self, layer: str, target: str) -> None:
        self._layer = layer
        self._target = target
        self._linked: dict[int, str] = {}  # The first name of each file that has several, by its inode.
        self._directories: list[tuple[str, os.stat_result]] = []  # Their times change with what is made in them.

    def run(self, stop: threading.Event) -> None:
        """Copies it, until it is to `stop`. Raises OSError."""
        copy_attributes(self._layer, self._target, os.lstat(self._layer))
        todo = [""]
        while todo:
            if stop.is_set():
                return
            inside = todo.pop()
            with os.scandir(self._layer + inside) as entries:
                for entry in entries:
                    path = f"{inside}/{entry.name}"
                    if self._add(path, entry.stat(follow_symlinks=False)):
                        todo.append(path)
        for target, status in self._directories:
            copy_times(target, status)

    def _add(self, path: str, status: os.stat_result) -> bool:
        """Copies one file; whether that is a directory."""
        source, target = self._layer + path, self._target + path
        is_directory = stat.S_ISDIR(status.st_mode)
        merges = is_directory and _is_directory(target) and not is_opaque(source)
        if merges:
            copy_attributes(source, target, status)
        else:
            _remove(target)
            if is_whiteout(status):
                return False
            self._make(source, target, status)
        if is_directory:
            self._directories.append((target, status))
        else:
            copy_times(target, status)
        return is_directory

    def _make(self, source: str, target: str, status: os.stat_result) -> None:
        if not stat.S_ISDIR(status.st_mode) and status.st_nlink > 1:
            first = self._linked.setdefault(status.st_ino, target)
            if first is not target:
                os.link(first, target, follow_symlinks=False)
                return
        copy_node(source, target, status)


def _is_directory(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)  # noqa: PTH112, PTH114


def _remove(path: str) -> None:
    """What a lower layer has put there; absent is no error."""
    if _is_directory(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)  # noqa: PTH108
