"""Containers of images that other people's tools have made: umoci, skopeo, and Docker itself."""

from __future__ import annotations

import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command_line import CommandLine
from tests.docker_daemon import docker
from tests.registry import call, need

pytestmark = pytest.mark.kernel
DOCKERFILE = """
FROM scratch
COPY rootfs /
COPY greeting /srv/greeting
ENV COLOUR=blue
WORKDIR /srv
USER app
ENTRYPOINT ["/bin/sh", "-c"]
CMD ["cat greeting; echo $COLOUR; pwd; id -u"]
"""
SAID = "hello\nblue\n/srv\n1000\n"

Run = Callable[[str], str]


@pytest.fixture
def run(run_directory: Path, unique_name: str) -> Run:
    """What a container of an image says by itself, without a COMMAND."""
    line = CommandLine(run_directory, unique_name)

    def says(reference: str) -> str:
        done = line.run("--store", str(run_directory / "store"), "--image", reference)
        assert done.returncode == 0, done.stderr.decode()
        assert line.left() == []
        return done.stdout.decode()

    return says


@pytest.fixture
def umoci(run_directory: Path, rootfs: Path) -> Path:
    """An OCI layout with the image `1` of two layers."""
    need("umoci")
    layout, bundle = run_directory / "umoci", run_directory / "bundle"
    call("umoci", "init", "--layout", layout)
    call("umoci", "new", "--image", f"{layout}:1")
    for step in (_first, _second):
        call("umoci", "unpack", "--image", f"{layout}:1", bundle)
        step(bundle / "rootfs", rootfs)
        call("umoci", "repack", "--image", f"{layout}:1", bundle)
        shutil.rmtree(bundle)
    config = {"cmd": "cat greeting; echo $COLOUR; pwd; id -u", "env": "COLOUR=blue", "workingdir": "/srv"}
    options = [part for name, value in config.items() for part in (f"--config.{name}", value)]
    call(
        *("umoci", "config", "--image", f"{layout}:1", *options, "--config.user", "app"),
        *("--config.entrypoint", "/bin/sh", "--config.entrypoint", "-c"),
    )
    return layout


def _first(root: Path, rootfs: Path) -> None:
    shutil.copytree(rootfs, root, symlinks=True, dirs_exist_ok=True)
    (root / "srv").mkdir()
    (root / "srv/greeting").write_text("bye\n")


def _second(root: Path, rootfs: Path) -> None:
    (root / "srv/greeting").write_text("hello\n")


def test_umoci_and_skopeo(run: Run, umoci: Path, run_directory: Path) -> None:
    """As umoci has made it, and copied by skopeo into each form that there is in files."""
    need("skopeo")
    assert run(f"oci:{umoci}:1") == SAID
    for form, name in (("oci", "2"), ("oci-archive", "2"), ("docker-archive", "team/app:2")):
        copy = f"{form}:{run_directory}/{form}"
        call("skopeo", "copy", "-q", f"oci:{umoci}:1", f"{copy}:{name}")
        assert run(copy) == SAID, form


def test_docker(run: Run, run_directory: Path, rootfs: Path) -> None:
    """Also as an archive from before there were manifests in them."""
    context, archive = run_directory / "context", run_directory / "box.tar"
    shutil.copytree(rootfs, context / "rootfs", symlinks=True)
    (context / "greeting").write_text("hello\n")
    (context / "Dockerfile").write_text(DOCKERFILE)
    with docker(run_directory / "docker") as client:
        client("build", "--quiet", "--tag", "team/box:1", context)
        client("save", "--output", archive, "team/box:1")
    assert run(f"docker-archive:{archive}") == SAID
    assert run(f"docker-archive:{archive}:team/box:1") == SAID
    with tarfile.open(archive) as saved, tarfile.open(run_directory / "old.tar", "w") as old:
        if "repositories" not in saved.getnames():
            return  # It is one of Docker 25 or later.
        for member in saved:
            if member.name != "manifest.json":
                old.addfile(member, saved.extractfile(member))
    assert run(f"docker-archive:{run_directory}/old.tar:team/box:1") == SAID
