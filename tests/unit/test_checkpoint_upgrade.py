"""Runtime directories of earlier versions are read: `data/runtime_N` has one in format N, as it was written first.

Who changes the format makes another directory there, and leaves those that there are. A new field is no change.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from mesocosm.container import (
    URI,
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
from mesocosm.containerizer.checkpoint import FORMAT_VERSION, Checkpoints, Launched
from mesocosm.statistics import ResourceStatistics

DATA = Path(__file__).with_name("data")
WEB, OLD = ContainerID("web"), ContainerID("old")
PROBE = ContainerID("probe", WEB)
BOOT = "5f0c5c1e-6f6f-4a5e-9b0a-0d3f7c7f5f10"

CONFIGS = {
    WEB: ContainerConfig(
        CommandInfo("serve --port 80", uris=(URI("http://a.example/b.tgz", cache=True, output_file="b"),)),
        directory=Path("/var/lib/mesocosm/containers/web"),
        rootfs=Path("/srv/rootfs"),
        rootfs_read_only=True,
        user="nobody",
        environment={"HOME": "/tmp", "GREETING": "na\u00efve"},
        working_directory="data",
        volumes=(Volume("/data", "/srv/data", VolumeMode.RO, MountPropagation.HOST_TO_CONTAINER),),
        tmpfs=(Tmpfs("/tmp", 1 << 20),),
        linux_info=LinuxInfo(share_pid_namespace=True, ipc_mode=IpcMode.PRIVATE, shm_size=1 << 20),
        resources=Resources(cpus=0.5, mem=64 << 20, pids=100),
        limits=Resources(cpus=math.inf),
        tty_info=TTYInfo(40, 120),
    ),
    PROBE: ContainerConfig(
        CommandInfo.of(("probe", "-v")),
        directory=Path("/var/lib/mesocosm/containers/web/containers/probe"),
        container_class=ContainerClass.DEBUG,
    ),
    OLD: ContainerConfig(CommandInfo("exit 3"), directory=Path("/var/lib/mesocosm/containers/old")),
}
LAUNCHED = {
    WEB: Launched(4711, 123456, BOOT, True, False, {"PATH": "/bin"}, "/mnt/mesos/sandbox/data"),
    PROBE: Launched(4712, 123457, BOOT, has_pid_namespace=False, records_status=False),
}
TERMINATIONS = {
    PROBE: Termination(
        9,
        "REASON_CONTAINER_LIMITATION_MEMORY",
        "Memory limit exceeded",
        "mem",
        ResourceStatistics(timestamp=1.5, mem_maximum_bytes=1 << 26),
    ),
    OLD: Termination(3 << 8),
}


def write(runtime_dir: Path) -> None:
    """What the directory of this version is made of."""
    checkpoints = Checkpoints(runtime_dir)
    for container_id, config in CONFIGS.items():
        checkpoints.create(container_id, config)
    for container_id, launched in LAUNCHED.items():
        checkpoints.write_launched(container_id, launched)
    for container_id, termination in TERMINATIONS.items():
        checkpoints.write_termination(container_id, termination)


def contents(directory: Path) -> dict[str, Any]:
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): json.loads(path.read_text()) for path in files}


def common(written: Any, recorded: Any) -> Any:
    """What was written, without the fields that were not recorded."""
    if isinstance(recorded, list) and isinstance(written, list) and len(recorded) == len(written):
        return [common(*pair) for pair in zip(written, recorded, strict=True)]
    if not isinstance(recorded, dict) or not isinstance(written, dict):
        return written
    return {key: common(value, recorded[key]) for key, value in written.items() if key in recorded}


def test_format_1_is_read() -> None:
    checkpoints = Checkpoints(DATA / "runtime_1")
    assert set(checkpoints.containers()) == set(CONFIGS)
    for container_id, config in CONFIGS.items():
        assert checkpoints.config(container_id) == config
        assert checkpoints.launched(container_id) == LAUNCHED.get(container_id)
        assert checkpoints.termination(container_id) == TERMINATIONS.get(container_id)


def test_what_is_written_is_what_was_recorded(tmp_path: Path) -> None:
    """So that an earlier version of the same format can read it."""
    write(tmp_path)
    recorded = contents(DATA / f"runtime_{FORMAT_VERSION}")
    assert common(contents(tmp_path), recorded) == recorded


def test_fields_that_a_record_lacks_have_their_defaults(tmp_path: Path) -> None:
    """A version that knows more reads what one wrote that knew less."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.create(OLD, CONFIGS[OLD])
    (checkpoints.directory(OLD) / "config").write_text('{"version": 1, "command": {"value": "exit 3"}, "later": 1}')
    assert checkpoints.config(OLD) == replace(CONFIGS[OLD], directory=None)
