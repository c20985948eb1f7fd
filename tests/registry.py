"""A real registry (Debian's docker-registry) and real images (umoci, skopeo), made for one test and gone after it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import select
import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

TIMEOUT = 60
USER, PASSWORD = "reader", "secret"


def need(*programs: str) -> None:
    """Skips a test where one of the programs is missing."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def call(*arguments: str | Path, **options: Any) -> str:
    """What a program prints."""
    done = subprocess.run(
        [str(argument) for argument in arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
        **options,
    )
    assert done.returncode == 0, f"{arguments}: {done.stderr}"
    return done.stdout


@dataclass(frozen=True)
class Registry:
    """One that runs, at `address`; `arguments` are what skopeo needs to write to it."""

    address: str
    arguments: tuple[str, ...]
    log: Path

    def push(self, source: str, name: str, *options: str) -> str:
        """Copies an image of another place to it; the reference of the copy."""
        call("skopeo", "copy", "-q", *options, *self.arguments, source, f"docker://{self.address}/{name}")
        return f"{self.address}/{name}"

    def requests(self, part: str) -> int:
        """How often it was asked for what has `part` in its path, with an answer."""
        lines = self.log.read_text().splitlines()
        return sum(
            part in line and "http.request.method=GET" in line and "response completed" in line for line in lines
        )


@contextlib.contextmanager
def registry(directory: Path, *, authenticated: bool = False, certificate: Path | None = None) -> Iterator[Registry]:
    """A registry with its files in `directory`; `certificate` has the key as well, and makes it one with TLS."""
    need("docker-registry", "skopeo")
    directory.mkdir(exist_ok=True)
    port = free_port()
    config: dict[str, Any] = {
        "version": "0.1",
        "log": {"accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(directory / "data")}},
        "http": {"addr": f"127.0.0.1:{port}", "headers": {}},
    }
    arguments = ["--dest-tls-verify=false"]
    if authenticated:
        need("htpasswd")
        (directory / "htpasswd").write_text(call("htpasswd", "-nbB", USER, PASSWORD))
        config["auth"] = {"htpasswd": {"realm": "test", "path": str(directory / "htpasswd")}}
        arguments.append(f"--dest-creds={USER}:{PASSWORD}")
    if certificate is not None:
        config["http"]["tls"] = {"certificate": str(certificate), "key": str(certificate)}
    (directory / "config.yml").write_text(json.dumps(config))  # JSON is YAML.
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["docker-registry", "serve", directory / "config.yml"], stdout=output, stderr=output, cwd=directory
        )
    try:
        await_port(port, process)
        yield Registry(f"127.0.0.1:{port}", tuple(arguments), log)
    finally:
        process.terminate()
        process.wait(TIMEOUT)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    """Returns when somebody listens at a port, for which there is no event."""
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        select.select([], [], [], 0.02)
    pytest.fail(f"the registry does not listen (exit status {process.poll()})")


def certificate(directory: Path, name: str = "IP:127.0.0.1") -> Path:
    """A certificate for 127.0.0.1, or another name, signed by itself, with its key."""
    need("openssl")
    path = directory / "certificate.pem"
    call(
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
        *("-addext", f"subjectAltName={name}", "-keyout", path, "-out", directory / "only.pem"),
    )
    with path.open("a") as file:
        file.write((directory / "only.pem").read_text())
    return path


def tar(*members: tuple[tarfile.TarInfo, bytes] | tarfile.TarInfo, form: int = tarfile.PAX_FORMAT) -> bytes:
    """An archive of members, with their data or without."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for member in members:
            info, data = member if isinstance(member, tuple) else (member, b"")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, **attributes: Any) -> tarfile.TarInfo:
    """The header of a member."""
    info = tarfile.TarInfo(name)
    info.type, info.mode = kind, 0o755 if kind == tarfile.DIRTYPE else 0o644
    for attribute, value in attributes.items():
        setattr(info, attribute, value)
    return info


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def layout(
    directory: Path,
    layers: Sequence[bytes],
    name: str | None = "test",
    config: Mapping[str, Any] | None = None,
    **blobs: Any,
) -> Path:
    """An OCI layout with one image of uncompressed `layers`; `compressed` are these as they are to be stored."""
    compressed: Sequence[bytes] = blobs.get("compressed", layers)
    media_type = "application/vnd.oci.image.layer.v1.tar"

    def add(data: bytes) -> dict[str, Any]:
        path = directory / "blobs" / digest(data).replace(":", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return {"digest": digest(data), "size": len(data)}

    content = {
        "architecture": "amd64",
        "os": "linux",
        "config": config or {},
        "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
    }
    described = add(json.dumps(content).encode()) | {"mediaType": "application/vnd.oci.image.config.v1+json"}
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": described,
        "layers": [add(layer) | {"mediaType": media_type} for layer in compressed],
    }
    entry_ = add(json.dumps(manifest).encode()) | {"mediaType": manifest["mediaType"]}
    if name is not None:
        entry_["annotations"] = {"org.opencontainers.image.ref.name": name}
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry_]}))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return directory


def tree(root: Path) -> dict[str, tuple[Any, ...]]:
    """All files below `root`, with everything about them but the times of directories, and which names are one file."""
    found: dict[str, tuple[Any, ...]] = {}
    first: dict[int, str] = {}
    for directory, names, files in os.walk(root):
        names.sort()
        for name in sorted([*names, *files]):
            path = Path(directory, name)
            status = path.lstat()
            relative = str(path.relative_to(root))
            is_directory = path.is_dir() and not path.is_symlink()
            found[relative] = (
                oct(status.st_mode),
                (status.st_uid, status.st_gid),
                status.st_rdev,
                None if is_directory else status.st_mtime_ns,
                str(path.readlink()) if path.is_symlink() else None,
                digest(path.read_bytes()) if path.is_file() and not path.is_symlink() else None,
                {
                    each: os.getxattr(path, each, follow_symlinks=False)
                    for each in os.listxattr(path, follow_symlinks=False)
                },
                None if is_directory else first.setdefault(status.st_ino, relative),
            )
    return found
