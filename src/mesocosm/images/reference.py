"""Names of images, as Docker reads them (github.com/distribution/reference), and of archives and layouts with images.

debian, debian:12, user/app@sha256:…, registry.example.com:5000/team/app:1
docker-archive:/path.tar[:NAME[:TAG]], oci:/directory[:TAG], oci-archive:/path.tar[:TAG]
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from mesocosm.images import digests
from mesocosm.images.errors import ImageError

DOCKER_HUB = "docker.io"
DEFAULT_TAG = "latest"
DOCKER_ARCHIVE, OCI_LAYOUT, OCI_ARCHIVE = "docker-archive", "oci", "oci-archive"

_DOMAIN = re.compile(
    r"(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
    r"(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?"
)
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_ID = re.compile(r"[0-9a-f]{64}")
_LONGEST_REPOSITORY = 255
_SCHEMES = {
    "hdfs": "put the archives in a directory of this machine",
    "http": "write the name without it: registries on this machine are asked by http, all others by https",
    "https": "write the name without it",
}


@dataclass(frozen=True, slots=True)
class Reference:
    """The name of an image of a registry. `tag` and `digest` are what was written; neither means `latest`."""

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    def __str__(self) -> str:
        """In full, as Docker writes it."""
        tag = f":{self.tag}" if self.tag is not None else "" if self.digest else f":{DEFAULT_TAG}"
        return f"{self.registry}/{self.repository}{tag}" + (f"@{self.digest}" if self.digest else "")

    @property
    def target(self) -> str:
        """What a registry is asked for: the digest, before the tag."""
        return self.digest or self.tag or DEFAULT_TAG


@dataclass(frozen=True, slots=True)
class LocalReference:
    """The name of an image in an archive or layout of this machine; `name` is which one, if there are several."""

    transport: str
    path: Path
    name: str | None = None

    def __str__(self) -> str:
        return f"{self.transport}:{self.path}" + (f":{self.name}" if self.name else "")


def parse(text: str, default_registry: str = DOCKER_HUB) -> Reference | LocalReference:
    """What `text` names. Without a registry in it, it is of `default_registry`. Raises ImageError."""
    scheme, colon, rest = text.partition("://")
    if colon and scheme in _SCHEMES:
        raise ImageError(f"{text!r}: images do not come by {scheme}://", _SCHEMES[scheme])
    transport, colon, rest = text.partition(":")
    if colon and transport in (DOCKER_ARCHIVE, OCI_LAYOUT, OCI_ARCHIVE) and ("/" in rest or transport != OCI_LAYOUT):
        return _local(text, transport, rest)
    return _remote(text, default_registry)


def _local(text: str, transport: str, rest: str) -> LocalReference:
    path, _, name = rest.partition(":")
    if not path:
        raise ImageError(f"{text!r} names no file", f"write {transport}:/PATH, or {transport}:/PATH:NAME")
    return LocalReference(transport, Path(path).absolute(), name or None)


def _remote(text: str, default_registry: str) -> Reference:
    first, slash, rest = text.partition("/")
    if slash and (any(mark in first for mark in ".:") or first == "localhost" or first != first.lower()):
        registry, path = first, rest
        if not _DOMAIN.fullmatch(registry) or not _port_is_right(registry):
            raise ImageError(f"{text!r}: {registry!r} is no name of a registry", "it is a host name, and a port or not")
    else:
        registry, path = default_registry, text
    if registry in ("index.docker.io", "registry-1.docker.io"):
        registry = DOCKER_HUB
    name, at, digest = path.partition("@")
    repository, colon, tag = name.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise ImageError(f"{text!r}: {tag!r} is no tag", "a tag has letters, digits, `_`, `.` and `-`, at most 128")
    if at and not digests.is_digest(digest):
        raise ImageError(f"{text!r}: {digest!r} is no digest", "a digest is sha256: and 64 hexadecimal digits")
    _check_repository(text, repository)
    if registry == DOCKER_HUB and "/" not in repository:
        if _ID.fullmatch(repository):
            raise ImageError(f"{text!r} is an id, and no name", "registries know images by names")
        repository = f"library/{repository}"
    return Reference(registry, repository, tag if colon else None, digest if at else None)


def _check_repository(text: str, repository: str) -> None:
    if len(repository) > _LONGEST_REPOSITORY:
        raise ImageError(f"a name of an image has at most {_LONGEST_REPOSITORY} characters, and not {len(repository)}")
    if not _REPOSITORY.fullmatch(repository):
        hint = "write it in lower case" if _REPOSITORY.fullmatch(repository.lower()) else None
        hint = hint or "names have letters, digits, and `.`, `_` and `-` between them"
        raise ImageError(f"{text!r}: {repository!r} is no name of an image", hint)


def _port_is_right(registry: str) -> bool:
    port = registry.rpartition("]")[2].partition(":")[2]
    return not port or 0 < int(port) < 1 << 16
