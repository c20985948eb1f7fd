"""What a registry may do that a real one does not do on demand: say no in each way, break, lie, and redirect."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from yarl import URL

from mesocosm.errors import FlagError
from mesocosm.images.credentials import Credentials
from mesocosm.images.errors import DigestError, ImageError
from mesocosm.images.progress import Progress
from mesocosm.images.reference import Reference
from mesocosm.images.registry import answers
from mesocosm.images.registry.answers import RegistryError, retry_after
from mesocosm.images.registry.client import RegistryClient, Web
from mesocosm.images.registry.names import name_of, parse_url, url_of
from mesocosm.images.registry.source import RegistrySource
from tests.registry import certificate, digest

LAYER = os.urandom(400_000)
CONFIG = json.dumps({"rootfs": {"type": "layers", "diff_ids": [digest(b"x")]}}).encode()
MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "config": {"digest": digest(CONFIG), "size": len(CONFIG)},
        "layers": [{"digest": digest(LAYER), "size": len(LAYER)}],
    }
).encode()
TYPE = "application/vnd.oci.image.manifest.v1+json"
USER = Credentials("user", "password")
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """A registry whose answers a test can replace: `paths` are what follows /v2/app/, or whole paths."""

    def __init__(self) -> None:
        self.paths: dict[str, Answer | web.Response] = {}
        self.requests: list[tuple[str, Mapping[str, str]]] = []
        self.url = URL()

    def asked(self, part: str) -> list[Mapping[str, str]]:
        return [headers for path, headers in self.requests if part in path]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.path_qs, request.headers.copy()))
        known = self.paths.get(request.path.removeprefix("/v2/app/")) or self.paths.get(request.path)
        if callable(known):
            return await known(request)
        if known is not None:
            return web.Response(status=known.status, body=known.body, headers=known.headers)
        if request.path == "/v2/app/manifests/1":
            return web.Response(body=MANIFEST, content_type=TYPE)
        if request.path == f"/v2/app/blobs/{digest(CONFIG)}":
            return web.Response(body=CONFIG)
        if request.path == f"/v2/app/blobs/{digest(LAYER)}":
            return ranged(request, LAYER)
        return web.Response(status=200 if request.path == "/v2/" else 404)


def ranged(request: web.Request, data: bytes) -> web.Response:
    start = request.http_range.start or 0
    headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
    return web.Response(status=206 if start else 200, body=data[start:], headers=headers)


@contextlib.asynccontextmanager
async def serving(tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    server = Server()

    async def answer(request: web.Request) -> web.StreamResponse:
        return await server.answer(request)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    server.url = URL(f"http://127.0.0.1:{runner.addresses[0][1]}")
    try:
        yield server
    finally:
        await runner.cleanup()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "_FIRST_DELAY", 0.001)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


class Bench:
    """A source of the image `app:1` of a server, and what it has downloaded."""

    def __init__(self, *urls: URL, partial: Path, credentials: Credentials | None = None, patience: float = 20) -> None:
        self.partial = partial
        self.web = Web(patience)
        clients = [RegistryClient(self.web, url, "app", credentials) for url in urls]
        self.source = RegistrySource(Reference("r", "app", "1"), clients, partial, Progress())

    async def __aenter__(self) -> Bench:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.web.close()

    async def download(self) -> bytes:
        """The layer, as a worker would read it."""
        described = await self.source.describe()
        async with self.source.open(described.layers[0]) as blob:
            assert blob.growth is not None
            sizes = [size async for size in blob.growth]
            return os.pread(blob.descriptor, sizes[-1], 0)


async def test_an_image_is_described_and_downloaded(server: Server, tmp_path: Path) -> None:
    async with Bench(server.url, partial=tmp_path) as bench:
        assert (await bench.source.describe()).digest == digest(MANIFEST)
        assert await bench.download() == LAYER
    assert list(tmp_path.iterdir()) == [], "what is complete is not kept"


def errors(code: str, message: str) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message, "detail": {"x": 1}}]}).encode()


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (
            401,
            errors("UNAUTHORIZED", "authentication required"),
            r"asks for credentials: authentication required; give",
        ),
        (403, errors("DENIED", "not yours"), r"does not allow it: not yours; whoever asks lacks the right to pull"),
        (404, errors("MANIFEST_UNKNOWN", "manifest unknown"), r"has no such image: manifest unknown; look at the name"),
        (404, b"<html>nothing</html>", r"has no such image; look at the name"),
        (404, errors("NAME_UNKNOWN", "evil\x1b[2J\nname"), r"has no such image: evil\?\[2J\?name; look"),
        (418, b"", r"answers 418$"),
        (500, errors("UNKNOWN", "disk full"), r"answers 500: disk full; it has a fault of its own"),
        (503, b"[" * 10000, r"answers 503; it has a fault of its own"),
    ],
)
async def test_each_way_to_say_no(server: Server, tmp_path: Path, status: int, body: bytes, expected: str) -> None:
    server.paths["manifests/1"] = web.Response(status=status, body=body)
    async with Bench(server.url, partial=tmp_path) as bench:
        with pytest.raises(RegistryError, match=rf"127.0.0.1:\d+ {expected}"):
            await bench.source.describe()
    assert len(server.asked("manifests")) == (5 if status >= 500 else 1)


async def test_a_server_that_fails_is_asked_again(server: Server, tmp_path: Path) -> None:
    statuses = iter((503, 502))

    async def answer(_: web.Request) -> web.Response:
        status = next(statuses, 200)
        return web.Response(status=status, body=MANIFEST if status == 200 else b"", content_type=TYPE)

    server.paths["manifests/1"] = answer
    async with Bench(server.url, partial=tmp_path) as bench:
        assert (await bench.source.describe()).digest == digest(MANIFEST)


async def test_a_server_that_is_asked_too_often_says_for_how_long(server: Server, tmp_path: Path) -> None:
    statuses = iter((429,))

    async def answer(_: web.Request) -> web.Response:
        if next(statuses, None):
            return web.Response(status=429, headers={"Retry-After": "1"})
        return web.Response(body=MANIFEST, content_type=TYPE)

    server.paths["manifests/1"] = answer
    async with Bench(server.url, partial=tmp_path) as bench:
        start = time.monotonic()
        assert (await bench.source.describe()).digest == digest(MANIFEST)
        assert time.monotonic() - start >= 1
        server.paths["manifests/1"] = web.Response(
            status=429, headers={"Retry-After": "3600"}, body=errors("TOOMANYREQUESTS", "slow down")
        )
        with pytest.raises(RegistryError, match="asked too often: slow down; try again in 3600 s, as it says"):
            await bench.source.describe()


def test_the_time_to_wait_may_be_a_date() -> None:
    assert retry_after({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert (retry_after({"Retry-After": "Wed, 21 Oct 2065 07:28:00 GMT"}) or 0) > 1e9
    assert retry_after({"Retry-After": "soon"}) is None
    assert retry_after({}) is None


@pytest.mark.parametrize(
    ("manifest", "content_type", "expected"),
    [
        (b"<html>", "text/html", "answers with text/html, and no manifest; is it a registry"),
        (b"{", TYPE, "the manifest makes no sense"),
        (b"[" * 100_000, TYPE, "the manifest makes no sense"),
        (b"{}", TYPE, "the manifest makes no sense"),
        (b'{"schemaVersion": 1, "fsLayers": []}', TYPE, "of schema 1, which registries gave up"),
        (b'{"manifests": []}', TYPE, "there is no image for linux/"),
        (b"x" * (5 << 20), TYPE, "sends more than 4194304 bytes"),
        (
            MANIFEST.replace(digest(CONFIG).encode(), b"sha256:../../etc/passwd"),
            TYPE,
            "is no digest that can be verified",
        ),
        (
            b'{"config": {"digest": "%s", "size": 1, "mediaType": "application/helm"}, "layers": []}'
            % digest(b"").encode(),
            TYPE,
            "it is no image of containers: its config is application/helm",
        ),
    ],
)
async def test_manifests_that_make_no_sense(
    server: Server, tmp_path: Path, manifest: bytes, content_type: str, expected: str
) -> None:
    server.paths["manifests/1"] = web.Response(body=manifest, content_type=content_type)
    async with Bench(server.url, partial=tmp_path) as bench:
        with pytest.raises(ImageError, match=expected):
            await bench.source.describe()


async def test_a_config_that_is_another_is_refused(server: Server, tmp_path: Path) -> None:
    server.paths[f"blobs/{digest(CONFIG)}"] = web.Response(body=CONFIG + b" ")
    async with Bench(server.url, partial=tmp_path) as bench:
        with pytest.raises(DigestError, match="the config of the image is not what it should be"):
            await bench.source.describe()


async def test_a_manifest_that_is_another_than_asked_for_is_refused(server: Server, tmp_path: Path) -> None:
    other = digest(b"other")
    server.paths[f"manifests/{other}"] = web.Response(body=MANIFEST, content_type=TYPE)
    async with Bench(server.url, partial=tmp_path) as bench:
        client = RegistryClient(bench.web, server.url, "app", None)
        source = RegistrySource(Reference("r", "app", None, other), [client], tmp_path, Progress())
        with pytest.raises(DigestError, match="the manifest is not what it should be"):
            await source.describe()


async def test_a_download_that_breaks_goes_on(server: Server, tmp_path: Path) -> None:
    """Three times in the middle, and each time from where it was."""
    pieces = iter((100_000, 150_000, 1))

    async def answer(request: web.Request) -> web.StreamResponse:
        whole = ranged(request, LAYER)
        size = next(pieces, None)
        if size is None:
            return whole
        response = web.StreamResponse(status=whole.status, headers=whole.headers)
        response.content_length = len(LAYER) - (request.http_range.start or 0)
        await response.prepare(request)
        start = request.http_range.start or 0
        await response.write(LAYER[start : start + size])
        assert request.transport is not None
        request.transport.close()
        return response

    server.paths[f"blobs/{digest(LAYER)}"] = answer
    async with Bench(server.url, partial=tmp_path) as bench:
        assert await bench.download() == LAYER
    ranges = [headers.get("Range") for headers in server.asked(digest(LAYER))]
    assert ranges[0] is None
    assert [int(str(each).removeprefix("bytes=").rstrip("-")) for each in ranges[1:]] == sorted(
        int(str(each).removeprefix("bytes=").rstrip("-")) for each in ranges[1:]
    )
    assert len(ranges) == 4


async def test_a_download_that_ended_with_its_process_goes_on(server: Server, tmp_path: Path) -> None:
    (tmp_path / digest(LAYER).replace(":", "-")).write_bytes(LAYER[:300_000])
    async with Bench(server.url, partial=tmp_path) as bench:
        assert await bench.download() == LAYER
    assert [headers.get("Range") for headers in server.asked(digest(LAYER))] == ["bytes=300000-"]


async def test_a_server_without_ranges_is_read_from_the_start(server: Server, tmp_path: Path) -> None:
    (tmp_path / digest(LAYER).replace(":", "-")).write_bytes(LAYER[:300_000])
    server.paths[f"blobs/{digest(LAYER)}"] = web.Response(body=LAYER)
    async with Bench(server.url, partial=tmp_path) as bench:
        assert await bench.download() == LAYER


async def test_two_downloads_do_not_share_a_file(server: Server, tmp_path: Path) -> None:
    """Of two processes, or stores."""
    async with Bench(server.url, partial=tmp_path) as one, Bench(server.url, partial=tmp_path) as two:
        assert await asyncio.gather(one.download(), two.download()) == [LAYER, LAYER]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [(LAYER + b"x", "sends more than the 400000 bytes of the layer"), (LAYER[:-1], "sends 399999 bytes of a layer of")],
)
async def test_a_layer_of_another_size_is_refused(server: Server, tmp_path: Path, body: bytes, expected: str) -> None:
    async def answer(request: web.Request) -> web.Response:
        return ranged(request, body)

    server.paths[f"blobs/{digest(LAYER)}"] = answer
    async with Bench(server.url, partial=tmp_path) as bench:
        with pytest.raises(RegistryError, match=expected):
            await bench.download()


async def test_the_authorization_is_not_for_others(server: Server, tmp_path: Path) -> None:
    """Blobs are redirected to another server; what the registry was shown is not shown there."""
    async with serving() as other:
        other.paths["/storage"] = web.Response(body=LAYER)
        server.paths[f"blobs/{digest(LAYER)}"] = web.Response(
            status=307, headers={"Location": f"{other.url}/storage?signature=a%2Fb"}
        )
        guard(server, "Basic dXNlcjpwYXNzd29yZA==", 'Basic realm="x"')
        async with Bench(server.url, partial=tmp_path, credentials=USER) as bench:
            assert await bench.download() == LAYER
        assert [path for path, _ in other.requests] == ["/storage?signature=a%2Fb"]
        assert all("Authorization" not in headers for _, headers in other.requests)
        assert "Authorization" in server.asked("blobs")[-1]


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("file:///etc/passwd", "redirects to file://"),
        ("/v2/app/loop", "redirects more than 5 times"),
        ("", "redirects more than 5 times"),
    ],
)
async def test_redirects_that_lead_nowhere(server: Server, tmp_path: Path, location: str, expected: str) -> None:
    redirection = web.Response(status=307, headers={"Location": location})
    server.paths |= {"manifests/1": redirection, "/v2/app/loop": redirection}
    async with Bench(server.url, partial=tmp_path) as bench:
        with pytest.raises(RegistryError, match=expected):
            await bench.source.describe()


def guard(server: Server, wanted: str, challenge: str) -> None:
    """Makes a server want an authorization for everything."""
    plain = server.answer

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path.startswith("/v2/app") and request.headers.get("Authorization") != wanted:
            server.requests.append((request.path_qs, request.headers.copy()))
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        return await plain(request)

    server.answer = answer  # type: ignore[method-assign]


@pytest.fixture
async def guarded(server: Server) -> Server:
    """A registry that wants a token, which it gives out itself, for a while."""
    tokens = iter(range(100))
    current = ["none"]

    async def give(request: web.Request) -> web.Response:
        current[0] = f"Bearer token{next(tokens)}"
        return web.json_response({"token": current[0].partition(" ")[2], "expires_in": 60})

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path.startswith("/v2/app") and request.headers.get("Authorization") != current[0]:
            server.requests.append((request.path_qs, request.headers.copy()))
            challenge = f'Bearer realm="{server.url}/token",service="a, \\"b\\"",scope="repository:app:pull"'
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        return await Server.answer(server, request)

    server.answer = answer  # type: ignore[method-assign]
    server.paths["/token"] = give
    server.expire = lambda: current.__setitem__(0, "none")  # type: ignore[attr-defined]
    return server


async def test_a_token_is_asked_for_once_and_again_when_it_has_expired(guarded: Server, tmp_path: Path) -> None:
    async with Bench(guarded.url, partial=tmp_path, credentials=USER) as bench:
        await bench.source.describe()
        assert await bench.download() == LAYER
        assert len(guarded.asked("/token")) == 1
        path, headers = next(each for each in guarded.requests if "/token" in each[0])
        assert URL(path).query["scope"] == "repository:app:pull"
        assert URL(path).query["service"] == 'a, "b"'
        assert URL(path).query["account"] == "user"
        assert headers["Authorization"] == "Basic dXNlcjpwYXNzd29yZA=="
        guarded.expire()  # type: ignore[attr-defined]
        await bench.source.describe()
        assert len(guarded.asked("/token")) == 2


async def test_a_token_for_nobody(guarded: Server, tmp_path: Path) -> None:
    async with Bench(guarded.url, partial=tmp_path) as bench:
        assert await bench.download() == LAYER
    assert "Authorization" not in guarded.asked("/token")[0]


async def test_an_identity_token_is_exchanged(guarded: Server, tmp_path: Path) -> None:
    forms: list[dict[str, Any]] = []
    give = guarded.paths["/token"]
    assert callable(give)

    async def exchange(request: web.Request) -> web.StreamResponse:
        forms.append(dict(await request.post()))
        return await give(request)

    guarded.paths["/token"] = exchange
    async with Bench(guarded.url, partial=tmp_path, credentials=Credentials(identity_token="refresh")) as bench:
        assert await bench.download() == LAYER
    assert forms == [
        {
            "grant_type": "refresh_token",
            "refresh_token": "refresh",
            "scope": "repository:app:pull",
            "service": 'a, "b"',
            "client_id": "mesocosm",
        }
    ]


@pytest.mark.parametrize(
    ("challenge", "expected"),
    [
        ('Bearer service="x"', "does not say where tokens are to be had"),
        ('Bearer realm="ftp://x/"', "does not say where tokens are to be had"),
        ('Bearer realm="http://registry.example.com/token"', "to be sent to registry.example.com in the open"),
        ('Digest realm="x"', "does not accept the credentials"),
        ("", "does not accept the credentials"),
    ],
)
async def test_challenges_that_cannot_be_met(server: Server, tmp_path: Path, challenge: str, expected: str) -> None:
    server.paths["manifests/1"] = web.Response(status=401, headers={"WWW-Authenticate": challenge})
    async with Bench(server.url, partial=tmp_path, credentials=USER) as bench:
        with pytest.raises(RegistryError, match=expected):
            await bench.source.describe()


@pytest.mark.parametrize("body", [b"", b"{}", b'{"token": "a\\r\\nb"}', b'{"token": 1}'])
async def test_a_token_that_is_none(guarded: Server, tmp_path: Path, body: bytes) -> None:
    guarded.paths["/token"] = web.Response(body=body)
    async with Bench(guarded.url, partial=tmp_path) as bench:
        with pytest.raises(RegistryError, match=r"127.0.0.1, which gives out tokens for .*, has given none"):
            await bench.source.describe()


async def test_a_mirror_is_asked_first_and_may_fail(server: Server, tmp_path: Path) -> None:
    async with serving() as mirror, Bench(mirror.url, server.url, partial=tmp_path) as bench:
        assert await bench.download() == LAYER
        assert server.requests == []
        mirror.paths["manifests/1"] = web.Response(status=404)
        assert await bench.download() == LAYER
        assert server.asked("blobs")


async def test_a_silent_server_is_given_up(server: Server, tmp_path: Path) -> None:
    async def answer(_: web.Request) -> web.Response:
        await asyncio.sleep(20)
        raise AssertionError("the client waits no longer")

    server.paths["manifests/1"] = answer
    async with Bench(server.url, partial=tmp_path, patience=0.05) as bench:
        with pytest.raises(RegistryError, match=r"has said nothing for 0\.05 s"):
            await bench.source.describe()


async def test_a_registry_that_is_not_there(tmp_path: Path) -> None:
    async with serving() as gone:
        url = gone.url
    async with Bench(url, partial=tmp_path) as bench:
        with pytest.raises(RegistryError, match=r"127.0.0.1:\d+ cannot be reached: Connection refused; is that where"):
            await bench.source.describe()
    async with Bench(URL("https://registry.invalid"), partial=tmp_path) as bench:
        with pytest.raises(RegistryError, match=r"there is no host of the name registry.invalid"):
            await bench.source.describe()


async def test_tls_is_found_out_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path)
    (tmp_path / "partial").mkdir()
    async with serving(context) as secure:
        async with Bench(secure.url, partial=tmp_path / "partial") as bench:
            with pytest.raises(RegistryError, match=r"TLS with 127.0.0.1:\d+ fails: self-signed certificate"):
                await bench.source.describe()
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        async with Bench(secure.url, partial=tmp_path / "partial") as bench:
            assert await bench.download() == LAYER


@contextlib.asynccontextmanager
async def proxying(target: URL, answer: str = "200 OK") -> AsyncIterator[tuple[str, list[str]]]:
    """A proxy that connects whoever asks to `target`, and what it was asked for."""
    asked: list[str] = []

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode().partition(" HTTP")[0])
        writer.write(f"HTTP/1.1 {answer}\r\n\r\n".encode())
        if not answer.startswith("200"):
            writer.close()
            return
        reader_there, writer_there = await asyncio.open_connection(target.host, target.port)
        await asyncio.gather(copy(reader, writer_there), copy(reader_there, writer))

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as running:
        yield f"http://127.0.0.1:{running.sockets[0].getsockname()[1]}", asked


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """That of a server called registry.test."""
    (tmp_path / "tls").mkdir()
    path = certificate(tmp_path / "tls", "DNS:registry.test")
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


async def test_a_proxy_of_the_environment_is_used(
    tls: ssl.SSLContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = URL("https://registry.test")
    async with serving(tls) as server, proxying(server.url) as (proxy, asked):
        monkeypatch.setenv("https_proxy", proxy)
        async with Bench(elsewhere, partial=tmp_path) as bench:
            assert await bench.download() == LAYER
        assert set(asked) == {"CONNECT registry.test:443"}
        monkeypatch.setenv("no_proxy", "registry.test")
        async with Bench(elsewhere, partial=tmp_path) as bench:
            with pytest.raises(RegistryError, match=r"no host of the name registry\.test"):
                await bench.source.describe()


async def test_a_proxy_that_refuses_or_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = URL("https://registry.test")
    async with proxying(elsewhere, "403 Forbidden") as (proxy, _), Bench(elsewhere, partial=tmp_path) as bench:
        monkeypatch.setenv("https_proxy", proxy)
        with pytest.raises(RegistryError, match=r"the proxy does not connect to registry\.test: 403 Forbidden"):
            await bench.source.describe()
        monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
        with pytest.raises(RegistryError, match=r"the proxy 127.0.0.1:1 cannot be reached: Connection refused; look"):
            await bench.source.describe()


async def test_no_proxy_is_used_on_this_machine(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner would see the passwords, which are sent by http."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with Bench(server.url, partial=tmp_path) as bench:
        assert await bench.download() == LAYER


@pytest.mark.parametrize(
    ("registry", "url"),
    [
        ("docker.io", "https://registry-1.docker.io"),
        ("quay.io", "https://quay.io"),
        ("quay.io:5000", "https://quay.io:5000"),
        ("localhost", "http://localhost"),
        ("localhost:5000", "http://localhost:5000"),
        ("127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("127.1.2.3:5000", "http://127.1.2.3:5000"),
        ("[::1]:5000", "http://[::1]:5000"),
        ("localhost.example.com:5000", "https://localhost.example.com:5000"),
        ("10.0.0.1:5000", "https://10.0.0.1:5000"),
    ],
)
def test_only_registries_of_this_machine_are_asked_by_http(registry: str, url: str) -> None:
    assert str(url_of(registry)) == url
    assert name_of(url_of(registry)) == registry


def test_urls_of_registries() -> None:
    assert str(parse_url("https://registry.example.com/", "--docker_registry")) == "https://registry.example.com"
    assert str(parse_url("http://localhost:80", "--docker_registry")) == "http://localhost"
    for text in ("http://registry.example.com", "ftp://x", "https://", "registry"):
        with pytest.raises(FlagError, match="--docker_registry"):
            parse_url(text, "--docker_registry")
