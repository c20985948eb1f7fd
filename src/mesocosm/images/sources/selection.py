"""Which source an image has, by its name and the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yarl import URL

from mesocosm.errors import FlagError
from mesocosm.images.credentials import DockerConfig
from mesocosm.images.errors import ImageError
from mesocosm.images.progress import Progress
from mesocosm.images.reference import DOCKER_HUB, LocalReference, Reference, parse
from mesocosm.images.registry.names import name_of, parse_url, url_of
from mesocosm.images.settings import ImageSettings
from mesocosm.images.sources.base import Source
from mesocosm.images.sources.directory import find

if TYPE_CHECKING:
    from mesocosm.images.registry.client import RegistryClient, Web

_FLAG = "--docker_registry"


@dataclass(frozen=True, slots=True)
class Found:
    """An image: its name in full, and where it is."""

    name: Reference | LocalReference
    place: str


class Sources:
    """Makes sources. Raises FlagError for `settings` that make no sense."""

    def __init__(self, settings: ImageSettings) -> None:
        self._stall_timeout = settings.stall_timeout
        self._web: Web | None = None
        self._registry = _registry(settings.registry)
        self._config = DockerConfig(settings.config or {})
        self._mirrors = {
            name: tuple(parse_url(url, f"the mirrors of {name}") for url in urls)
            for name, urls in settings.mirrors.items()
        }

    def find(self, text: str) -> Found:
        """What `text` names. Raises ImageError."""
        local = isinstance(self._registry, Path)
        name = parse(text, DOCKER_HUB if isinstance(self._registry, Path) else name_of(self._registry))
        if isinstance(name, LocalReference):
            return Found(name, f"{name.transport}:{name.path}")
        return Found(name, str(self._registry) if local else str(self._url(name.registry)))

    def open(self, found: Found, config: Mapping[str, Any] | None, partial: Path, progress: Progress) -> Source:
        """Its source, with credentials of `config` before those of the settings. Raises ImageError."""
        name = found.name
        if isinstance(name, Reference) and isinstance(self._registry, Path):
            if name.digest is not None:
                raise ImageError("files of this machine have no digests of a registry", "name the image by its tag")
            name = find(self._registry, name)
        if isinstance(name, LocalReference):
            from mesocosm.images.sources.local import LocalSource

            return LocalSource(name, partial)
        from mesocosm.images.registry.source import RegistrySource

        try:
            configs = (self._config,) if config is None else (DockerConfig(config), self._config)
        except FlagError as error:
            raise ImageError(error.message, error.hint) from error
        urls = (*self._mirrors.get(name.registry, ()), self._url(name.registry))
        clients = [self._client(url, name, configs) for url in urls]
        return RegistrySource(name, clients, partial, progress)

    async def close(self) -> None:
        """Closes all connections."""
        if self._web is not None:
            await self._web.close()

    def _url(self, registry: str) -> URL:
        if isinstance(self._registry, URL) and registry == name_of(self._registry):
            return self._registry
        return url_of(registry)

    def _client(self, url: URL, reference: Reference, configs: tuple[DockerConfig, ...]) -> RegistryClient:
        found = (config.credentials(name_of(url)) for config in configs)
        credentials = next((credentials for credentials in found if credentials is not None), None)
        from mesocosm.images.registry.client import RegistryClient, Web

        self._web = self._web or Web(self._stall_timeout)
        return RegistryClient(self._web, url, reference.repository, credentials)


def _registry(text: str) -> URL | Path:
    if text.startswith("hdfs:"):
        raise FlagError(f"{_FLAG}: nothing here reads HDFS", "copy the archives to a directory of this machine")
    if text.startswith(("/", "file:")):
        return Path(text.removeprefix("file://")).absolute()
    return parse_url(text, _FLAG) if "://" in text else url_of(text)
