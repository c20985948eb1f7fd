"""The agent as a service of systemd: what becomes of its containers when that is restarted, killed or stopped."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mesocosm.flags import Flags
from tests.agent_process import AgentProcess

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(
        "MESOCOSM_VM" not in os.environ or not Path("/run/systemd/private").exists(),
        reason="needs the virtual machine with systemd: python -m tests.vm --systemd",
    ),
]

CHECKOUT = Path(__file__).parents[2]
UNIT = CHECKOUT / "packaging" / "mesocosm-agent.service"
LOG = Path("/var/log/mesocosm/mesocosm-agent.log")
SECONDS = 120
"""How long anything may take: an agent needs ten to start here, and much more where others compute, too."""


@pytest.fixture(scope="module")
def service() -> AgentProcess:
    """The agent, installed as the unit says, and started."""
    shutil.copy(UNIT, "/etc/systemd/system")
    Path("/usr/bin/mesocosm").symlink_to(CHECKOUT / ".venv/bin/mesocosm")
    Path("/etc/default/mesocosm-agent").write_text(f"MESOS_LOG_DIR={LOG.parent}\n")
    run("systemctl", "daemon-reload")
    agent = AgentProcess(Flags(work_dir=Path("/var/lib/mesocosm"), runtime_dir=Path("/run/mesocosm")), LOG.parent)
    agent.host, agent.port = "127.0.0.1", 5051
    control("start")
    return agent


def test_it_is_active_when_it_can_be_asked(service: AgentProcess) -> None:
    assert show("ActiveState") == "active"
    assert service.get("/state").status == 200, "it has recovered"
    LOG.rename(LOG.with_suffix(".1"))
    control("reload")
    assert service.get("/health").status == 200
    assert LOG.exists()


def test_a_restart_leaves_containers_running(service: AgentProcess) -> None:
    with running(service, "web") as pidfd:
        old = show("MainPID")
        control("restart")
        assert show("MainPID") != old
        assert_runs(service, "web", pidfd)
        (service.sandbox("web") / "go").write_text("7\n")
        assert service.wait_for("web") == {"exit_status": 7 << 8}


def test_after_a_crash_it_comes_back_with_its_containers(service: AgentProcess) -> None:
    with running(service, "web2") as pidfd, journal() as lines:
        run("systemctl", "kill", "--kill-who=main", "--signal=KILL", UNIT.name)
        await_line(lines, "Scheduled restart job")
        await_line(lines, "Started mesocosm-agent.service")
        assert_runs(service, "web2", pidfd)
        (service.sandbox("web2") / "go").write_text("8\n")
        assert service.wait_for("web2") == {"exit_status": 8 << 8}


def test_the_journal_knows_the_levels(service: AgentProcess) -> None:
    assert service.launch("odd", "true", command={"user": "nosuch"}).status == 400
    output = run("journalctl", "--unit", UNIT.name, "--output=json", "--output-fields=PRIORITY,MESSAGE")
    entries = {entry["MESSAGE"]: entry["PRIORITY"] for entry in map(json.loads, output.splitlines())}
    assert entries["INFO mesocosm.agent.agent recovered 0 containers"] == "6"
    assert [priority for text, priority in entries.items() if "not launched" in text] == ["4"]
    assert "WARNING mesocosm.agent.agent not launched" in control("status", "--no-pager", "--full")


def test_stopped_it_leaves_containers_running(service: AgentProcess) -> None:
    with running(service, "web3") as pidfd:
        control("stop")
        assert show("ActiveState") == "inactive"
        assert not ended(pidfd)


def run(*command: str) -> str:
    """The output of a command."""
    result = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def control(verb: str, *options: str) -> str:
    """Does it with the service; returns what systemctl prints."""
    return run("systemctl", verb, *options, UNIT.name)


def show(name: str) -> str:
    """A property of the service."""
    return control("show", "--value", f"--property={name}").strip()


@contextmanager
def running(agent: AgentProcess, name: str) -> Iterator[int]:
    """A container that ends with the status that is written to `go` in its sandbox; its init, as a pidfd."""
    assert agent.launch(name, "mkfifo go; read status < go; exit $status").status == 200
    pidfd = os.pidfd_open(pid_of(agent, name))
    try:
        yield pidfd
    finally:
        os.close(pidfd)


def pid_of(agent: AgentProcess, name: str) -> int:
    pid: int = agent.containers()[name]["container_status"]["executor_pid"]
    return pid


def assert_runs(agent: AgentProcess, name: str, pidfd: int) -> None:
    """The container runs, is known, and is the one of the pidfd."""
    assert not ended(pidfd)
    fields = dict(line.split(":\t", 1) for line in Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines())
    assert pid_of(agent, name) == int(fields["Pid"])


def ended(pidfd: int) -> bool:
    return bool(select.select([pidfd], [], [], 0)[0])


@contextmanager
def journal() -> Iterator[int]:
    """What the journal has of the service so far, and what comes, as a descriptor to read from."""
    command = ["journalctl", "--follow", "--no-tail", "--output=cat", "--unit", UNIT.name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0) as follower:
        assert follower.stdout is not None
        try:
            yield follower.stdout.fileno()
        finally:
            follower.kill()


def await_line(descriptor: int, text: str) -> None:
    """Reads up to a line with `text` in it."""
    deadline = time.monotonic() + SECONDS
    line = b""
    while text.encode() not in line or not line.endswith(b"\n"):
        assert select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0], f"no {text!r}"
        line = (b"" if line.endswith(b"\n") else line) + os.read(descriptor, 1)
