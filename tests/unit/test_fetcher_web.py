"""Fetching from servers: those that answer well, badly, slowly, or not at all."""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mesocosm.container import URI
from mesocosm.fetcher.base import FetchError
from mesocosm.fetcher.fetcher import Counters
from tests.fetching import Bench, Halting, Server, names, response

PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
LARGE = os.urandom(3_000_000)


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    bench = Bench.make(tmp_path, cache_size=10_000_000, stall_timeout=10)
    yield bench
    await bench.fetcher.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with Server() as server:
        yield server


async def refused(bench: Bench, uri: str) -> str:
    """The message of a fetch that fails, and leaves nothing, with and without the cache: a line."""
    messages = set()
    for cache in (False, True):
        with pytest.raises(FetchError) as caught:
            await bench.fetch(URI(uri, cache=cache))
        messages.add(str(caught.value))
        assert names(bench.sandbox) == []
        assert bench.cached() == []
        assert bench.fetcher.counters.cache_size_used_bytes == 0
    (message,) = messages
    assert message.isprintable()
    return message


@pytest.mark.parametrize("cache", [False, True])
async def test_a_file(bench: Bench, server: Server, cache: bool) -> None:
    url = server.url("/dir/test", LARGE)
    for _ in range(3):
        sandbox = await bench.fetch(URI(f"\r\n\t {url}", cache=cache))
        assert (sandbox / "test").read_bytes() == LARGE
    assert server.asked("/dir/test") == (1 if cache else 3)
    head = server.requests[0].lower()
    assert head.startswith("get /dir/test http/1.1\r\n")
    assert "accept-encoding: identity\r\n" in head
    assert "user-agent: mesocosm/" in head


async def test_an_empty_file(bench: Bench, server: Server) -> None:
    sandbox = await bench.fetch(server.url("/empty", b""), URI(server.url("/none", b""), cache=True))
    assert [(sandbox / name).read_bytes() for name in ("empty", "none")] == [b""] * 2
    assert bench.cached() == []


async def test_queries_and_characters_that_need_quotes(bench: Bench, server: Server) -> None:
    paths = {
        "/a?b=c&d=%2F": "/a?b=c&d=%2F",
        "/a b#part": "/a%20b",
        "/\u00e4%20": "/%C3%A4%20",
        "/~x;y=(z)": "/~x;y=(z)",
    }
    for path, sent in paths.items():
        server.url(sent, path.encode())
        sandbox = await bench.fetch(f"http://{server.address}{path}")
        assert (sandbox / path[1:]).read_text() == path


