"""Credentials for registries, out of a `~/.docker/config.json` or the older `~/.dockercfg`.

Source: github.com/docker/cli, cli/config/configfile.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mesocosm.errors import FlagError
from mesocosm.images.errors import ImageError
from mesocosm.images.reference import DOCKER_HUB

_HUB_NAMES = ("index.docker.io", "registry-1.docker.io", DOCKER_HUB)


def read_docker_config(given: Path | None = None) -> dict[str, Any] | None:
    """The content of the file `given`, or of the one that Docker has for this user, if that is there.

    Raises FlagError for one that is none, and OSError.
    """
    path = given or Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker", "config.json")
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        if given is None:
            return None
        raise FlagError(f"--docker-config: there is no {given}") from None
    except ValueError as error:
        raise FlagError(f"the Docker config {path} is no JSON: {error}") from None
    if not isinstance(content, dict):
        raise FlagError(f"the Docker config {path} has no JSON object in it")
    return content


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who asks a registry: by a name and a password, or by a token for getting tokens (an OAuth 2 refresh token)."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)


class DockerConfig:
    """The content of such a file. Raises FlagError if it makes no sense."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        auths = content.get("auths")
        if auths is None:
            # The older file has nothing else in it.
            auths = {name: entry for name, entry in content.items() if isinstance(entry, Mapping) and "auth" in entry}
        if not isinstance(auths, Mapping):
            raise FlagError("the `auths` of a Docker config are no object")
        self._entries = {host_of(name): entry for name, entry in auths.items()}
        helpers = content.get("credHelpers") or {}
        self._helpers = {host_of(name) for name in helpers} if isinstance(helpers, Mapping) else set()
        self._store = content.get("credsStore")

    def credentials(self, registry: str) -> Credentials | None:
        """Those for `registry`, a name as in references; None if it has none. Raises ImageError."""
        host = host_of(registry)
        entry = self._entries.get(host)
        if host in self._helpers or (self._store and entry is not None and not entry):
            raise ImageError(
                f"the credentials for {registry} are kept by a helper program, and none is run",
                f"put them into `auths` of the Docker config: `docker login {registry}` without `credsStore` does",
            )
        return None if not entry else _parse(registry, entry)


def host_of(name: str) -> str:
    """The registry, with its port, that a key in such a file is for: some are URLs."""
    host = name.partition("://")[2] or name
    host = host.partition("/")[0]
    return DOCKER_HUB if host in _HUB_NAMES else host


def _parse(registry: str, entry: Any) -> Credentials | None:
    if not isinstance(entry, Mapping) or not all(isinstance(entry.get(key, ""), str) for key in _KEYS):
        raise ImageError(f"the Docker config has no proper credentials for {registry}")
    username, password = entry.get("username", ""), entry.get("password", "")
    if entry.get("auth"):
        try:
            username, colon, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            colon = ""
        if not colon:
            raise ImageError(
                f"the `auth` for {registry} in the Docker config makes no sense", "it is base64 of NAME:PASSWORD"
            )
    found = Credentials(username, password.rstrip("\0"), entry.get("identitytoken", ""))
    return found if found.username or found.identity_token else None


_KEYS = ("auth", "username", "password", "identitytoken")
