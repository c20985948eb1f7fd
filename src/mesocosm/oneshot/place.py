"""The private directories and cgroups of one process that runs containers, and what removes them when it is gone.

    <runtime_dir>/run/<name>/place   what there is to remove; the directory is locked while its owner lives
    <runtime_dir>/run/<name>/state   the runtime directory of its containerizer
    <work_dir>/run/<name>            the work directory, unless that was given
    <cgroups>/mesocosm/<name>        in every hierarchy

A lock (flock(2)) ends with its process, so a place whose lock is free has nobody to remove it but whoever finds it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import sys
from collections.abc import Generator
from pathlib import Path

from mesocosm.dataclass import dataclass, field, replace
from mesocosm.errors import FlagError
from mesocosm.flags import Flags
from mesocosm.images.settings import DEFAULT_STORE
from mesocosm.linux.lock import locked, open_locked
from mesocosm.linux.tree import remove_path
from mesocosm.oneshot.images import RUNTIME
from mesocosm.oneshot.network import CONFIGURATIONS, PLUGINS

CGROUPS_ROOT = "mesocosm"
_BASE = "run"
"""Below the runtime directory: everything in there is a place, and nothing of it anybody else's."""
_RECORD = "place"
_STATE = "state"
_DISK_WATCH_INTERVAL = 1.0
"""Seconds. That of Mesos is for services: most commands take less time."""
_PRIVATE = 0o700
_PASSABLE = 0o711
"""Of what is above a sandbox, whose user must come to it."""


