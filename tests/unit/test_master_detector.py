"""Which master leads: the one that is named, or the oldest of those that a real ZooKeeper knows."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from kazoo.security import make_digest_acl

from mesocosm.errors import FlagError, MasterError
from mesocosm.libprocess.address import ActorAddress
from mesocosm.master.detector import Detector, create_detector, local_address
from mesocosm.master.zookeeper import ZooKeeperDetector, ZooKeeperUrl
from tests.command_line import TIMEOUT
from tests.zookeeper import ZooKeeper, zookeeper

FIRST, SECOND = (ActorAddress("master", "127.0.0.1", port) for port in (5051, 5052))
SESSION = 2.0
"""Seconds: the longest that the server grants."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZooKeeper]:
    with zookeeper(tmp_path_factory.mktemp("zookeeper")) as running:
        yield running


@asynccontextmanager
async def detector(master: str) -> AsyncIterator[Detector]:
    found = create_detector(master, SESSION)
    try:
        yield found
    finally:
        await found.close()


async def next_leader(found: Detector, previous: ActorAddress | None) -> ActorAddress | None:
    return await asyncio.wait_for(found.detect(previous), TIMEOUT)


@pytest.mark.parametrize("text", ["127.0.0.1:5051", "master@127.0.0.1:5051", "localhost:5051\n"])
async def test_the_one_that_is_named_leads(text: str) -> None:
    async with detector(text) as found:
        assert await next_leader(found, None) == FIRST
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(found.detect(FIRST), 0.01)
        assert await next_leader(found, None) == FIRST
        assert await local_address(found) == "127.0.0.1"


@pytest.mark.parametrize("text", ["", "localhost", "localhost:x", "localhost:0", "http://h:5050/", ":5050"])
def test_what_names_no_master(text: str) -> None:
    with pytest.raises(FlagError, match="--master"):
        create_detector(text, SESSION)


async def test_a_host_that_there_is_not() -> None:
    async with detector("nowhere.invalid:5050") as found:
        with pytest.raises(MasterError, match="cannot be found"):
            await found.detect(None)


def test_urls_of_zookeeper() -> None:
    assert ZooKeeperUrl.parse("a:1,b/mesos/x/") == ZooKeeperUrl("a:1,b", "/mesos/x")
    assert ZooKeeperUrl.parse("me:pa@ss@a:1/m") == ZooKeeperUrl("a:1", "/m", "me:pa@ss")
    assert "secret" not in repr(ZooKeeperUrl.parse("me:secret@a:1/m"))


@pytest.mark.parametrize("text", ["", "/m", "a:1", "a:1/", "a:1,/m", "a:x/m", "me@a:1/m", ":p@a:1/m", "a:1//m"])
def test_what_is_no_url_of_zookeeper(text: str) -> None:
    with pytest.raises(FlagError) as caught:
        create_detector(f"zk://{text}", SESSION)
    assert ":p" not in str(caught.value)


async def test_the_oldest_leads_until_it_is_gone(server: ZooKeeper) -> None:
    """There is none at first, nor anything at the path."""
    async with detector(f"zk://{server.address}/mesos") as found:
        assert await found.reachable() == "127.0.0.1"
        with contextlib.ExitStack() as second:
            with server.master(str(FIRST)):
                assert await next_leader(found, None) == FIRST
                second.enter_context(server.master(str(SECOND)))
                with server.client() as client:
                    client.create("/mesos/log_replicas")
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(found.detect(FIRST), 0.1)
            assert await next_leader(found, FIRST) == SECOND
        assert await next_leader(found, SECOND) is None


async def test_a_session_that_expires_is_followed_by_another(tmp_path: Path) -> None:
    """Without a server, the master holds until the session must have ended."""
    with zookeeper(tmp_path) as server:
        async with detector(f"zk://{server.address}/mesos") as found:
            with server.master(str(FIRST)):
                assert await next_leader(found, None) == FIRST
                server.stop()
                assert await next_leader(found, FIRST) is None
            server.start()
            with server.master(str(SECOND)):
                leader = await next_leader(found, None)
                # A server that comes back gives a session some time again, and with it the node of the first master.
                assert leader == SECOND or (leader == FIRST and await next_leader(found, FIRST) == SECOND)


async def test_a_session_that_expires_says_nothing_of_the_master(server: ZooKeeper) -> None:
    """It leads before and after, so nobody registers anew."""
    loop, again = asyncio.get_running_loop(), asyncio.Event()
    states: list[str] = []

    def follow(state: str) -> None:
        states.append(state)
        if states[-2:] == ["LOST", "CONNECTED"]:
            loop.call_soon_threadsafe(again.set)

    async with detector(f"zk://{server.address}/expired") as found:
        with server.master(str(FIRST), "/expired"):
            assert await next_leader(found, None) == FIRST
            assert isinstance(found, ZooKeeperDetector)
            found._client.add_listener(follow)
            waiting = asyncio.create_task(found.detect(FIRST))
            with server.client(client_id=found._client.client_id):
                pass  # The end of the session is that of both.
            await asyncio.wait_for(again.wait(), TIMEOUT)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(waiting), 0.1)
        assert await asyncio.wait_for(waiting, TIMEOUT) is None


async def test_who_may_read(server: ZooKeeper) -> None:
    acl = [make_digest_acl("me", "secret", all=True)]
    with server.client(auth_data=[("digest", "me:secret")]) as client, server.master(str(FIRST), "/closed"):
        client.set_acls("/closed", acl)
        async with detector(f"zk://me:secret@{server.address}/closed") as found:
            assert await next_leader(found, None) == FIRST
        async with detector(f"zk://{server.address}/closed") as found:
            with pytest.raises(MasterError, match="NoAuthError"):
                await next_leader(found, None)


@pytest.mark.parametrize("label", ["info_", ""])
async def test_masters_that_are_too_old(server: ZooKeeper, label: str) -> None:
    with server.master(str(FIRST), "/old", label):
        async with detector(f"zk://{server.address}/old") as found:
            with pytest.raises(MasterError, match="writes no json"):
                await next_leader(found, None)


async def test_data_of_nobody(server: ZooKeeper) -> None:
    with server.client() as client:
        client.create("/broken/json.info_0000000001", b'{"pid": 1}', makepath=True)
    async with detector(f"zk://{server.address}/broken") as found:
        with pytest.raises(MasterError, match="no MasterInfo"):
            await next_leader(found, None)
