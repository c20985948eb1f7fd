"""The generated code of the messages."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.message import Message

from mesocosm.api import v1
from mesocosm.api.v1 import agent
from tests.setup.protos import SOURCES, generate


@pytest.mark.skipif(importlib.util.find_spec("grpc_tools") is None, reason="grpcio-tools is not installed")
def test_it_is_what_the_compiler_writes(tmp_path: Path) -> None:
    for made in generate(tmp_path):
        committed = SOURCES / made.relative_to(tmp_path)
        assert lines(committed) == lines(made), "run `python -m tests.setup.protos`"


def lines(file: Path) -> list[str]:
    """Without the parameters of stubs, which compilers write with types that are more or less exact."""
    return [line for line in file.read_text().splitlines() if "def __init__" not in line]


def test_names_are_those_of_mesos() -> None:
    assert agent.Call.DESCRIPTOR.full_name == "mesos.v1.agent.Call"
    messages = [entry for entry in vars(v1).values() if isinstance(entry, type) and issubclass(entry, Message)]
    assert {message.DESCRIPTOR.file.package for message in messages} == {"mesos.v1"}


def test_the_wire_is_that_of_mesos() -> None:
    """Written out by hand: field numbers are what is easily broken and seldom seen."""
    call = agent.Call(type=agent.Call.KILL_CONTAINER)
    call.kill_container.container_id.value = "kid"
    call.kill_container.container_id.parent.value = "top"
    call.kill_container.signal = 15
    identity = b"\x0a\x03kid\x12\x05\x0a\x03top"
    kill = b"\x0a" + bytes([len(identity)]) + identity + b"\x10\x0f"
    assert call.SerializeToString() == b"\x08\x18\x7a" + bytes([len(kill)]) + kill


def test_another_package_may_have_messages_of_these_names() -> None:
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("mesos.v1.ContainerID")


def test_the_messages_load_without_a_warning() -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", "import mesocosm.api.v1.agent"], check=True)
