"""Files that are replaced whole."""

from __future__ import annotations

import resource
import signal
import stat
from pathlib import Path

import pytest

from mesocosm.linux.replace import replace_file


@pytest.mark.parametrize("synced", [False, True])
def test_a_file_is_replaced(tmp_path: Path, synced: bool) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    replace_file(path, b"after", mode=0o640, synced=synced)
    assert path.read_bytes() == b"after"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_whole_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OSError, match=rf"File too large: '{path}'"):
            replace_file(path, bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_what_others_have_put_beside_it_is_not_written_to(tmp_path: Path) -> None:
    """A link in the place of the new file leads nowhere; what an earlier process has left there is overwritten."""
    path, new, victim = tmp_path / "file", tmp_path / "file.new", tmp_path / "victim"
    victim.write_bytes(b"victim")
    new.symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        replace_file(path, b"after")
    assert victim.read_bytes() == b"victim"
    new.unlink()
    new.write_bytes(b"left over from a crash")
    replace_file(path, b"after")
    assert path.read_bytes() == b"after"
    assert not new.exists()


def test_an_error_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=rf"'{tmp_path}/none/file'$"):
        replace_file(tmp_path / "none/file", b"")
