"""`docker/runtime`: the launch command of an image and a command, and what else an image says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mesocosm.container import CommandInfo, ContainerConfig, ContainerID, ProvisionedImage
from mesocosm.containerizer.command import describe
from mesocosm.errors import ContainerError
from mesocosm.flags import Flags
from mesocosm.images.image import ImageConfig
from mesocosm.isolators.docker.runtime import DockerRuntimeIsolator, image_directory, launch_command
from tests.image_store import layer
from tests.launch_commands import CELLS, Cell

NAME = ContainerID("web")


def test_the_table_has_all_cells() -> None:
    assert len(CELLS) == 32


@pytest.mark.parametrize("cell", CELLS)
def test_the_launch_command(cell: Cell) -> None:
    if cell.executed is None:
        with pytest.raises(ContainerError, match=r"no command|no value"):
            launch_command(cell.command, cell.config)
        return
    found = launch_command(cell.command, cell.config)
    if cell.value:
        assert found == cell.command, "it is not touched"
    executed = describe(ContainerConfig(found), None, Flags()).command
    assert executed is not None
    assert executed.argv == cell.executed


@pytest.mark.parametrize(
    ("directory", "expected"),
    [(None, None), ("", None), ("/srv", "/srv"), ("srv/x", "/srv/x"), ("/../../etc", "/etc"), ("/a/../..//b/", "/b")],
)
def test_the_directory(directory: str | None, expected: str | None) -> None:
    assert image_directory(ImageConfig(working_directory=directory)) == expected


@pytest.fixture
def top(tmp_path: Path) -> Path:
    return layer(tmp_path / "top", {"etc/passwd": "app:x:1000:1000::/:/bin/sh\n", "etc/group": "logs:x:7:\n"})


async def completed(top: Path, image: dict[str, Any], *, ignores: bool = False, **config: Any) -> ContainerConfig:
    provisioned = ProvisionedImage(top, ImageConfig(**image))
    asked = ContainerConfig(config.pop("command", CommandInfo("true")), provisioned=provisioned, **config)
    return await DockerRuntimeIsolator(ignores=ignores).complete(NAME, asked)


async def test_what_the_container_says_goes_before_what_its_image_says(top: Path) -> None:
    image = {"environment": ("A=image", "B=image=x"), "working_directory": "/image", "user": "app"}
    found = await completed(top, image)
    assert (found.environment, found.working_directory, found.user) == ({"A": "image", "B": "image=x"}, "/image", "app")
    found = await completed(top, image, environment={"A": "own"}, working_directory="/own", user="root")
    assert (found.environment, found.working_directory, found.user) == ({"A": "own", "B": "image=x"}, "/own", "root")


async def test_variables_that_are_none_are_left_out(top: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = await completed(top, {"environment": ("novalue", "=noname", "EMPTY=", "A=1")})
    assert found.environment == {"EMPTY": "", "A": "1"}
    assert "'novalue'" in caplog.text


@pytest.mark.parametrize("user", ["nobodys", "app:nobodys", "daemon", "app:logs:x", "-1", "4294967296", "a\0b"])
async def test_a_user_that_the_image_has_not(top: Path, user: str) -> None:
    with pytest.raises(ContainerError, match=r"user|group"):
        await completed(top, {"user": user})
    assert (await completed(top, {"user": user}, user="root")).user == "root", "whom it names does not matter then"


@pytest.mark.parametrize("user", ["app", "app:logs", "1000", "5:6", "5:logs"])
async def test_users_that_it_has(top: Path, user: str) -> None:
    assert (await completed(top, {"user": user})).user == user


async def test_an_image_can_be_ignored(top: Path) -> None:
    image = {"environment": ("A=1",), "working_directory": "/image", "user": "nobodys", "cmd": ("/cmd",)}
    command = CommandInfo(shell=False)
    found = await completed(top, image, ignores=True, command=command)
    assert (found.command, found.environment, found.working_directory, found.user) == (command, {}, None, None)


async def test_a_container_without_an_image() -> None:
    config = ContainerConfig(CommandInfo())
    assert await DockerRuntimeIsolator().complete(NAME, config) is config
