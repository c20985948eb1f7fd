"""Parts of files that many read at the same time."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mesocosm.switchboard.chunks import SharedFile, SharedFiles


@pytest.mark.skipif(not hasattr(os, "O_PATH"), reason="needs Linux")
async def test_the_file_of_another_that_has_the_same_inode_is_another(tmp_path: Path) -> None:
    """When a sandbox is removed, the next container may get the inode of a file that was read just before."""
    with ThreadPoolExecutor(1) as threads:
        files = SharedFiles(threads)
        for content in (b"a secret", b"public"):
            (tmp_path / "stdout").write_bytes(content)
            file = SharedFile((1, 2), os.open(tmp_path / "stdout", os.O_RDONLY), files)
            for _ in range(2):  # What is read once is kept for others.
                chunk = await file.chunk(0)
                assert chunk is not None
                assert chunk.data == content
            os.close(file.descriptor)
        files.close()
