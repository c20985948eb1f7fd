"""The Docker containerizer, as far as it needs no Docker."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import Any

import pytest

from mesocosm.containerizer import docker_steps
from mesocosm.containerizer.docker import DockerContainerizer
from mesocosm.flags import Flags

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")


async def test_a_start_that_fails_has_taken_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = Flags(
        work_dir=tmp_path / "work",
        runtime_dir=tmp_path / "run",
        launcher="posix",
        docker="true",
        docker_config={"auths": {}},
    )

    def fail(home: Path, config: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(home))

    with monkeypatch.context() as broken:
        broken.setattr(docker_steps, "write_credentials", fail)
        failed = DockerContainerizer(flags)
        with pytest.raises(OSError, match="No space left"):
            failed.start()
        assert failed._process.pid is None
    other = DockerContainerizer(flags)
    other.start()
    await other.close()
