"""Overlayfs, which kernels are told of many layers in different ways, as the root of a container."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesocosm.container import ImageRequest
from tests.image_store import DirectoryStore, image, layer
from tests.launching import Launch

pytestmark = pytest.mark.kernel
ISOLATION = "filesystem/linux,namespaces/pid,docker/runtime"


async def test_128_layers(launch: Launch, store: DirectoryStore, rootfs: Path, run_directory: Path) -> None:
    """With names that a page has no room for, and what hides something of the others on top."""
    launch.containerizer(ISOLATION, image_providers=("docker",), image_provisioner_backend="overlay")
    deep = run_directory / ("long-name-of-a-directory-" * 8)
    files = ({f"many/{n}": f"{n}\n", "hidden/file": "", "last": f"{n}\n"} for n in range(126))
    layers = [layer(deep / f"{n}" / ("x" * 100), each) for n, each in enumerate(files)]
    top = layer(run_directory / "top", {"many/7": None, "hidden!/": ""})
    store.add(image("many", rootfs, *layers, top))
    script = "ls /many | wc -l; cat /last; ls /hidden; echo own > /last; cat /last"
    found = await launch.output(script, isolation=ISOLATION, image=ImageRequest("many"))
    assert found == "125\n125\nown"
    assert (layers[-1] / "last").read_text() == "125\n"
