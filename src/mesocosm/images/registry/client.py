"""Asking a registry: over redirects, with credentials where it wants them, and again where that may help."""

from __future__ import annotations

import contextlib
import ssl
import urllib.request
from collections.abc import AsyncIterator, Mapping

import aiohttp
from yarl import URL

from mesocosm.bodies import read_up_to
from mesocosm.images.credentials import Credentials
from mesocosm.images.registry.answers import (
    LARGEST_REFUSAL,
    UNAUTHORIZED,
    RegistryError,
    Retries,
    failure,
    refusal,
)
from mesocosm.images.registry.authentication import Authentication
from mesocosm.images.registry.names import is_loopback, is_private, name_of
from mesocosm.version import __version__

_MOST_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_BAD_REQUEST = 400
_LARGEST_TOKEN = 1 << 20
FAILURES = (aiohttp.ClientError, TimeoutError, OSError)
"""What aiohttp raises for a server that cannot be asked, or does not go on."""


class Web:
    """A session of aiohttp, as registries need it: with nothing that follows redirects or finds passwords by itself."""

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self._session: aiohttp.ClientSession | None = None

    @contextlib.asynccontextmanager
    async def send(
        self, url: URL, headers: Mapping[str, str], form: Mapping[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Any answer of a server. Raises what FAILURES are, also while it is read."""
        if self._session is None:
            self._session = self._start()
        async with self._session.request(
            "GET" if form is None else "POST",
            url,
            data=form,
            headers=headers,
            allow_redirects=False,
            proxy=_proxy(url),
        ) as response:
            yield response

    async def close(self) -> None:
        """Closes all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _start(self) -> aiohttp.ClientSession:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self.patience, sock_read=self.patience)
        return aiohttp.ClientSession(
            # The default context of ssl, which heeds SSL_CERT_FILE and SSL_CERT_DIR.
            connector=aiohttp.TCPConnector(ssl=ssl.create_default_context()),
            timeout=timeout,
            auto_decompress=False,
            headers={"User-Agent": f"mesocosm/{__version__}", "Accept-Encoding": "identity"},
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=1 << 18,
        )


class RegistryClient:
    """One repository of the registry at `url`, asked with `credentials` if it wants some."""

    def __init__(self, web: Web, url: URL, repository: str, credentials: Credentials | None) -> None:
        self.host = name_of(url)
        self._web = web
        self._url = url
        self._repository = repository
        self._authentication = Authentication(self.host, f"repository:{repository}:pull", credentials, self._ask)
        self._probed = not (url.scheme == "http" and is_loopback(url.host))

    async def read(self, path: str, accept: str, largest: int) -> tuple[bytes, str]:
        """What is at `path` of the repository, and its media type. Raises RegistryError."""
        retries = Retries()
        while True:
            try:
                async with self.open(path, {"Accept": accept}) as response:
                    return await self._limited(response, largest), response.content_type
            except RegistryError as error:
                await retries.after(error)

    @contextlib.asynccontextmanager
    async def open(self, path: str, headers: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer to one request, 200 or 206, to be read by `chunks`. Raises RegistryError."""
        await self._probe()
        async with self._authorized(self._url / "v2" / self._repository / path, headers) as response:
            yield response

    async def chunks(self, response: aiohttp.ClientResponse, size: int) -> AsyncIterator[bytes]:
        """The body of an answer. Raises RegistryError."""
        try:
            async for chunk in response.content.iter_chunked(size):
                yield chunk
        except FAILURES as error:
            raise failure(_host_of(response.url), error, self._web.patience) from error

    async def _probe(self) -> None:
        """Finds out whether a registry on this machine has TLS, as Docker does, before anything is shown to it."""
        if self._probed:
            return
        secure = self._url.with_scheme("https").with_port(self._url.port)
        try:
            async with self._web.send(self._url / "v2/", {}) as response:
                # What Go's and other servers say to one who speaks http where they expect https.
                self._url = secure if response.status == _BAD_REQUEST else self._url
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            if isinstance(error, aiohttp.ClientConnectorError):
                raise failure(self.host, error, self._web.patience) from error
            self._url = secure
        except FAILURES as error:
            raise failure(self.host, error, self._web.patience) from error
        self._probed = True

    @contextlib.asynccontextmanager
    async def _authorized(self, url: URL, headers: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        authentication = self._authentication
        for last in (False, False, True):
            header = authentication.header
            async with self._redirected(url, headers, header) as response:
                if response.ok:
                    yield response
                    return
                challenges = response.headers.getall("WWW-Authenticate", [])
                error = await self._refused(response)
            if response.status != UNAUTHORIZED or last or not await authentication.meet(challenges, header):
                raise error

    @contextlib.asynccontextmanager
    async def _redirected(
        self, url: URL, headers: Mapping[str, str], authorization: str | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer at the end of all redirects. The authorization is for the registry, and for no other server."""
        origin = url.origin()
        for _ in range(_MOST_REDIRECTS):
            own = {"Authorization": authorization} if authorization and url.origin() == origin else {}
            async with self._sent(url, {**headers, **own}) as response:
                if response.status not in _REDIRECTS:
                    yield response
                    return
                target = url.join(URL(response.headers.get("Location", ""), encoded=True))
            if target.scheme not in ("http", "https") or (url.scheme == "https" and not is_private(target)):
                raise RegistryError(f"{self.host} redirects to {target.scheme}://{target.host}, which is not secure")
            url = target
        raise RegistryError(f"{self.host} redirects more than {_MOST_REDIRECTS} times")

    @contextlib.asynccontextmanager
    async def _sent(
        self, url: URL, headers: Mapping[str, str], form: Mapping[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        async with contextlib.AsyncExitStack() as stack:
            try:
                response = await stack.enter_async_context(self._web.send(url, headers, form))
            except FAILURES as error:
                raise failure(_host_of(url), error, self._web.patience) from error
            yield response

    async def _refused(self, response: aiohttp.ClientResponse) -> RegistryError:
        try:
            body = await read_up_to(response.content, LARGEST_REFUSAL)
        except FAILURES:
            body = b""  # The status says it, too.
        known = self._authentication.credentials is not None
        return refusal(_host_of(response.url), response.status, body, response.headers, known=known)

    async def _ask(self, url: URL, headers: Mapping[str, str], form: Mapping[str, str] | None) -> bytes:
        """What a server that gives out tokens says. Raises RegistryError."""
        async with self._sent(url, headers, form) as response:
            if not response.ok:
                raise await self._refused(response)
            return await self._limited(response, _LARGEST_TOKEN)

    async def _limited(self, response: aiohttp.ClientResponse, largest: int) -> bytes:
        data = bytearray()
        async for chunk in self.chunks(response, largest):
            data += chunk
            if len(data) > largest:
                raise RegistryError(f"{self.host} sends more than {largest} bytes for a manifest or config")
        return bytes(data)


def _host_of(url: URL) -> str:
    return url.host_port_subcomponent or str(url) if url.explicit_port else str(url.host)


def _proxy(url: URL) -> str | None:
    """The proxy for `url` that the environment names: `https_proxy`, `no_proxy` and so on.

    None for this machine, as in Docker: what goes there by http, such as passwords, would be in the open on the way.
    """
    if is_loopback(url.host) or urllib.request.proxy_bypass(f"{url.host}:{url.port}"):
        return None
    return urllib.request.getproxies().get(url.scheme)
