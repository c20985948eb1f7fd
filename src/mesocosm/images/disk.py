"""What the store has on disk, and who uses it.

<directory>/
    lock                   held, for as long as it takes, by whoever looks what there is in order to use or remove it
    images/<digest>        a record for each image, named after its name and where it comes from
    layers/<name>/tree     a layer, named after its diff id (or see `settle`), which never changes
                  layer    its record
    users/<digest>         the directory of a provisioner, whose containers use layers, also while no process of it runs
    partial/<digest>       blobs that have not been downloaded completely
    pulls/<name>           of a layer that a process is getting, so that others wait for it (see `turn`)
    sessions/<name>/       of a process that uses the store, and holds the lock of this directory while it lives
        uses/<name>        a layer that it uses, or is about to
        staging/<n>/       a layer that is being unpacked
        trash/<n>          what is being removed

Layers and records come into their place whole, by a rename, when they are on the disk. So whatever is there after a
crash is whole. What is in the session of a process that is gone, the next one removes.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import secrets
import time
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

import msgspec

from mesocosm.images.errors import StoreError
from mesocosm.images.image import ImageConfig
from mesocosm.images.paths import find_containers, read_layers
from mesocosm.images.turn import remove_abandoned
from mesocosm.linux.lock import locked, open_locked
from mesocosm.linux.replace import sync_directory
from mesocosm.linux.tree import remove_path
from mesocosm.private import make_private_directory

Record = TypeVar("Record", "LayerRecord", "ImageRecord")

logger = logging.getLogger(__name__)

_VERSION = 1
_DIRECTORY_MODE = 0o700
"""Only root comes to the programs in there, which may be set-user-id, and to the secrets of images."""
_KEPT_PARTIAL = 24 * 3600.0
"""How long after its last byte a download can be taken up, in seconds."""


class LayerRecord(msgspec.Struct, frozen=True):
    """A layer: `size` bytes of files; see `extraction.messages.Extracted` for the rest."""

    diff_id: str
    size: int
    implied: tuple[bytes, ...]
    opaque: bool
    version: int = _VERSION


class ImageRecord(msgspec.Struct, frozen=True):
    """An image: `layers` are the names of directories, the lowest first, `place` is where it came from."""

    reference: str
    place: str
    digest: str
    config: ImageConfig
    layers: tuple[str, ...]
    size: int
    version: int = _VERSION


def check(directory: Path) -> Path:
    """Makes the directory of a store, and returns it without links in it.

    Raises FlagError if others could write to it, StoreError for a user who cannot have one, and OSError.
    """
    if os.geteuid() != 0:
        raise StoreError("images need root: their files have owners, devices and whiteouts", "use sudo")
    return make_private_directory(directory, "the store of images", _DIRECTORY_MODE)


class StoreDirectory:
    """The directory of a store. All methods block, and raise OSError."""

    def __init__(self, directory: Path) -> None:
        """Makes it ready, and removes what others have left. Raises FlagError, StoreError."""
        self.path = check(directory)
        for name in ("images", "layers", "partial", "pulls", "sessions", "users"):
            (self.path / name).mkdir(_DIRECTORY_MODE, exist_ok=True)
        self.partial = self.path / "partial"
        self._session = self.path / "sessions" / secrets.token_hex(8)
        self._held: Counter[tuple[str, ...]] = Counter()
        self._descriptor: int | None = None
        with self._locked():
            for name in ("", "uses", "staging", "trash"):
                (self._session / name).mkdir(_DIRECTORY_MODE)
            self._descriptor = open_locked(self._session)
        try:
            with self._locked():
                self._take_over()
            self._empty_trash()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Lets go of all that this process uses."""
        if self._descriptor is not None:
            _remove(self._session)
            os.close(self._descriptor)
            self._descriptor = None

    def layer(self, name: str) -> Path:
        """Where the files of a layer are, or would be."""
        return self.path / "layers" / name / "tree"

    def turn_of(self, name: str) -> Path:
        """What stands for the turn of getting a layer: see `turn`."""
        return self.path / "pulls" / name

    def layer_record(self, name: str) -> LayerRecord | None:
        """A layer that is here; None if it is not."""
        return _read(self.path / "layers" / name / "layer", LayerRecord)

    def find(self, reference: str, place: str, *, wait: bool = True) -> ImageRecord | None:
        """The image of that name, with a hold on its layers; None if it is not here, or not whole.

        If it may not `wait` for others who change something, it raises BlockingIOError instead.
        """
        with self._locked(wait=wait):
            record = _read(self._record_of(reference, place), ImageRecord)
            if record is None or not self._is_whole(record):
                return None
            self._hold(record.layers)
        return record

    def images(self) -> list[ImageRecord]:
        """All images that are whole."""
        with self._locked():
            return [record for _, record in self._records() if self._is_whole(record)]

    def hold(self, layers: Collection[str]) -> None:
        """Keeps others from removing layers, which may not be there yet, until as many calls of `release` for these."""
        with self._locked():
            self._hold(layers)

    def release(self, layers: Collection[str], *, wait: bool = True) -> None:
        """Takes back a `hold`. Raises BlockingIOError as `find` does."""
        with self._locked(wait=wait):
            held = tuple(layers)
            self._held[held] -= 1
            if self._held[held] <= 0:
                del self._held[held]
                self._use_of(held).unlink(missing_ok=True)

    def stage(self) -> Path:
        """A directory for a new layer, with an empty one, `tree`, in it. It is to be installed, or discarded."""
        directory = self._session / "staging" / secrets.token_hex(8)
        directory.mkdir(_DIRECTORY_MODE)
        (directory / "tree").mkdir()
        (directory / "tree").chmod(0o755)
        return directory

    def discard(self, staged: Path) -> None:
        """Removes what was staged, unless it has been installed."""
        _remove(staged)

    def install(self, staged: Path, name: str, record: LayerRecord) -> None:
        """Makes a staged layer whose files are on the disk one of the store, if it has not got that yet."""
        _write(staged / "layer", msgspec.json.encode(record))
        sync_directory(staged)
        target = self.path / "layers" / name
        with self._locked():
            if target.exists() and not (target / "layer").exists():
                target.rename(self._trash())  # Somebody has been tidying up.
            try:
                staged.rename(target)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
        sync_directory(target.parent)

    def add(self, record: ImageRecord) -> None:
        """Makes an image known, whose layers are here."""
        self._put(self._record_of(record.reference, record.place), msgspec.json.encode(record))

    def register(self, provisioner: Path) -> None:
        """Makes it known that the containers in a provisioner's directory use layers. See `paths`."""
        path = self.path / "users" / hashlib.sha256(os.fsencode(provisioner)).hexdigest()
        self._put(path, os.fsencode(provisioner))

    def prune(self, excluded: Collection[str], in_use: Collection[Path]) -> tuple[list[ImageRecord], list[LayerRecord]]:
        """Removes images and layers, and returns which. See `store.ImageStore.prune`."""
        with self._locked():
            self._take_over()
            used = self._used() | {path.parent.name for path in in_use if path.parent.parent == self.path / "layers"}
            images = [
                (path, record)
                for path, record in self._records()
                if record.reference not in excluded and not used.issuperset(record.layers)
            ]
            for path, _ in images:
                path.unlink()
            sync_directory(self.path / "images")
            used |= {name for _, record in self._records() for name in record.layers}
            layers = [path for path in (self.path / "layers").iterdir() if path.name not in used]
            records = [_read(path / "layer", LayerRecord) for path in layers]
            for path in layers:
                path.rename(self._trash())
            self._remove_partial(0.0)
        self._empty_trash()
        return [record for _, record in images], [record for record in records if record is not None]

    def _locked(self, *, wait: bool = True) -> AbstractContextManager[None]:
        return locked(self.path / "lock", os.O_RDWR | os.O_CREAT, wait=wait)

    def _put(self, path: Path, data: bytes) -> None:
        """Gives a file its content. Whoever looks what there is finds all of it or none, and no file beside it."""
        temporary = self._session / "staging" / secrets.token_hex(8)
        try:
            _write(temporary, data)
            with self._locked():
                temporary.rename(path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_directory(path.parent)

    def _hold(self, layers: Collection[str]) -> None:
        held = tuple(layers)
        if not self._held[held]:
            self._use_of(held).write_text("\n".join(held))
        self._held[held] += 1

    def _use_of(self, layers: tuple[str, ...]) -> Path:
        """The file that tells others of layers held together: one, as each takes the disk a while."""
        return self._session / "uses" / hashlib.sha256("\n".join(layers).encode()).hexdigest()

    def _used(self) -> set[str]:
        """The layers that a process has, which is alive, and those of containers."""
        used = {name for path in (self.path / "sessions").glob("*/uses/*") for name in path.read_text().split()}
        for user in (self.path / "users").iterdir():
            provisioner = Path(os.fsdecode(user.read_bytes()))
            if provisioner.is_dir():
                layers = (
                    layer for container in find_containers(provisioner) for layer in read_layers(provisioner, container)
                )
                used |= {layer.parent.name for layer in layers}
            else:
                user.unlink()
        return used

    def _take_over(self) -> None:
        """Takes from sessions whose process is gone what there is, and old downloads."""
        for session in (self.path / "sessions").iterdir():
            if session != self._session and (descriptor := open_locked(session)) is not None:
                session.rename(self._trash())
                os.close(descriptor)
        for path in (self.path / "pulls").iterdir():
            remove_abandoned(path)
        self._remove_partial(_KEPT_PARTIAL)

    def _remove_partial(self, age: float) -> None:
        for path in self.partial.iterdir():
            if time.time() - path.stat().st_mtime >= age and (descriptor := open_locked(path)) is not None:
                path.unlink()
                os.close(descriptor)

    def _trash(self) -> Path:
        """Where something is to be moved that is to be removed when nobody is kept waiting by that."""
        return self._session / "trash" / secrets.token_hex(8)

    def _empty_trash(self) -> None:
        for path in (self._session / "trash").iterdir():
            _remove(path)

    def _record_of(self, reference: str, place: str) -> Path:
        return self.path / "images" / hashlib.sha256(f"{place}\n{reference}".encode()).hexdigest()

    def _records(self) -> Iterator[tuple[Path, ImageRecord]]:
        for path in sorted((self.path / "images").iterdir()):
            if (record := _read(path, ImageRecord)) is not None:
                yield path, record

    def _is_whole(self, record: ImageRecord) -> bool:
        return all((self.path / "layers" / name / "layer").exists() for name in record.layers)


def _read(path: Path, kind: type[Record]) -> Record | None:
    """The record in a file; None if there is none, or none that this version understands."""
    try:
        record = msgspec.json.decode(path.read_bytes(), type=kind)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        logger.warning("%s is damaged, and ignored: %s", path, error)
        return None
    return record if record.version <= _VERSION else None


def _write(path: Path, data: bytes) -> None:
    """Writes a new file that is on the disk when it is renamed."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _remove(path: Path) -> None:
    """Removes a file or directory, if it is there, with all that is in it."""
    with contextlib.suppress(FileNotFoundError):
        remove_path(path)
