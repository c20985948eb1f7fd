"""Fetching as root for others: what the process that does it may do, whom the cache serves, and what is left of it."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import stat
import subprocess
import sys
import tarfile
import textwrap
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from mesocosm.container import RUNTIME_SEPARATOR, URI, ContainerID
from mesocosm.errors import FlagError
from mesocosm.fetcher.base import FetchError
from mesocosm.launcher.info import Credentials
from mesocosm.linux import helper
from tests.command_line import children
from tests.fetching import TIMEOUT, Bench, Halting, Server, names
from tests.machine import await_end

pytestmark = pytest.mark.kernel

ALICE, BOB = Credentials(30001, 30001), Credentials(30002, 30002)
GROUP = 30077
HALF = bytes(30_000_000)
"""More than fits into sockets: once it is sent, most of it has been written to a file."""


@pytest.fixture
async def bench(run_directory: Path) -> AsyncIterator[Bench]:
    bench = Bench.make(run_directory, cache_size=1 << 30)
    await bench.fetcher.recover()
    yield bench
    await bench.fetcher.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with Server() as server:
        yield server


def owned(path: Path, uid: int, gid: int, mode: int) -> Path:
    os.chown(path, uid, gid)
    path.chmod(mode)
    return path


def workers() -> list[int]:
    """The processes that fetch for this one, which may have others, such as a daemon that all tests share."""
    return [pid for pid in children(os.getpid()) if b"mesocosm-fetcher" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def status(pid: int) -> dict[str, list[str]]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {line.partition(":")[0]: line.partition(":")[2].split() for line in lines}


async def fetch_as(bench: Bench, user: Credentials, *uris: URI | str | Path) -> Path:
    return await bench.fetch(*uris, user=user, owner=user.uid)


@pytest.mark.parametrize("cache", [False, True])
async def test_what_the_user_may_not_read(bench: Bench, cache: bool) -> None:
    secret = str(bench.file("secret", mode=0o600))
    with pytest.raises(FetchError, match=r"the user 30001 cannot read it: Permission denied"):
        await fetch_as(bench, ALICE, URI(secret, cache=cache))
    assert names(bench.sandbox) == []
    sandbox = await bench.fetch(URI(secret, cache=cache))
    assert (sandbox / "secret").read_text() == "data", "root may"


async def test_by_name_and_by_number(bench: Bench) -> None:
    for user, uid in (("nobody", 65534), ("30001:30002", 30001)):
        sandbox = await bench.fetch(bench.file("test"), user=user, owner=uid)
        assert (sandbox / "test").stat().st_uid == uid


async def test_groups_count(bench: Bench) -> None:
    shared = owned(bench.file("shared"), 0, GROUP, 0o640)
    member = Credentials(ALICE.uid, ALICE.gid, (ALICE.gid, GROUP))
    sandbox = await fetch_as(bench, member, URI(str(shared), cache=True))
    assert (sandbox / "shared").read_text() == "data"
    for user in (ALICE, BOB):
        with pytest.raises(FetchError, match="Permission denied"):
            await fetch_as(bench, user, URI(str(shared), cache=True))


async def test_what_is_fetched_is_the_users(bench: Bench) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        info = tarfile.TarInfo("dir/run")
        info.uid = info.gid = 0
        info.mode = 0o6755
        archive.addfile(info, io.BytesIO())
    path = str(bench.file("x.tar", file.getvalue()))
    for user in (ALICE, Credentials(0, 0)):
        sandbox = await fetch_as(bench, user, path, URI(path, output_file="sub/y.tar", cache=True, executable=True))
        for made in sandbox.rglob("*"):
            assert (made.stat().st_uid, made.stat().st_gid) == (user.uid, user.gid)
        assert stat.S_IMODE((sandbox / "dir/run").stat().st_mode) == 0o755


async def test_the_user_need_not_get_to_his_sandbox_by_its_path(bench: Bench) -> None:
    hidden = bench.root / "hidden"
    hidden.mkdir(mode=0o700)
    sandbox = hidden / "sandbox"
    sandbox.mkdir()
    owned(sandbox, ALICE.uid, ALICE.gid, 0o700)
    (bench.root / "hidden").chmod(0o700)
    await bench.fetch_into(sandbox, bench.file("test"), user=ALICE)
    assert (sandbox / "test").read_text() == "data"


async def test_a_sandbox_of_somebody_else(bench: Bench) -> None:
    with pytest.raises(FetchError, match="/test' cannot be fetched: 'test': Permission denied"):
        await bench.fetch(bench.file("test"), user=ALICE, owner=BOB.uid)


async def test_the_process_has_no_rights_of_root(bench: Bench, server: Server) -> None:
    halting = Halting(b"half", b"", server)
    user = Credentials(ALICE.uid, ALICE.gid, (ALICE.gid, GROUP))
    fetch = asyncio.create_task(fetch_as(bench, user, server.url("/x", halting)))
    await halting.reached.wait()
    (pid,) = workers()
    seen = status(pid)
    assert seen["Uid"] == [str(ALICE.uid)] * 4
    assert seen["Gid"] == [str(ALICE.gid)] * 4
    assert seen["Groups"] == [str(ALICE.gid), str(GROUP)]
    assert {*seen["CapEff"], *seen["CapPrm"], *seen["CapInh"], *seen["CapAmb"]} == {"0" * 16}
    assert seen["Name"] == ["mesocosm-fetche"], "which has 15 characters"
    assert os.getsid(pid) == pid
    listed = subprocess.run(  # noqa: ASYNC221
        ["ls", f"/proc/{pid}/fd"], user=ALICE.uid, group=ALICE.gid, extra_groups=[], check=False, capture_output=True
    )
    assert b"Permission denied" in listed.stderr, "the user himself may not look into it"
    halting.let_go.set()
    await fetch


@pytest.mark.parametrize("user", [ALICE, Credentials(0, 0)], ids=["user", "root"])
@pytest.mark.parametrize("cache", [False, True])
async def test_a_hostile_sandbox(bench: Bench, user: Credentials, cache: bool) -> None:
    """Its user fills it with links to what root could write to."""
    outside = bench.root / "outside"
    outside.mkdir()
    victim = outside / "victim"
    victim.write_text("victim")
    sandbox = bench.new_sandbox(user.uid)
    (sandbox / "sub").symlink_to(outside)
    for name in ("test", "hard"):
        (sandbox / name).symlink_to(victim)
    (sandbox / "stderr").hardlink_to(victim)
    path = str(bench.file("test"))
    for target in ("sub/victim", "sub/new", "sub/new/deep", "test/x"):
        with pytest.raises(FetchError, match="is a link or a file, where a directory is needed"):
            await bench.fetch_into(sandbox, URI(path, output_file=target, cache=cache), user=user)
    for target in ("test", "hard", "stderr"):
        await bench.fetch_into(sandbox, URI(path, output_file=target, cache=cache, executable=True), user=user)
        assert (sandbox / target).lstat().st_mode == stat.S_IFREG | 0o755
    assert names(outside) == ["victim"]
    assert (victim.read_text(), victim.stat().st_mode & 0o7777, victim.stat().st_uid) == ("victim", 0o644, 0)


async def test_the_sandbox_of_a_nested_container_that_its_parent_replaced(bench: Bench, run_directory: Path) -> None:
    outside = run_directory / "outside"
    outside.mkdir()
    parent = ContainerID("parent")
    nested = ContainerID("kid", parent=parent)
    top = run_directory / "top"
    (top / RUNTIME_SEPARATOR).mkdir(parents=True)
    (top / RUNTIME_SEPARATOR / "kid").symlink_to(outside)
    with open(os.devnull, "wb") as log, pytest.raises(FetchError, match="nothing can be fetched into"):  # noqa: ASYNC230
        await bench.fetcher.fetch(
            nested, [URI(str(bench.file("test")))], top / RUNTIME_SEPARATOR / "kid", None, log.fileno()
        )
    assert names(outside) == []


# The cache.


async def test_the_cache_is_of_one_user(bench: Bench) -> None:
    path = owned(bench.file("alices"), ALICE.uid, ALICE.gid, 0o600)
    sandbox = await fetch_as(bench, ALICE, URI(str(path), cache=True))
    assert (sandbox / "alices").read_text() == "data"
    with pytest.raises(FetchError, match="the user 30002 cannot read it"):
        await fetch_as(bench, BOB, URI(str(path), cache=True))
    (cached,) = bench.cached()
    assert cached.parent == bench.root / "cache" / "30001"
    assert (cached.stat().st_uid, stat.S_IMODE(cached.stat().st_mode)) == (0, 0o600)
    for user in (ALICE, BOB):
        read = subprocess.run(["cat", cached], user=user.uid, group=user.gid, check=False, capture_output=True)  # noqa: ASYNC221
        assert b"Permission denied" in read.stderr
    path.unlink()
    sandbox = await fetch_as(bench, ALICE, URI(str(path), cache=True))
    assert (sandbox / "alices").read_text() == "data", "which was downloaded"


async def test_each_user_downloads_once(bench: Bench, server: Server) -> None:
    url = server.url("/x", b"data")
    await asyncio.gather(*(fetch_as(bench, user, URI(url, cache=True)) for user in (ALICE, BOB) * 3))
    assert server.asked("/x") == 2
    assert [path.parent.name for path in bench.cached()] == ["30001", "30002"]
    assert bench.fetcher.counters.cache_size_used_bytes == 8


async def test_a_cache_in_a_directory_of_somebody_else(bench: Bench) -> None:
    """Such as /tmp/mesos, if he was the first to make that."""
    theirs = bench.root / "mesos"
    theirs.mkdir()
    os.chown(theirs, ALICE.uid, ALICE.gid)
    fetcher = type(bench.fetcher)(theirs / "fetch", 1 << 20, TIMEOUT)
    with pytest.raises(
        FlagError, match=f"--fetcher_cache_dir: others can write to {theirs}; make it belong to the user 0"
    ):
        await fetcher.recover()


# What is left.


@pytest.mark.parametrize("cache", [False, True])
async def test_a_fetch_that_is_cancelled_leaves_no_process(bench: Bench, server: Server, cache: bool) -> None:
    halting = Halting(HALF, b"x", server)
    url = server.url("/x", halting)
    fetch = asyncio.create_task(fetch_as(bench, ALICE, URI(url, cache=cache)))
    await halting.reached.wait()
    assert len(workers()) == 1
    assert len(bench.cached()) == cache
    fetch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetch
    assert workers() == []
    assert bench.cached() == []
    assert bench.fetcher.counters.cache_size_used_bytes == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
async def test_a_process_that_is_killed(bench: Bench, server: Server, number: int) -> None:
    halting = Halting(HALF, b"x", server)
    fetch = asyncio.create_task(fetch_as(bench, ALICE, URI(server.url("/x", halting), cache=True)))
    await halting.reached.wait()
    os.kill(workers()[0], number)
    with pytest.raises(FetchError, match=r"/x' cannot be fetched: the process that fetches it has ended"):
        await fetch
    assert bench.cached() == []
    assert (await fetch_as(bench, ALICE, URI(server.url("/x", b"data"), cache=True)) / "x").read_text() == "data"


@pytest.fixture
def acme(run_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fetcher of another package that starts a program, which never ends."""
    packages = run_directory / "packages"
    metadata = packages / "acme_fetcher-1.0.dist-info"
    metadata.mkdir(parents=True)
    started = run_directory / "started"
    os.mkfifo(started)
    started.chmod(0o666)
    (packages / "acme_fetcher.py").write_text(
        textwrap.dedent(f"""
        import subprocess

        class AcmeFetcher:
            def fetch(self, uri, target):
                script = 'trap "" TERM HUP; echo $$ > {started}; while :; do sleep 60; done'
                subprocess.run(["sh", "-c", script], check=True)
        """)
    )
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-fetcher\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[mesocosm.fetchers]\nacme = acme_fetcher:AcmeFetcher\n")
    bootstrap = f"import sys; sys.path.append({str(packages)!r}); {helper.BOOTSTRAP}"
    monkeypatch.setattr(helper, "BOOTSTRAP", bootstrap)
    return started


