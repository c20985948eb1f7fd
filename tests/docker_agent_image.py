"""An image of Docker that Mesocosm is installed in: as much of this machine as an executor of Docker needs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mesocosm
from tests import rootfs
from tests.docker_daemon import Docker

AGENT_IMAGE = "mesocosm-agent"
_MODULES = "encodings.idna, mesocosm.executors.__main__, mesocosm.executors.docker, os, runpy, sys"
_FILES = f"import {_MODULES}; print(*(m.__file__ for m in sys.modules.values() if getattr(m, '__file__', None)))"
_LIBRARY = re.compile(r"(/\S+) \(0x")


def import_agent_image(docker: Docker, directory: Path) -> None:
    """Makes AGENT_IMAGE, by way of a `directory` that it makes."""
    rootfs.make(directory)
    client = shutil.which("docker")
    assert client is not None
    modules = [sys.executable, "-c", _FILES]
    files = subprocess.run(modules, check=True, capture_output=True, text=True).stdout.split()
    python = os.path.realpath(sys.executable)
    for file in {*files, *_libraries([python, *(file for file in files if file.endswith(".so"))]), python}:
        _copy(Path(file), directory / file.lstrip("/"))
    _copy(Path(client), directory / client.lstrip("/"))
    (directory / "usr/bin/python3").symlink_to(python)
    docker.import_image(directory, AGENT_IMAGE, f"ENV PYTHONPATH={Path(mesocosm.__file__).parents[1]}")


def _libraries(executables: list[str]) -> Iterator[str]:
    printed = subprocess.run(["ldd", *executables], check=True, capture_output=True, text=True).stdout
    yield from {str(found) for found in _LIBRARY.findall(printed)}


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)