async def test_chunks(bench: Bench, server: Server) -> None:
    """Which have no size: there is no knowing whether they fit into the cache."""

    async def chunks(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")

    sandbox = await bench.fetch(URI(server.url("/x", chunks), cache=True))
    assert (sandbox / "x").read_text() == "hello world"
    assert "is not cached: its size is not known before it is here" in bench.log
    assert server.asked("/x") == 1
    assert bench.cached() == []


async def test_the_end_of_the_connection_as_the_end_of_the_file(bench: Bench, server: Server) -> None:
    sandbox = await bench.fetch(server.url("/x", response(b"hello", length=-1)))
    assert (sandbox / "x").read_text() == "hello"


@pytest.mark.parametrize(
    "status", ["404 Not Found", "403 Forbidden", "500 Internal Server Error", "204 No Content", "206 Partial Content"]
)
async def test_any_other_status(bench: Bench, server: Server, status: str) -> None:
    url = server.url("/x", response(b"", status))
    assert await refused(bench, url) == f"'{url}' cannot be fetched: the server answered {status}"
    assert bench.fetcher.counters == Counters(0, 2, 10_000_000, 0)


@pytest.mark.parametrize("sent", [0, 1, 2_000_000])
async def test_less_than_was_announced(bench: Bench, server: Server, sent: int) -> None:
    url = server.url("/x", response(LARGE[:sent], length=len(LARGE)))
    message = await refused(bench, url)
    assert (
        message == f"'{url}' cannot be fetched: it ended after {sent} of {len(LARGE)} bytes"
        or "in the middle" in message
    )


async def test_more_than_was_announced_is_not_read(bench: Bench, server: Server) -> None:
    sandbox = await bench.fetch(URI(server.url("/x", response(b"hello world", length=5)), cache=True))
    assert (sandbox / "x").read_text() == "hello"
    assert bench.fetcher.counters.cache_size_used_bytes == 5


async def test_a_chunk_that_is_cut_off(bench: Bench, server: Server) -> None:
    async def chunks(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nff\r\nwor")

    assert "the server closed the connection in the middle" in await refused(bench, server.url("/x", chunks))


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
async def test_redirects(bench: Bench, server: Server, status: str) -> None:
    target = server.url("/there/other", b"data")
    url = server.url("/x", response(b"", status, f"Location: {target}"))
    sandbox = await bench.fetch(URI(url, cache=True))
    assert (sandbox / "x").read_text() == "data", "it has the name that it was asked for by"
    server.url("/relative", response(b"", status, "Location: there/other"))
    sandbox = await bench.fetch(f"http://{server.address}/relative")
    assert (sandbox / "relative").read_text() == "data"


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://localhost/x", "data:,x", "/x"])
async def test_redirects_that_are_not_followed(bench: Bench, server: Server, target: str) -> None:
    url = server.url("/x", response(b"", "302 Found", f"Location: {target}"))
    message = await refused(bench, url)
    assert message.startswith(f"'{url}' cannot be fetched: the server ")


async def test_a_server_that_falls_silent(tmp_path: Path, server: Server) -> None:
    bench = Bench.make(tmp_path, stall_timeout=0.2)
    for first, path in ((b"half", "/body"), (b"", "/nothing")):
        url = server.url(path, Halting(first, b"more", server))
        message = await refused(bench, url)
        assert message == (
            f"'{url}' cannot be fetched: nothing came from the server for 0.2 s; "
            "--fetcher_stall_timeout is how long it may take"
        )
    await bench.fetcher.close()


async def test_a_server_that_never_answers(tmp_path: Path, server: Server) -> None:
    async def silence(_writer: asyncio.StreamWriter) -> None:
        await server.finished.wait()

    bench = Bench.make(tmp_path, stall_timeout=0.2)
    assert "nothing came from the server for 0.2 s" in await refused(bench, server.url("/x", silence))
    await bench.fetcher.close()


async def test_a_server_that_is_slow_but_not_silent(tmp_path: Path, server: Server) -> None:
    async def slow(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
        for _ in range(10):
            await asyncio.sleep(0.15)  # It is the time that is tested.
            writer.write(b"x")

    bench = Bench.make(tmp_path, stall_timeout=1)
    sandbox = await bench.fetch(server.url("/x", slow))
    assert (sandbox / "x").read_bytes() == b"x" * 10
    await bench.fetcher.close()


@pytest.mark.parametrize(
    "answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"x" * 70_000]
)
async def test_what_is_no_answer(bench: Bench, server: Server, answer: bytes) -> None:
    async def other(writer: asyncio.StreamWriter) -> None:
        writer.write(answer)

    message = await refused(bench, server.url("/x", other))
    assert "cannot be fetched: the server cannot be asked: " in message


async def test_no_server(bench: Bench) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        message = await refused(bench, f"http://127.0.0.1:{taken.getsockname()[1]}/x")
    assert message.endswith("the server cannot be asked: Connection refused")


async def test_a_password_goes_to_its_host_and_to_no_other(bench: Bench, server: Server) -> None:
    async with Server() as other:
        target = other.url("/x", b"data")
        server.url("/x", response(b"", "302 Found", f"Location: {target}"))
        await bench.fetch(f"http://me:pass%40word@{server.address}/x")
        token = base64.b64encode(b"me:pass@word").decode()
        assert f"Authorization: Basic {token}\r\n" in server.requests[0]
        assert "authorization" not in other.requests[0].lower()
        assert "pass" not in bench.log


async def test_a_proxy(bench: Bench, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://{server.address}")
    server.url("http://example.invalid/x", b"by the proxy")
    sandbox = await bench.fetch("http://example.invalid/x")
    assert (sandbox / "x").read_text() == "by the proxy"
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    sandbox = await bench.fetch(server.url("/x", b"by itself"))
    assert (sandbox / "x").read_text() == "by itself"


@pytest.fixture
async def tls(tmp_path: Path) -> AsyncIterator[tuple[str, Path]]:
    """The address of a server that says "data" by TLS, and its certificate."""
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("needs openssl, to make a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    kind = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command = [openssl, *kind, *subject, "-keyout", key, "-out", certificate]
    subprocess.run(command, check=True, capture_output=True)  # noqa: ASYNC221
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await response(b"data")(writer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"localhost:{server.sockets[0].getsockname()[1]}", certificate


async def test_https(bench: Bench, tls: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    address, certificate = tls
    assert "certificate verify failed" in await refused(bench, f"https://{address}/x")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    sandbox = await bench.fetch(URI(f"https://{address}/x", cache=True))
    assert (sandbox / "x").read_text() == "data"
    with pytest.raises(FetchError, match=r"certificate is not valid for '127\.0\.0\.1'"):
        await bench.fetch(f"https://127.0.0.1:{address.partition(':')[2]}/x")