async def test_what_an_entry_point_started_ends_too(bench: Bench, acme: Path) -> None:
    fetch = asyncio.create_task(fetch_as(bench, ALICE, "acme://host/x"))
    pid = int(await asyncio.to_thread(acme.read_text))
    assert status(pid)["Uid"] == [str(ALICE.uid)] * 4
    fetch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetch
    await asyncio.to_thread(await_end, pid, time.monotonic() + TIMEOUT)
    assert not Path(f"/proc/{pid}").exists() or status(pid)["State"][0] == "Z"


AGENT = """
import asyncio, os, sys
from pathlib import Path
from mesocosm.container import URI, ContainerID
from mesocosm.fetcher.fetcher import Fetcher
from mesocosm.launcher.info import Credentials

root, url = Path(sys.argv[1]), sys.argv[2]
fetcher = Fetcher(root / "cache", 1 << 30, 60)
asyncio.run(fetcher.fetch(ContainerID("c"), [URI(url, cache=True)], root / "sandbox", Credentials(30001, 30001), 2))
"""


async def test_the_process_ends_with_its_agent(bench: Bench, server: Server) -> None:
    (bench.root / "sandbox").mkdir()
    owned(bench.root / "sandbox", ALICE.uid, ALICE.gid, 0o755)
    halting = Halting(HALF, b"x", server)
    url = server.url("/x", halting)
    agent = await asyncio.create_subprocess_exec(sys.executable, "-c", AGENT, str(bench.root), url)
    await halting.reached.wait()
    (worker,) = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
    (half,) = bench.cached()
    agent.kill()
    await agent.wait()
    await asyncio.to_thread(await_end, int(worker), time.monotonic() + TIMEOUT)
    assert not Path(f"/proc/{worker}").exists() or status(int(worker))["State"][0] == "Z"
    assert half.exists()
    await bench.fetcher.recover()
    assert bench.cached() == [], "the next agent removes it"


@pytest.fixture
def small(run_directory: Path) -> Iterator[Path]:
    """A file system of 64 kB."""
    directory = run_directory / "small"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=755", "tmpfs", directory], check=True)
    yield directory
    subprocess.run(["umount", directory], check=True)


async def test_a_full_disk(bench: Bench, small: Path) -> None:
    owned(small, ALICE.uid, ALICE.gid, 0o755)
    large = bench.file("large", b"x" * 200_000)
    with pytest.raises(FetchError, match="large' cannot be fetched: No space left on device"):
        await bench.fetch_into(small, large, user=ALICE)
    assert names(small) == []
    await bench.fetch_into(small, bench.file("test"), user=ALICE)


async def test_a_cache_on_a_full_disk(bench: Bench, small: Path) -> None:
    full = Bench(bench.root, type(bench.fetcher)(small, 1 << 20, TIMEOUT))
    large = str(bench.file("large", b"x" * 200_000))
    sandbox = await full.fetch(URI(large, cache=True))
    assert (sandbox / "large").stat().st_size == 200_000
    assert f"'{large}' is not cached: No space left on device" in full.log
    assert full.fetcher.counters.cache_size_used_bytes == 0
    await full.fetcher.close()
    assert names(small) == []
