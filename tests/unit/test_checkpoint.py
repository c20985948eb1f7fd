"""The state on disk: what is written is read again, and what was not written is refused with the file's name."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesocosm.container import (
    CommandInfo,
    ContainerClass,
    ContainerConfig,
    ContainerID,
    IpcMode,
    LinuxInfo,
    MountPropagation,
    Resources,
    Termination,
    Tmpfs,
    TTYInfo,
    Volume,
    VolumeMode,
)
from mesocosm.containerizer.checkpoint import Checkpoints, Launched, boot_id
from mesocosm.errors import RecoveryError
from tests.few_descriptors import only

X = ContainerID("x")
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
PATHS = st.builds(Path, st.from_regex(r"/[a-z\u00e4]{1,8}(/[a-z ]{1,8})*", fullmatch=True))
AMOUNTS = st.none() | st.integers(0, 2**53)
RESOURCES = st.builds(Resources, cpus=st.none() | st.floats(0, 1e6), mem=AMOUNTS, pids=AMOUNTS)
CONFIGS = st.builds(
    ContainerConfig,
    command=st.builds(CommandInfo, TEXT, st.lists(TEXT).map(tuple), st.booleans()),
    directory=st.none() | PATHS,
    rootfs=st.none() | PATHS,
    user=st.none() | TEXT,
    environment=st.dictionaries(TEXT, TEXT, max_size=3),
    volumes=st.lists(
        st.builds(Volume, TEXT, TEXT, st.sampled_from(VolumeMode), st.none() | st.sampled_from(MountPropagation))
    ).map(tuple),
    tmpfs=st.lists(st.builds(Tmpfs, TEXT, AMOUNTS)).map(tuple),
    linux_info=st.builds(LinuxInfo, st.booleans(), st.none() | st.sampled_from(IpcMode), AMOUNTS, st.booleans()),
    resources=RESOURCES,
    limits=RESOURCES,
    container_class=st.sampled_from(ContainerClass),
    tty_info=st.none() | st.builds(TTYInfo, st.integers(0, 500), st.integers(0, 500)),
)
LAUNCHED = st.builds(
    Launched,
    pid=st.integers(1, 2**22),
    started=st.none() | st.integers(0, 2**60),
    boot_id=TEXT,
    has_pid_namespace=st.booleans(),
    records_status=st.booleans(),
    environment=st.dictionaries(TEXT, TEXT, max_size=3),
    working_directory=st.none() | TEXT,
)
EXAMPLES = settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path)


@EXAMPLES
@given(CONFIGS)
def test_configs(checkpoints: Checkpoints, config: ContainerConfig) -> None:
    checkpoints.create(X, config)
    assert checkpoints.config(X) == config


@EXAMPLES
@given(LAUNCHED, st.builds(Termination, st.none() | st.integers(0, 2**16), st.none() | TEXT, st.none() | TEXT))
def test_records(checkpoints: Checkpoints, launched: Launched, termination: Termination) -> None:
    checkpoints.create(X, ContainerConfig(CommandInfo("true")))
    checkpoints.write_launched(X, launched)
    checkpoints.write_termination(X, termination)
    assert checkpoints.launched(X) == launched
    assert checkpoints.termination(X) == termination


def test_infinite_amounts(checkpoints: Checkpoints) -> None:
    config = ContainerConfig(CommandInfo("true"), limits=Resources(cpus=float("inf")))
    checkpoints.create(X, config)
    assert checkpoints.config(X) == config


@EXAMPLES
@given(st.data())
def test_damage_is_refused_with_the_files_name(checkpoints: Checkpoints, data: st.DataObject) -> None:
    """What still can be read is whole; all else names the file. Cut off, overwritten, or anything."""
    checkpoints.create(X, ContainerConfig(CommandInfo("true"), environment={"A": "1"}))
    file = checkpoints.directory(X) / "config"
    content = bytearray(file.read_bytes())
    kind = data.draw(st.sampled_from(["cut", "overwritten", "anything"]))
    if kind == "cut":
        del content[data.draw(st.integers(0, len(content) - 2)) :]
    elif kind == "overwritten":
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    else:
        content = bytearray(data.draw(st.binary(max_size=100)))
    file.write_bytes(content)
    try:
        assert isinstance(checkpoints.config(X), ContainerConfig)
    except RecoveryError as error:
        assert str(file) in str(error)  # noqa: PT017 - one of the two.


@pytest.mark.parametrize("version", ["2", "10", "1" * 5000])
def test_a_newer_version_is_refused(checkpoints: Checkpoints, version: str) -> None:
    checkpoints.create(X, ContainerConfig(CommandInfo("true")))
    file = checkpoints.directory(X) / "config"
    file.write_text(f'{{"version": {version}, "command": {{}}}}')
    with pytest.raises(RecoveryError, match=str(file)):
        checkpoints.config(X)


def test_a_file_in_place_of_a_container(checkpoints: Checkpoints) -> None:
    checkpoints.root.mkdir(parents=True)
    (checkpoints.root / "x").touch()
    with pytest.raises(RecoveryError, match=str(checkpoints.root / "x")):
        checkpoints.containers()


def test_nothing_is_half_written(checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash between two steps of a write leaves the old state."""
    config = ContainerConfig(CommandInfo("true"))
    checkpoints.create(X, config)

    def crash(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "rename", crash)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.create(X, ContainerConfig(CommandInfo("false")))
    assert checkpoints.config(X) == config


def test_containers_with_their_parents_first(checkpoints: Checkpoints) -> None:
    ids = [ContainerID.parse(text) for text in ("a", "a.b", "a.b.c", "b")]
    for container_id in reversed(ids):
        checkpoints.create(container_id, ContainerConfig(CommandInfo("true")))
    assert checkpoints.containers() == ids
    checkpoints.remove(ids[2])
    checkpoints.remove(ids[2])
    assert checkpoints.containers() == [ids[0], ids[1], ids[3]]
    checkpoints.remove(ids[0])
    assert checkpoints.containers() == [ids[3]]
    assert Checkpoints(checkpoints.root / "none").containers() == []


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_a_boot_whose_name_cannot_be_read_is_not_another_one() -> None:
    with only(0), pytest.raises(OSError, match="Too many open files"):
        boot_id()


def test_the_boot_has_a_name() -> None:
    assert boot_id() == boot_id()