@dataclass(slots=True)
class Place:
    """Where one process runs its containers, of images in the `store`.

    `keeps_work` if the work directory was given, and is not to be removed. `docker_socket` is that of Docker's daemon
    if it may make containers, too.
    """

    base: Path
    name: str
    work_dir: Path
    keeps_work: bool = False
    networks: Path | None = None
    store: Path = DEFAULT_STORE
    docker_socket: str | None = None
    _lock: int | None = field(default=None, repr=False)

    @classmethod
    def choose(
        cls,
        name: str | None = None,
        runtime_dir: Path | None = None,
        work_dir: Path | None = None,
        networks: Path | None = None,
    ) -> Place:
        """A place that is not made yet, with a name that nobody has if none is given.

        `networks` is a directory of configurations for CNI. Raises FlagError if that is none.
        """
        if networks is not None and not networks.is_dir():
            raise FlagError(f"--network-config-dir: {networks} is not a directory")
        name = name or f"run-{os.urandom(6).hex()}"
        base = (runtime_dir or default_runtime_dir()).absolute() / _BASE
        work = work_dir.absolute() if work_dir is not None else _default_work_dir(base, name)
        if networks is None and CONFIGURATIONS.is_dir():
            networks = CONFIGURATIONS
        return cls(
            base,
            name,
            work,
            keeps_work=work_dir is not None,
            networks=None if networks is None else networks.absolute(),
        )

    @property
    def directory(self) -> Path:
        """What is locked while the owner lives."""
        return self.base / self.name

    @property
    def state(self) -> Path:
        """The runtime directory of its containerizer."""
        return self.directory / _STATE

    @property
    def held(self) -> tuple[int, ...]:
        """The descriptor of its lock, by which another process may hold the place, too."""
        return () if self._lock is None else (self._lock,)

    @property
    def cgroups_root(self) -> str:
        """The cgroup of the place, in each hierarchy."""
        return f"{CGROUPS_ROOT}/{self.name}"

    def flags(self, isolation: str, launcher: str | None) -> Flags:
        """The flags of a containerizer in this place."""
        flags = Flags(
            work_dir=self.work_dir,
            runtime_dir=self.state,
            isolation=isolation,
            launcher=launcher,
            cgroups_root=self.cgroups_root,
            cgroups_enable_cfs=True,
            network_cni_config_dir=self.networks,
            network_cni_plugins_dir=None if self.networks is None else PLUGINS,
            enforce_container_disk_quota=True,
            container_disk_watch_interval=_DISK_WATCH_INTERVAL,
            image_providers=("docker",) if RUNTIME in isolation.split(",") else (),
            docker_store_dir=self.store,
            docker_kill_orphans=False,  # They are of another agent.
            docker_remove_delay=0.0,
            seccomp_config_dir=Path("/"),  # People name files, wherever these are.
        )
        return flags if self.docker_socket is None else replace(flags, docker_socket=self.docker_socket)

    def create(self, isolation: str, launcher: str | None) -> None:
        """Makes the directories, with the record first.

        Raises FlagError if the place is taken or cannot be made, and has left nothing then.
        """
        try:
            if self.base.parent == default_runtime_dir():
                make_private(self.base.parent)
            make_private(self.base)
            with contextlib.ExitStack() as undo:
                with locked(self.base):
                    self._make_directory()
                    undo.callback(self._give_up)
                    self._lock = _lock(self.directory)
                self._write(isolation, launcher)
                _make_passable(self.work_dir)
                undo.pop_all()
        except OSError as error:
            where = error.filename or self.directory  # What cannot be written has no name.
            raise FlagError(f"{where}: {error.strerror}", "give --runtime-dir and --work-dir") from error

    def _make_directory(self) -> None:
        try:
            self.directory.mkdir(_PRIVATE)
        except FileExistsError:
            raise FlagError(
                f"--name: there is a container {self.name!r} already, or what is left of one", "choose another name"
            ) from None

    def _give_up(self) -> None:
        _remove_tree(self.directory)
        self.forget()

    def _write(self, isolation: str, launcher: str | None) -> None:
        record = {
            "work_dir": str(self.work_dir),
            "keeps_work": self.keeps_work,
            "networks": None if self.networks is None else str(self.networks),
            "docker_socket": self.docker_socket,
            "isolation": isolation,
            "launcher": launcher,
        }
        (self.directory / _RECORD).write_text(json.dumps(record))

    def remove(self) -> None:
        """Removes all that `create` and the containerizer made, whose containers have ended. Raises OSError."""
        from mesocosm.linux import cgroup

        for hierarchy in cgroup.hierarchies().mounted if sys.platform == "linux" else ():
            for group in reversed(cgroup.subtree(hierarchy.group(self.cgroups_root))):
                cgroup.remove(group)
            cgroup.remove_unused(hierarchy.group(CGROUPS_ROOT))  # Others may have theirs in it.
        if not self.keeps_work:
            _remove_tree(self.work_dir)
        # Last, as it has the record of the rest.
        _remove_tree(self.directory)
        self.forget()

    def forget(self) -> None:
        """Lets go of the lock: after a fork, that of the parent."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def default_runtime_dir() -> Path:
    """The runtime directory if nobody says where: of root, or of a user."""
    if os.geteuid() == 0:
        return Path("/run/mesocosm" if sys.platform == "linux" else "/var/run/mesocosm")
    if directory := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(directory, "mesocosm")
    return Path(f"/tmp/mesocosm-{os.geteuid()}")  # Checked to be a directory of nobody else.


def _default_work_dir(base: Path, name: str) -> Path:
    """Where sandboxes are: on a disk rather than in memory, if the user has a home."""
    if os.geteuid() == 0:
        return Path("/var/lib/mesocosm", _BASE, name)
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state")
    above = next(directory for directory in (state, *state.parents) if directory.exists())
    return state / "mesocosm" / _BASE / name if os.access(above, os.W_OK) else base / name / "work"


def make_private(base: Path) -> None:
    """Makes the directory `base`, or makes sure that nobody else can write there. Raises FlagError, OSError."""
    if not base.is_dir():
        base.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            base.mkdir(_PRIVATE)
    found = base.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise FlagError(f"{base} is no directory", "remove it, or give another --runtime-dir")
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise FlagError(f"{base} is another user's, or others may write there", "give another --runtime-dir")


def stale(base: Path) -> Generator[Path]:
    """The directories of places whose owner is gone, each locked until the next is asked for. Raises OSError."""
    if not base.is_dir():
        return
    for directory in sorted(entry for entry in base.iterdir() if entry.is_dir() and not entry.is_symlink()):
        with locked(base):
            lock = open_locked(directory)
        if lock is not None:
            try:
                yield directory
            finally:
                os.close(lock)


def any_stale(base: Path) -> bool:
    """Whether there is a place whose owner is gone. Raises OSError."""
    with contextlib.closing(stale(base)) as found:
        return next(found, None) is not None


def await_owner(directory: Path) -> None:
    """Returns when the owner of a place has let go of it. Raises OSError."""
    with contextlib.suppress(FileNotFoundError), locked(directory):
        pass


def find(directory: Path) -> tuple[Place, Flags] | None:
    """The place in `directory` and the flags of its containerizer; None if it was never used. Raises OSError."""
    try:
        record = json.loads((directory / _RECORD).read_text())
    except (FileNotFoundError, ValueError):
        # Its owner ended before there was anything to remove.
        return None
    networks = record.get("networks")
    place = Place(
        directory.parent,
        directory.name,
        Path(record["work_dir"]),
        keeps_work=record["keeps_work"],
        networks=None if networks is None else Path(networks),
        docker_socket=record.get("docker_socket"),
    )
    return place, place.flags(record["isolation"], record["launcher"])


def _make_passable(directory: Path) -> None:
    """Makes a directory that the users of containers can go through, whatever the umask."""
    if directory.is_dir():
        return
    _make_passable(directory.parent)
    try:
        directory.mkdir(_PASSABLE)
    except FileExistsError:
        if directory.is_dir():  # Somebody else was faster.
            return
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(directory)) from None
    directory.chmod(_PASSABLE)


def _remove_tree(directory: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        remove_path(directory)


def _lock(directory: Path) -> int:
    lock = open_locked(directory)
    if lock is None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(directory))
    return lock
