"""Images in files of this machine: what is open of them, and for how long."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import lzma
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from mesocosm.images.errors import ImageError
from mesocosm.images.reference import DOCKER_ARCHIVE, LocalReference
from mesocosm.images.sources import places
from mesocosm.images.sources.local import LocalSource
from tests.docker_archive import docker_archive


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    layer = tmp_path / "layer"
    layer.mkdir()
    (layer / "file").write_text("content" * 1000)
    return docker_archive(tmp_path / "image.tar", "app:1", layer)


def source(archive: Path) -> LocalSource:
    return LocalSource(LocalReference(DOCKER_ARCHIVE, archive, "app:1"), archive.parent)


def opened(directory: Path) -> list[str]:
    """What this process has open of files in `directory`, also of such that have no name any more."""
    links = (path for path in Path("/proc/self/fd").iterdir() if path.is_symlink())
    return [name for name in map(os.path.realpath, links) if name.startswith(str(directory))]


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress, zstandard.compress])
async def test_archives_may_be_compressed(archive: Path, compress: Callable[[bytes], bytes]) -> None:
    plain, compressed = source(archive), source(archive.with_name("compressed"))
    archive.with_name("compressed").write_bytes(compress(archive.read_bytes()))
    found = await plain.describe()
    assert await compressed.describe() == found
    async with plain.open(found.layers[0]) as one, compressed.open(found.layers[0]) as other:
        assert os.pread(other.descriptor, 1 << 20, other.offset) == os.pread(one.descriptor, 1 << 20, one.offset)
        assert other.available == one.available
    await plain.close()
    await compressed.close()


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
async def test_nothing_is_open_of_an_archive_that_is_cut_off(archive: Path, compress: Callable[[bytes], bytes]) -> None:
    archive.write_bytes(compress(archive.read_bytes()[:5000]))
    with pytest.raises(ImageError, match=r"the archive is truncated|no archive that can be read"):
        await source(archive).describe()
    assert opened(archive.parent) == []


async def test_nothing_is_open_of_an_archive_that_nobody_waits_for_any_more(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, index = threading.Event(), threading.Event(), places._index

    def slow(descriptor: int) -> object:
        begun.set()
        go_on.wait()
        return index(descriptor)

    monkeypatch.setattr(places, "_index", slow)
    image = source(archive)
    describing = asyncio.ensure_future(image.describe())
    await asyncio.to_thread(begun.wait)
    describing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await describing
    closing = asyncio.ensure_future(image.close())
    await asyncio.sleep(0)
    go_on.set()
    await closing
    await asyncio.get_running_loop().shutdown_default_executor()
    assert opened(archive.parent) == []
