"""The process that fetches: what other packages make it fetch, what it has, and what it needs once it has begun."""

from __future__ import annotations

import gzip
import lzma
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mesocosm.container import URI
from mesocosm.fetcher.base import FetchError
from mesocosm.linux import helper
from tests.fetching import Bench, mode, names, tarball

DOCS = Path(__file__).parents[2] / "docs" / "fetcher.md"


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench.make(tmp_path)
    yield bench
    await bench.fetcher.close()


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The package of the documentation, as if it were installed."""
    text = DOCS.read_text()
    module = textwrap.dedent(text[text.index('    """The scheme `acme`') : text.index("\nIts `pyproject.toml`")])
    packages = tmp_path / "packages"
    metadata = packages / "acme_fetcher-1.0.dist-info"
    metadata.mkdir(parents=True)
    (packages / "acme_fetcher.py").write_text(module)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-fetcher\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        "[mesocosm.fetchers]\nacme = acme_fetcher:AcmeFetcher\nbroken = acme_fetcher:Nothing\nodd = builtins:object\n"
    )
    line = f"import sys; sys.path.append({str(packages)!r}); {helper.BOOTSTRAP}"
    monkeypatch.setattr(helper, "BOOTSTRAP", line)
    return packages / "acme_fetcher.py"


async def test_the_example_of_another_scheme_works(bench: Bench, acme: Path) -> None:
    sandbox = await bench.fetch("acme://host/a%20b", URI("acme://host/x.tar", cache=True, executable=True))
    assert (sandbox / "a%20b").read_text() == "acme://host/a%20b\n"
    assert mode(sandbox / "x.tar") == 0o755
    assert "'acme://host/x.tar' is not cached: its size is not known before it is here" in bench.log


async def test_entry_points_that_fail(bench: Bench, acme: Path) -> None:
    with pytest.raises(
        FetchError, match=r"'broken://host/x' cannot be fetched: the entry point 'broken', .* cannot be"
    ):
        await bench.fetch("broken://host/x")
    with pytest.raises(FetchError, match="the entry point 'odd', builtins:object, has no method `fetch`"):
        await bench.fetch("odd://host/x")
    acme.write_text("class AcmeFetcher:\n    def fetch(self, uri, target):\n        raise KeyError('no bucket')\n")
    with pytest.raises(FetchError, match=r"'acme://host/x' cannot be fetched: 'no bucket'"):
        await bench.fetch("acme://host/x")
    assert names(bench.sandbox) == []


async def test_the_environment_and_the_descriptors_of_a_worker(
    bench: Bench, acme: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acme.write_text(
        textwrap.dedent("""
        import os, sys

        class AcmeFetcher:
            def fetch(self, uri, target):
                print("printed", flush=True)
                opened = {number for number in range(64) if _is_open(number)}
                text = f"{sorted(os.environ)} {os.getcwd()} {len(opened)} {os.getsid(0) == os.getpid()}"
                os.write(target, text.encode())

        def _is_open(number):
            try:
                os.fstat(number)
            except OSError:
                return False
            return True
        """)
    )
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LIBPROCESS_SSL_ENABLED", "true")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("NO_PROXY", "localhost")
    monkeypatch.setenv("https_proxy", "http://localhost:1")
    with open(os.devnull) as inherited:  # noqa: ASYNC230
        os.set_inheritable(inherited.fileno(), True)
        sandbox = await bench.fetch("acme://host/seen")
    seen = (sandbox / "seen").read_text()
    assert re.sub(r"'LC_CTYPE', ", "", seen) == "['NO_PROXY', 'PATH', 'https_proxy'] / 7 True", (
        "the streams, the conversation, the sandbox, the directory of the target there, and the target"
    )
    assert "printed" in bench.log


def test_a_worker_imports_nothing_more_once_it_is_somebody_else(tmp_path: Path) -> None:
    """The container's user may not read the files of Python."""
    archives = {"x.tar": tarball(), "x.gz": gzip.compress(b"x"), "x.tar.xz": lzma.compress(tarball())}
    program = f"""
import bz2, io, os, socket, sys, threading, zipfile
import zstandard
sys.path.append({str(Path(helper.__file__).parents[2])!r})
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from mesocosm.container import URI, CommandInfo, ContainerConfig, ContainerID
from mesocosm.containerizer.checkpoint import Checkpoints
from mesocosm.fetcher import worker
from mesocosm.fetcher.messages import Action, Reply, Request, Start, pack, unpack
from mesocosm.linux import descriptors

os.setsid()
ARCHIVES = {archives!r}
ARCHIVES["x.tar.bz2"] = bz2.compress(ARCHIVES["x.tar"])
ARCHIVES["x.tar.zst"] = zstandard.ZstdCompressor().compress(ARCHIVES["x.tar"])
file = io.BytesIO()
with zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as package:
    package.writestr("caf\\u00e9", b"x")
ARCHIVES["x.zip"] = file.getvalue()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path.startswith("/there/"):
            self.send_response(301)
            self.send_header("Location", self.path.removeprefix("/there"))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = ARCHIVES.get(self.path[1:])
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("localhost", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
base = f"http://localhost:{{server.server_port}}"
uris = [f"{{base}}/there/{{name}}" for name in ARCHIVES] + ["/etc/passwd", "/no/such", f"{{base}}/none", "https://localhost:1/x"]
mine, theirs = socket.socketpair()
for name in worker._CODECS:
    worker.codecs.lookup(name)
become = worker._become


class Forbidden:
    def find_spec(self, name, *_):
        os.write(2, f"imports {{name}}\\n".encode())
        os._exit(3)


def _become(credentials):
    become(credentials)
    sys.meta_path.insert(0, Forbidden())


worker._become = _become
threading.Thread(target=worker.serve, args=(theirs,), daemon=True).start()


def ask(message, descriptor=()):
    descriptors.send(mine, pack(message), descriptor)
    data = b""
    while not data.endswith(b"\\n"):
        data += mine.recv(65536)
    return unpack(data, Reply)


sandbox = os.open({str(tmp_path)!r}, os.O_RDONLY)
assert ask(Start(None, 5, tuple(uris)), (sandbox,)).error is None
replies = [ask(Request(Action.FETCH, URI(uri))) for uri in uris]
assert [reply.error is None for reply in replies] == [True] * 7 + [False] * 3, replies
sys.stderr.flush()
os._exit(0)
"""
    done = subprocess.run([sys.executable, "-I", "-c", program], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert names(tmp_path) == sorted([*archives, "x.tar.bz2", "x.tar.zst", "x.zip", "x", "dir", "caf\u00e9", "passwd"])
