"""Fetching as a whole, as the user that the tests run as: files of this machine, the cache, and what goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import io
import lzma
import os
import struct
import sys
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mesocosm.container import URI, CommandInfo, ContainerConfig, ContainerID
from mesocosm.containerizer.checkpoint import Checkpoints
from mesocosm.errors import FlagError
from mesocosm.fetcher import sources
from mesocosm.fetcher.base import FetchError
from mesocosm.fetcher.fetcher import Counters
from tests.fetching import Bench, Halting, Server, mode, names, response, tarball


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench.make(tmp_path)
    yield bench
    await bench.fetcher.close()


@pytest.mark.parametrize("form", ["{}", "  {}", "file://{}", "file://localhost{}"])
async def test_files_of_this_machine(bench: Bench, form: str) -> None:
    sandbox = await bench.fetch(form.format(bench.file("test", mode=0o777)))
    assert (sandbox / "test").read_text() == "data"
    assert mode(sandbox / "test") == 0o644, "executable is only what is said to be"
    assert bench.fetcher.counters == Counters(1, 0, 1 << 20, 0)
    assert bench.cached() == []


async def test_executables(bench: Bench) -> None:
    path = bench.file("run.tar", tarball())
    for cache in (False, True):
        sandbox = await bench.fetch(URI(str(path), executable=True, extract=True, cache=cache))
        assert mode(sandbox / "run.tar") == 0o755
        assert names(sandbox) == ["run.tar"], "it is not unpacked"


def test_uris_are_on_disk_with_the_container(tmp_path: Path) -> None:
    checkpoints, container_id = Checkpoints(tmp_path), ContainerID("c")
    uris = (URI("http://host/x"), URI("/x", executable=True, extract=False, cache=True, output_file="a/b"))
    checkpoints.create(container_id, ContainerConfig(CommandInfo("true", uris=uris)))
    assert checkpoints.config(container_id) == ContainerConfig(CommandInfo("true", uris=uris))
    (checkpoints.directory(container_id) / "config").write_text('{"version": 1, "command": {"value": "true"}}')
    assert checkpoints.config(container_id) == ContainerConfig(CommandInfo("true")), "of a version without them"


async def test_nothing_to_fetch(bench: Bench) -> None:
    assert names(await bench.fetch()) == []
    assert bench.fetcher.counters.task_fetches_succeeded == 1
    assert bench.log == ""


async def test_one_after_the_other(bench: Bench) -> None:
    paths = [bench.file(name, name) for name in ("a", "b", "c")]
    sandbox = await bench.fetch(*paths, URI(str(paths[0]), output_file="b"))
    assert [(sandbox / name).read_text() for name in ("a", "b", "c")] == ["a", "a", "c"]


async def test_one_file_more_than_once(bench: Bench) -> None:
    path = bench.file("test")
    sandbox = await bench.fetch(path, path, URI(str(path), output_file="test"))
    assert (sandbox / "test").read_text() == "data"
    assert names(sandbox) == ["test"]


async def test_the_log_of_what_succeeds(bench: Bench) -> None:
    plain, archive = bench.file("plain"), bench.file("x.tar.gz", gzip.compress(tarball()))
    await bench.fetch(plain, URI(str(archive), cache=True))
    assert bench.log.splitlines() == [
        f"fetcher: '{plain}' goes into the sandbox, 4 bytes",
        "fetcher: 'plain' is complete",
        f"fetcher: '{archive}' goes into the cache, {archive.stat().st_size} bytes",
        f"fetcher: '{archive}' comes from the cache",
        "fetcher: 'x.tar.gz' is unpacked, 1 member",
    ]


async def test_output_files(bench: Bench) -> None:
    path = str(bench.file("test"))
    for cache in (False, True):
        uri = URI(path, output_file="sub/dir/custom.txt", executable=True, cache=cache)
        sandbox = await bench.fetch(uri, URI(path, output_file="custom", cache=cache))
        assert (sandbox / "sub/dir/custom.txt").read_text() == "data"
        assert mode(sandbox / "sub/dir/custom.txt") == 0o755
        assert mode(sandbox / "sub/dir") == 0o755
        assert (sandbox / "custom").read_text() == "data"
        assert len(bench.cached()) == cache, "once for both"


async def test_an_output_file_makes_an_archive_known(bench: Bench) -> None:
    path = str(bench.file("odd?name=x.tar.gz&more", gzip.compress(tarball())))
    for cache in (False, True):
        sandbox = await bench.fetch(URI(path, output_file="sub/x.tar.gz", cache=cache))
        assert (sandbox / "dir/run").exists(), "unpacked into the sandbox, and not below"
        assert (sandbox / "sub/x.tar.gz").exists() is not cache


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.tgz"])
async def test_archives(bench: Bench, name: str) -> None:
    """That `x.tar.gz` is not compressed at all is no matter."""
    path = bench.file(name, tarball())
    sandbox = await bench.fetch(path)
    assert mode(sandbox / "dir/run") == 0o755
    assert (sandbox / name).read_bytes() == path.read_bytes(), "the archive stays beside what was in it"
    sandbox = await bench.fetch(URI(str(path), cache=True))
    assert names(sandbox) == ["dir"], "from the cache, there is no archive"
    sandbox = await bench.fetch(URI(str(path), extract=False))
    assert names(sandbox) == [name]


async def test_gzip(bench: Bench) -> None:
    path = bench.file("hello.gz", gzip.compress(b"hello"))
    sandbox = await bench.fetch(path, URI(str(path), output_file="sub/custom.gz", cache=True))
    assert (sandbox / "hello").read_bytes() == b"hello"
    assert (sandbox / "custom").read_bytes() == b"hello"


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        (URI("/no/such/file"), r"'/no/such/file' cannot be fetched: the user \d+ cannot read it: No such file"),
        (URI("lala://nopath"), "'lala://nopath' cannot be fetched: it has no path; write SCHEME://HOST/PATH"),
        (URI("test"), "'test' cannot be fetched: it is no absolute path; write /PATH or file:///PATH"),
        (URI("/etc"), "it is no regular file"),
        (URI("/dev/zero"), "it is no regular file"),
        (URI("/etc/passwd", output_file="/subdir/custom.txt"), "'/subdir/custom.txt' is not relative"),
        (URI("/etc/passwd", output_file="../custom.txt"), r"has '\.\.' in it"),
        (URI("acme://host/x"), "nothing here fetches the scheme 'acme'; install a package with an entry point 'acme'"),
        (URI("hdfs://host/x"), "there is no --hadoop_home here: install .* in the group mesocosm.fetchers"),
        (URI("http://me:secret@/x"), r"'http:///x' cannot be fetched: the server cannot be asked: no host given"),
        (URI("http://[::1/x"), "the server cannot be asked: Invalid IPv6 URL"),
    ],
    ids=lambda value: value.value if isinstance(value, URI) else "",
)
@pytest.mark.parametrize("cache", [False, True])
async def test_failures(bench: Bench, uri: URI, reason: str, cache: bool) -> None:
    uri = URI(uri.value, output_file=uri.output_file, cache=cache)
    with pytest.raises(FetchError, match=reason) as caught:
        await bench.fetch(bench.file("first"), uri)
    assert "\n" not in str(caught.value)
    assert bench.log.splitlines()[-1] == f"fetcher: {caught.value}"
    assert bench.fetcher.counters == Counters(0, 1, 1 << 20, 0)
    assert bench.cached() == []
    assert set(names(bench.sandbox)) <= {"first"}


async def test_what_cannot_be_is_refused_before_anything_is_fetched(bench: Bench) -> None:
    for wrong in ("http://host/", "acme://host/x", "relative"):
        with pytest.raises(FetchError):
            await bench.fetch(bench.file("first"), wrong)
        assert names(bench.sandbox) == []


async def test_a_fifo_is_not_waited_for(bench: Bench) -> None:
    os.mkfifo(bench.root / "from/fifo")
    with pytest.raises(FetchError, match="no regular file"):
        await bench.fetch(bench.root / "from/fifo")


async def test_files_without_a_size(bench: Bench) -> None:
    sandbox = await bench.fetch("/proc/version", URI(str(bench.file("empty", "")), cache=True))
    assert (sandbox / "version").read_text() == Path("/proc/version").read_text()
    assert (sandbox / "empty").read_text() == ""
    assert "empty' is not cached: its size is not known before it is here" in bench.log


async def test_a_user_that_there_is_not(bench: Bench) -> None:
    with pytest.raises(FetchError, match="there is no user 'no-such-user'"):
        await bench.fetch(bench.file("test"), user="no-such-user")
    assert names(bench.sandbox) == []


async def test_a_sandbox_that_cannot_be_written_to(bench: Bench) -> None:
    (bench.root / "sandbox1").touch()
    with pytest.raises(FetchError, match=r"nothing can be fetched into .*/sandbox1"):
        await bench.fetch_into(bench.root / "sandbox1", bench.file("test"))


async def test_links_in_the_sandbox_are_not_followed(bench: Bench) -> None:
    victim = bench.file("victim", "victim")
    sandbox = bench.new_sandbox()
    (sandbox / "sub").symlink_to(bench.root / "from")
    (sandbox / "test").symlink_to(victim)
    path = str(bench.file("test"))
    for cache in (False, True):
        with pytest.raises(FetchError, match="'sub' is a link or a file, where a directory is needed"):
            await bench.fetch_into(sandbox, URI(path, output_file="sub/victim", cache=cache))
    await bench.fetch_into(sandbox, path)
    assert (sandbox / "test").read_text() == "data"
    assert not (sandbox / "test").is_symlink()
    assert victim.read_text() == "victim"


def xz_with_a_dictionary_of_4_gb() -> bytes:
    """The header of the block says how large the dictionary is to be (xz-file-format, 3.1 and 5.3.1)."""
    archive = bytearray(lzma.compress(tarball()))
    size = (archive[12] + 1) * 4
    header = archive[12 : 12 + size - 4]
    assert header[2:4] == b"\x21\x01", "one filter, LZMA2, with one byte of properties"
    header[4] = 40
    return bytes(archive[:12] + header + struct.pack("<I", zlib.crc32(header)) + archive[12 + size :])


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is one of Linux")
async def test_an_archive_does_not_take_the_machines_memory(bench: Bench) -> None:
    path = bench.file("x.tar.xz", xz_with_a_dictionary_of_4_gb())
    with pytest.raises(FetchError, match="it takes more than 1024 MB of memory to unpack"):
        await bench.fetch(path)


def test_progress_is_told_now_and_then(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_CHUNK", 3)
    uri, told = str(bench.file("test", "content")), list[str]()
    for seconds, lines in ((1000.0, []), (0.0, ["3 of 7 bytes", "6 of 7 bytes", "7 of 7 bytes"])):
        monkeypatch.setattr(sources, "_PROGRESS_SECONDS", seconds)
        source = sources.Sources([uri], 1).open(uri)
        source.write_to(io.BytesIO(), told.append)
        source.close()
        assert told == lines


@pytest.mark.parametrize(
    ("content", "reason"), [("longer", "it has more than the 4 bytes"), ("les", "it ended after 3")]
)
def test_a_file_that_changes_while_it_is_read(bench: Bench, content: str, reason: str) -> None:
    path = bench.file("test")
    source = sources.Sources([str(path)], 1).open(str(path))
    path.write_text(content)
    with contextlib.closing(source), pytest.raises(FetchError, match=reason):
        source.write_to(io.BytesIO(), lambda _: None)


# The cache.


async def test_what_is_cached_is_downloaded_once(bench: Bench) -> None:
    path = bench.file("test")
    for _ in range(2):
        sandbox = await bench.fetch(URI(str(path), cache=True))
        assert (sandbox / "test").read_text() == "data"
        path.write_text("other")
    assert "goes into the cache" not in bench.log
    assert len(bench.cached()) == 1
    assert bench.fetcher.counters == Counters(2, 0, 1 << 20, 4)


async def test_one_uri_more_than_once_in_a_fetch(bench: Bench) -> None:
    path = str(bench.file("test"))
    sandbox = await bench.fetch(*(URI(path, cache=True, output_file=name) for name in ("one", "two", "three")))
    assert names(sandbox) == ["one", "three", "two"]
    assert bench.fetcher.counters == Counters(1, 0, 1 << 20, 4)


async def test_a_cached_file_that_somebody_removed_is_downloaded_again(bench: Bench) -> None:
    path = bench.file("test")
    for _ in range(2):
        sandbox = await bench.fetch(URI(str(path), cache=True))
        assert (sandbox / "test").read_text() == "data"
        (cached,) = bench.cached()
        cached.unlink()


async def test_the_cache_is_empty_at_the_start_and_at_the_end(bench: Bench) -> None:
    path = bench.file("test")
    await bench.fetch(URI(str(path), cache=True))
    (cached,) = bench.cached()
    (cached.parent / "part-a1b2c3d4").write_text("half")
    again = Bench.make(bench.root)
    await again.fetcher.recover()
    assert again.cached() == []
    again.sandboxes = 10
    await again.fetch(URI(str(path), cache=True))
    assert "goes into the cache" in again.log
    await again.fetcher.close()
    assert again.cached() == []
    assert again.fetcher.counters.cache_size_used_bytes == 0


async def test_a_cache_directory_that_others_may_write_to(bench: Bench) -> None:
    (bench.root / "cache").mkdir()
    (bench.root / "cache").chmod(0o777)
    with pytest.raises(FlagError, match="--fetcher_cache_dir"):
        await bench.fetcher.recover()
    sandbox = await bench.fetch(URI(str(bench.file("test")), cache=True))
    assert (sandbox / "test").read_text() == "data"
    assert "is not cached: --fetcher_cache_dir" in bench.log


async def test_eviction(tmp_path: Path) -> None:
    bench = Bench.make(tmp_path, cache_size=20)
    for name, expected in (("a", 1), ("b", 2), ("b", 2), ("c", 2), ("d", 2)):
        path = bench.file(name, name * 10)
        sandbox = await bench.fetch(URI(str(path), cache=True))
        assert (sandbox / name).read_text() == name * 10
        assert len(bench.cached()) == expected
    assert bench.fetcher.counters.cache_size_used_bytes == 20
    for name, cached in (("c", True), ("d", True), ("b", False)):
        await bench.fetch(URI(str(bench.root / "from" / name), cache=True))
        assert ("goes into the cache" not in bench.log) is cached
    await bench.fetcher.close()


@pytest.mark.parametrize("cache_size", [0, 15])
async def test_what_has_no_room_is_fetched_without_the_cache(tmp_path: Path, cache_size: int) -> None:
    bench = Bench.make(tmp_path, cache_size)
    for name, size in (("a", 10), ("b", 15), ("c", 16)):
        path = bench.file(name, name * size)
        sandbox = await bench.fetch(URI(str(path), cache=True))
        assert (sandbox / name).read_text() == name * size
        assert len(bench.cached()) <= 1
        fits = size <= cache_size
        assert (f"'{path}' is not cached: the cache has no room for {size} bytes" in bench.log) is not fits
        assert bench.fetcher.counters.cache_size_used_bytes == (min(size, 15) if cache_size else 0)
    await bench.fetcher.close()


async def test_concurrent_fetches_of_a_uri_download_it_once(bench: Bench) -> None:
    async with Server() as server:
        halting = Halting(b"half", b" and half", server)
        url = server.url("/x", halting)
        first = asyncio.create_task(bench.fetch(URI(url, cache=True)))
        await halting.reached.wait()
        others = [asyncio.create_task(bench.fetch(URI(url, cache=True))) for _ in range(4)]
        direct = await bench.fetch(server.url("/y", b"other"))
        halting.let_go.set()
        sandboxes = await asyncio.gather(first, *others)
        assert [(sandbox / "x").read_text() for sandbox in sandboxes] == ["half and half"] * 5
        assert (direct / "y").read_text() == "other"
        await bench.fetch(URI(url, cache=True))
        assert server.asked("/x") == 1
        assert len(bench.cached()) == 1


async def test_the_mixture_of_the_reference(bench: Bench) -> None:
    """HttpMixed: with and without the cache, executable, unpacked, all at the same time."""
    async with Server() as server:
        archive, command = server.url("/x.tgz", gzip.compress(tarball())), server.url("/cmd", b"#!/bin/sh\n")
        first, second, third = await asyncio.gather(
            bench.fetch(URI(archive, cache=True, extract=False), URI(command, extract=False, executable=True)),
            bench.fetch(URI(archive), URI(command)),
            bench.fetch(URI(archive, cache=True), URI(command, extract=False)),
        )
        assert [names(sandbox) for sandbox in (first, second, third)] == [
            *(["cmd", "x.tgz"], ["cmd", "dir", "x.tgz"], ["cmd", "dir"]),
        ]
        assert [mode(sandbox / "cmd") for sandbox in (first, second, third)] == [0o755, 0o644, 0o644]
        assert (server.asked("/x.tgz"), server.asked("/cmd")) == (2, 3)
        assert len(bench.cached()) == 1


async def test_those_who_wait_for_a_download_fail_with_it(bench: Bench) -> None:
    async with Server() as server:
        halting = Halting(b"half", b"", server)
        url = server.url("/x", halting)

        async def shorter(writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
            await halting(writer)

        server.answers["/x"] = shorter
        fetches = [asyncio.create_task(bench.fetch(URI(url, cache=True))) for _ in range(3)]
        await halting.reached.wait()
        halting.let_go.set()
        errors = await asyncio.gather(*fetches, return_exceptions=True)
        assert len(set(map(str, errors))) == 1
        assert all(isinstance(error, FetchError) for error in errors)
        assert bench.fetcher.counters == Counters(0, 3, 1 << 20, 0)
        assert bench.cached() == []
        assert server.asked("/x") <= len(fetches)


async def test_another_takes_over_from_who_is_cancelled(bench: Bench) -> None:
    async with Server() as server:
        halting = Halting(b"half", b" and half", server)
        url = server.url("/x", halting)
        first = asyncio.create_task(bench.fetch(URI(url, cache=True)))
        await halting.reached.wait()
        other = asyncio.create_task(bench.fetch(URI(url, cache=True)))
        await bench.fetch(bench.file("something"))  # By now the other one waits.
        server.answers["/x"] = response(b"whole")
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert ((await other) / "x").read_text() == "whole"
        assert bench.fetcher.counters == Counters(2, 1, 1 << 20, 5)


@pytest.mark.parametrize("cache", [False, True])
async def test_a_cancelled_fetch_leaves_nothing_in_the_cache(bench: Bench, cache: bool) -> None:
    async with Server() as server:
        halting = Halting(b"x" * 100_000, b"x", server)
        fetch = asyncio.create_task(bench.fetch(URI(server.url("/x", halting), cache=cache)))
        await halting.reached.wait()
        fetch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fetch
        assert bench.fetcher.counters == Counters(0, 1, 1 << 20, 0)
        assert bench.cached() == []


async def test_closing_ends_what_is_being_fetched(bench: Bench) -> None:
    async with Server() as server:
        halting = Halting(b"half", b"", server)
        fetch = asyncio.create_task(bench.fetch(URI(server.url("/x", halting), cache=True)))
        await halting.reached.wait()
        await bench.fetcher.close()
        with pytest.raises(FetchError, match="are not fetched: the agent ends"):
            await fetch
        assert bench.cached() == []
        with pytest.raises(FetchError, match="the agent ends"):
            await bench.fetch(bench.file("x"))
