"""`linux/nnp`: programs can be executed, and give nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesocosm.container import ContainerClass
from tests.launching import LINUX, Launch

pytestmark = pytest.mark.kernel
WITH, WITHOUT = f"{LINUX},linux/nnp", LINUX
FLAG = "sed -n 's/^NoNewPrivs:.*\\([01]\\)$/\\1/p' /proc/%s/status"


@pytest.mark.parametrize("user", [None, "nobody"])
async def test_every_container_has_the_flag(launch: Launch, user: str | None) -> None:
    assert await launch.output(FLAG % "self", isolation=WITH, user=user) == "1"
    assert await launch.output(FLAG % "1", isolation=WITH, user=user) == "1", "its init, too"


async def test_control_without_the_isolator(launch: Launch) -> None:
    own = Path("/proc/self/status").read_text().split("NoNewPrivs:", 1)[1].split()[0]
    assert await launch.output(FLAG % "self", isolation=WITHOUT) == own


@pytest.mark.parametrize(("isolation", "user"), [(WITH, "65534"), (WITHOUT, "0")])
async def test_a_set_user_id_program(launch: Launch, set_user_id_grep: str, isolation: str, user: str) -> None:
    command = [set_user_id_grep, "^Uid", "/proc/self/status"]
    output = await launch.output(command, isolation=isolation, user="nobody")
    assert output.split() == ["Uid:", "65534", user, user, user]


async def test_nested_and_debug_containers(launch: Launch) -> None:
    parent = await launch.sleeping(isolation=WITH)
    for container_class in ContainerClass:
        assert await launch.output(FLAG % "self", parent=parent, container_class=container_class) == "1"
