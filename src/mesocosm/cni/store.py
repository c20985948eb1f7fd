"""What the host keeps of containers with networks or names of their own: a directory for each, below one for all.

All that there is to undo is there before it is done: `ns`, the bound network namespace; `files`, with what is mounted
on /etc/hosts and the like; and a directory for each network.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from mesocosm.container import ContainerID
from mesocosm.linux import mount
from mesocosm.linux.mount import Attribute, Propagation
from mesocosm.linux.namespaces import Namespace

if TYPE_CHECKING:
    # Not for containers in the network of the host: they would pay for what they do not use.
    from mesocosm.cni.attachment import Attachment

NAMES = ("hosts", "hostname", "resolv.conf")
"""The files of names, below /etc."""
_NAMESPACE = "ns"
_FILES = "files"
TAKEN = frozenset({_NAMESPACE, _FILES})
"""What no network can be called."""
_FILES_OPTIONS = (("size", "1m"), ("nr_inodes", "16"), ("mode", "755"))
"""The container can write to them, and could fill up the memory of the host."""
_FILES_ATTRIBUTES = Attribute.NO_SUID | Attribute.NO_DEVICES | Attribute.NO_EXECUTE


class Store:
    """The directories of all containers below `root`. Whatever cannot be made or removed is an OSError."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def directory(self, container_id: ContainerID) -> Path:
        """That of a container."""
        return self.root / str(container_id)

    def files(self, container_id: ContainerID) -> Path:
        """Where the files of names of a container are."""
        return self.directory(container_id) / _FILES

    def make_files(self, container_id: ContainerID) -> None:
        """Makes the files of names, which are empty, on a file system of their own."""
        self._make(container_id)
        directory = self.files(container_id)
        directory.mkdir()
        tree = mount.create("tmpfs", _FILES_OPTIONS, _FILES_ATTRIBUTES)
        try:
            mount.attach_at(tree, str(directory))
        finally:
            os.close(tree)
        for name in NAMES:
            (directory / name).touch(mode=0o644)

    def bind_namespace(self, container_id: ContainerID, pid: int) -> None:
        """Keeps the network namespace of a process, and has attachments that are asked for from then on name it."""
        target = self.directory(container_id) / _NAMESPACE
        target.touch()
        tree = mount.clone_tree(f"/proc/{pid}/ns/{Namespace.NETWORK.file}", recursive=False)
        try:
            mount.attach_at(tree, str(target))
        finally:
            os.close(tree)

    def attachment(self, container_id: ContainerID, network: str, interface: str) -> Attachment:
        """That of a container to a network, made already or not."""
        from mesocosm.cni.attachment import Attachment

        directory = self.directory(container_id)
        return Attachment(directory / network, str(container_id), interface, _namespace(directory))

    def attachments(self, container_id: ContainerID) -> list[Attachment]:
        """Those that are on disk, in the order of the interfaces."""
        from mesocosm.cni.attachment import Attachment

        directory = self.directory(container_id)
        if not directory.exists():
            return []
        namespace = _namespace(directory)
        found = [
            Attachment.find(entry, str(container_id), namespace)
            for entry in directory.iterdir()
            if entry.is_dir() and entry.name != _FILES
        ]
        return sorted(found, key=lambda attachment: (len(attachment.interface), attachment.interface))

    def remove(self, container_id: ContainerID) -> None:
        """Unmounts and removes what is kept of a container, and what is kept of all when it was the last one."""
        directory = self.directory(container_id)
        for name in TAKEN:
            _unmount(directory / name)
        shutil.rmtree(directory)
        if not any(self.root.iterdir()):  # No other can come in between.
            _unmount(self.root)
            self.root.rmdir()

    def _make(self, container_id: ContainerID) -> None:
        """Makes the container's directory, in a mount that hands on to all containers what is unmounted there.

        Those without a root file system of their own have copies of all mounts of the host. Where the host's mounts are
        private, such a copy would keep the namespace of a container that has ended.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        if not mount.is_mount_point(str(self.root)):
            tree = mount.clone_tree(str(self.root), recursive=False)
            try:
                mount.change(tree, propagation=Propagation.PRIVATE)
                mount.change(tree, propagation=Propagation.SHARED)
                mount.attach_at(tree, str(self.root))
            finally:
                os.close(tree)
        self.directory(container_id).mkdir(mode=0o700, exist_ok=True)


def _namespace(directory: Path) -> Path | None:
    """The bound network namespace, unless that went away with a boot."""
    path = directory / _NAMESPACE
    return path if mount.is_mount_point(str(path)) else None


def _unmount(path: Path) -> None:
    if mount.is_mount_point(str(path)):
        mount.unmount(str(path), detach=True)
