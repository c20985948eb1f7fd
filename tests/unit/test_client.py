"""How an agent is named, and what is said of one that cannot be asked."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesocosm.cli.agent_option import address_of
from mesocosm.cli.containers import overview
from mesocosm.cli.conversation import DetachKeys
from mesocosm.client import address as addresses
from mesocosm.client.address import Address, AgentError, default_address
from mesocosm.client.connection import Connection
from mesocosm.client.streaming import AgentClient
from mesocosm.errors import FlagError

GOOD = {
    "http://host:1": "http://host:1",
    "http://host": "http://host:5051",
    "https://host/": "https://host:5051",
    "http://[::1]:7": "http://[::1]:7",
    "http://user:pass@host:1": "http://host:1",
    "/run/a.sock": "/run/a.sock",
    "unix:/run/a.sock": "/run/a.sock",
    "unix:///run/a.sock": "/run/a.sock",
}
BAD = [
    "",
    "host",
    "host:5051",
    "ftp://host",
    "http://",
    "http://host:x",
    "http://host/api/v1",
    "http://host?a=b",
    "http://a..b",
]


@pytest.mark.parametrize(("text", "shown"), GOOD.items())
def test_addresses(text: str, shown: str) -> None:
    assert str(Address.parse(text)) == shown


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(AgentError, match="is no address of an agent; write http://HOST:PORT"):
        Address.parse(text)


def test_credentials_of_a_url_are_sent_and_never_shown() -> None:
    address = Address.parse("http://ops:open%20sesame@host:1")
    assert address.headers["Authorization"] == "Basic b3BzOm9wZW4gc2VzYW1l"
    assert "sesame" not in repr(address) + str(address)


def test_credentials_of_a_file_go_first(tmp_path: Path) -> None:
    file = tmp_path / "credential"
    file.write_text("web hunter2")
    file.chmod(0o600)
    assert address_of("http://ops:x@host", file).credentials == ("web", "hunter2")


def test_the_agent_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "DEFAULT_SOCKET", tmp_path / "operator.sock")
    assert default_address({}) == "http://127.0.0.1:5051"
    assert default_address({"MESOCOSM_AGENT": "http://host:1"}) == "http://host:1"
    (tmp_path / "operator.sock").touch()
    assert default_address({}) == str(tmp_path / "operator.sock")


def test_certificates_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "ca").write_text("no certificate")
    with pytest.raises(FlagError, match="has no certificates of authorities"):
        Connection(address_of("https://host", ca_file=tmp_path / "ca"))
    with pytest.raises(FlagError, match="no certificate with its key"):
        Connection(address_of("https://host", cert=tmp_path / "ca"))
    with pytest.raises(FlagError, match="--key goes with --cert"):
        address_of("https://host", key=tmp_path / "ca")


@pytest.fixture
def speechless() -> Iterator[str]:
    """A server that takes one request and answers with nothing that is HTTP."""

    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1 << 16)
            connection.sendall(b"220 ESMTP\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def test_who_speaks_no_http_is_no_agent(speechless: str) -> None:
    with pytest.raises(AgentError, match=f"no agent answers at {speechless}: 220 ESMTP"):
        Connection(Address.parse(speechless)).call("GET_HEALTH")


class Other(http.server.BaseHTTPRequestHandler):
    """What a web server that is no agent answers to everything."""

    answer = 200, "application/json", b""

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, media_type, body = self.answer
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - as in http.server.
        pass


@pytest.fixture
def other() -> Iterator[str]:
    """The address of such a server."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


NO_ANSWERS = [b"<html><h1>Welcome</h1></html>", b"\xff", b'7\n{"a": b', b"[]", b"2\n[]", b'{"containers": 1}']


@pytest.mark.parametrize("body", NO_ANSWERS)
async def test_what_no_agent_would_answer(other: str, body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Other, "answer", (200, "text/html", body))
    address = Address.parse(other)
    expected = f"^{other} is no agent of Mesocosm: .*; say where one is by --agent or MESOCOSM_AGENT"
    with pytest.raises(AgentError, match=expected):
        overview(Connection(address))
    with pytest.raises(AgentError, match=expected):
        Connection(address).launch({})
    with pytest.raises(AgentError, match=expected):
        list(Connection(address).stream("ATTACH_CONTAINER_OUTPUT", {}))
    async with AgentClient(address) as client:
        with pytest.raises(AgentError, match=expected):
            await anext(client.attach_output({"value": "c"}))


def test_other_servers_that_refuse(other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Other, "answer", (404, "text/html", b"<html><h1>404 Not Found</h1></html>"))
    connection = Connection(Address.parse(other))
    with pytest.raises(AgentError, match=f"^{other} is no agent of Mesocosm: it has no /overview"):
        overview(connection)
    with pytest.raises(AgentError, match=f"^{other}: 404 Not Found$"):
        connection.call("GET_HEALTH")


async def test_nobody_there(tmp_path: Path) -> None:
    for text, reason in (("http://127.0.0.1:1", "Connection refused"), (f"{tmp_path}/a", "No such file or directory")):
        expected = f"^no agent answers at {text}: {reason}; start one, or say where it is by --agent"
        with pytest.raises(AgentError, match=expected):
            Connection(Address.parse(text)).call("GET_HEALTH")
        async with AgentClient(Address.parse(text)) as client:
            with pytest.raises(AgentError, match=expected):
                await client.kill_tasks("x")


def test_detach_keys() -> None:
    keys = DetachKeys("ctrl-p,ctrl-q")
    assert keys.feed(b"ls\n") == (b"ls\n", False)
    assert keys.feed(b"a\x10") == (b"a", False), "it could be the beginning"
    assert keys.feed(b"b") == (b"\x10b", False)
    assert keys.feed(b"\x10") == (b"", False)
    assert keys.feed(b"\x10\x11") == (b"\x10", True)
    assert DetachKeys("ctrl-p,ctrl-q").feed(b"x\x10\x11y") == (b"x", True)
    assert DetachKeys("ctrl-@,d").feed(b"\x00d") == (b"", True)
    assert DetachKeys("").feed(b"\x10\x11") == (b"\x10\x11", False)
    for text in ("ctrl-", "ctrl-pp", "é", "a,,b"):
        with pytest.raises(FlagError, match=r"--detach-keys: .* is no key; write them as in ctrl-p,ctrl-q"):
            DetachKeys(text)
