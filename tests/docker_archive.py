"""Archives as `docker save` writes them, made of directories."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any


def docker_archive(path: Path, tag: str, *layers: Path, **config: Any) -> Path:
    """Writes the image `tag` of `layers`, the lowest first, to `path`. `config` has Docker's names: Cmd, Env."""
    blobs = [_tar(layer) for layer in layers]
    content = {
        "architecture": "amd64",
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(blob).hexdigest()}" for blob in blobs]},
    }
    names = [f"{number}/layer.tar" for number in range(len(blobs))]
    manifest = [{"Config": "config.json", "RepoTags": [tag], "Layers": names}]
    with tarfile.open(path, "w") as archive:
        _add(archive, "manifest.json", json.dumps(manifest).encode())
        _add(archive, "config.json", json.dumps(content).encode())
        for name, blob in zip(names, blobs, strict=True):
            _add(archive, name, blob)
    return path


def _tar(layer: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(layer, ".")
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))
