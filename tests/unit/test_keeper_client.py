"""Questions to a keeper, and answers that come when nobody waits for them any more."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from mesocosm.errors import ContainerError
from mesocosm.linux import descriptors
from mesocosm.switchboard import keeper_client
from mesocosm.switchboard.keeper import ATTACH, END
from mesocosm.switchboard.keeper_client import KeeperClient


def answer(theirs: socket.socket, word: bytes) -> int:
    """Sends it with the end of a pipe, and returns the other end, which reads the end once all copies are closed."""
    reader, writer = os.pipe()
    descriptors.send(theirs, word, (writer,))
    os.close(writer)
    return reader


async def test_an_answer_is_that_to_its_own_question(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    keeper = KeeperClient(ours, is_terminal=False)
    given_up = asyncio.create_task(keeper.attach())
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.wait([given_up])
    monkeypatch.setattr(keeper_client, "_PATIENCE", 0.01)
    with pytest.raises(ContainerError, match="has not answered for"):
        await keeper.attach()
    monkeypatch.undo()
    waiting = asyncio.create_task(keeper.attach())
    ending = asyncio.create_task(keeper.end())
    await asyncio.sleep(0)
    late = [answer(theirs, ATTACH), answer(theirs, ATTACH)]
    reader = answer(theirs, ATTACH)
    theirs.send(END)
    taken = await waiting
    await ending
    assert taken is not None
    os.write(taken, b"it")
    assert os.read(reader, 10) == b"it"
    assert [os.read(each, 1) for each in late] == [b"", b""], "nobody has what came too late"
    keeper.close()
    for descriptor in (taken, reader, *late):
        os.close(descriptor)
    theirs.close()
