"""Where registries are, by their names: on this machine, by http, all others by https."""

from __future__ import annotations

import ipaddress

from yarl import URL

from mesocosm.errors import FlagError
from mesocosm.images.reference import DOCKER_HUB

_HUB_HOST = "registry-1.docker.io"


def is_loopback(host: str | None) -> bool:
    """Whether `host`, without a port, is this machine."""
    if host is None or host == "localhost":
        return host is not None
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_private(url: URL) -> bool:
    """Whether what is sent to `url` is not for everybody on the way."""
    return url.scheme == "https" or is_loopback(url.host)


def url_of(registry: str) -> URL:
    """The URL of a registry of that name, a host with a port or not, or of Docker's own. See `is_loopback`."""
    url = URL(f"https://{_HUB_HOST if registry == DOCKER_HUB else registry}")
    return url.with_scheme("http").with_port(url.explicit_port or 80) if is_loopback(url.host) else url


def parse_url(text: str, flag: str) -> URL:
    """The URL of a registry that `flag` has. Raises FlagError."""
    try:
        url = URL(text)
    except ValueError:
        url = URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise FlagError(f"{flag}: {text!r} is no URL of a registry", "write https://HOST, or https://HOST:PORT")
    if not is_private(url):
        raise FlagError(
            f"{flag}: {text!r} would be asked by http, which anybody on the way can change",
            "only registries on this machine are asked so; write https://",
        )
    return url.origin() if url.path == "/" else url


def name_of(url: URL) -> str:
    """What a registry is called in references: its host, and its port if that is not the usual one."""
    if url.host == _HUB_HOST:
        return DOCKER_HUB
    return str(url.host_port_subcomponent if url.explicit_port else url.host_subcomponent)
