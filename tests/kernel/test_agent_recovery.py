"""An agent that is killed, or ends, in the middle of anything: what the next one finds is true, and nothing is left."""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from mesocosm.linux import cgroup, process
from tests.agent_process import AgentProcess, Answer, identity
from tests.command_line import TIMEOUT, children
from tests.machine import await_end, hierarchies

pytestmark = pytest.mark.kernel

RECORDED = Path(__file__).parents[1] / "unit/data/runtime_1"
SLEEP = "sleep 1000"
UNKNOWN = {"message": "it ended while nobody watched, and its status is unknown"}
RESOURCES = [
    {"name": name, "type": "SCALAR", "scalar": {"value": amount}} for name, amount in (("cpus", 0.5), ("mem", 64.0))
]


def records(agent: AgentProcess) -> Path:
    return agent.flags.runtime_dir / "containers"


def record(agent: AgentProcess, name: str, kind: str) -> Path:
    return records(agent) / name / kind


def contents(directory: Path) -> dict[str, bytes | None]:
    """Everything in a directory, with None for directories."""
    return {str(path): None if path.is_dir() else path.read_bytes() for path in directory.rglob("*")}


def groups(agent: AgentProcess, name: str) -> list[Path]:
    """The cgroups of a container."""
    paths = (hierarchy / agent.flags.cgroups_root / name for hierarchy in hierarchies())
    return [path for path in paths if path.exists()]


def init_of(agent: AgentProcess, name: str) -> int:
    return int(agent.containers()[name]["container_status"]["executor_pid"])


def ended(answer: Answer) -> bool:
    """Whether WAIT_CONTAINER knows nothing of the container."""
    assert answer.status in (200, 404), answer.text
    return answer.status == 404


def wait(agent: AgentProcess, name: str) -> Answer:
    return agent.call("WAIT_CONTAINER", container_id=identity(name))


def await_process(pid: int) -> None:
    """Waits until a process has ended."""
    await_end(pid, time.monotonic() + TIMEOUT)
    assert not Path(f"/proc/{pid}").exists() or Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"


def refused(agent: AgentProcess, *arguments: str) -> str:
    """The last line of an agent that ends before it has begun."""
    agent.spawn(*arguments)
    assert agent.wait() not in (0, -signal.SIGKILL), agent.log.read_text()
    return agent.log.read_text().splitlines()[-1]


# Killed while it launches.


@dataclass
class Launches:
    """Containers that are launched at the same time, again and again, until the agent dies."""

    agent: AgentProcess
    life: int
    answered: dict[str, int] = field(default_factory=dict)
    """Those whose launch was answered, and the status that each ends with; -1 if it does not end by itself."""
    unanswered: dict[str, int] = field(default_factory=dict)
    first: threading.Event = field(default_factory=threading.Event)
    """An answer has come."""

    def run(self, worker: int) -> None:
        for number in range(1000):
            name, status = f"c{self.life}-{worker}-{number}", number % 7
            commands = {
                0: (SLEEP, -1),
                1: (f"exit {status}", status),
                2: (f"until [ -e go ]; do sleep 0.02; done; exit {status}", status),
            }
            command, status = commands[number % 3]
            self.unanswered[name] = status
            try:
                answer = self.agent.launch(name, command, resources=RESOURCES)
            except (OSError, http.client.HTTPException):
                return
            assert answer.status == 200, answer.text
            self.answered[name] = self.unanswered.pop(name)
            self.first.set()

    def let_end(self) -> None:
        """Those that wait for it end from now on."""
        for name in self.answered:
            (self.agent.sandbox(name) / "go").touch()

    def check(self) -> None:
        """Every container is there with its true state, or there is nothing of it."""
        running = self.agent.containers().keys()
        for name, status in self.answered.items():
            if status == -1:
                assert name in running
            else:
                assert self.agent.wait_for(name) == {"exit_status": status << 8}
        for name, status in self.unanswered.items():
            if name in running and status == -1:
                continue
            if name in running:
                (self.agent.sandbox(name) / "go").touch()
            answer = wait(self.agent, name)
            if answer.status == 404:
                assert not record(self.agent, name, "").exists()
                assert not self.agent.sandbox(name).exists()
                assert not groups(self.agent, name)
            else:
                assert answer.json["wait_container"] in ({"exit_status": status << 8}, UNKNOWN)


def test_killed_while_it_launches(agent: AgentProcess) -> None:
    seed = random.randrange(1 << 32)
    moments = random.Random(seed)
    print(f"seed {seed}")  # noqa: T201 - for who looks into a failure.
    lives: list[Launches] = []
    for life in range(6):
        agent.start()
        for earlier in lives:
            earlier.check()
        launches = Launches(agent, life)
        lives.append(launches)
        workers = [threading.Thread(target=launches.run, args=(worker,)) for worker in range(4)]
        for worker in workers:
            worker.start()
        if life % 2:
            assert launches.first.wait(TIMEOUT)
        time.sleep(moments.uniform(0.005, 0.3))
        assert agent.stop(signal.SIGKILL) == -signal.SIGKILL
        for worker in workers:
            worker.join(TIMEOUT)
        launches.let_end()
    agent.start()
    for launches in lives:
        launches.check()


def test_what_a_container_has_stays(agent: AgentProcess) -> None:
    """Its sandbox, its limits, and what was counted; and exit statuses, whoever was there to see them."""
    agent.start()
    work = "i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done; echo done; sleep 1000"
    assert agent.launch("x", work, resources=RESOURCES, limits={"cpus": {"value": 1.5}}).status == 200
    assert agent.launch("kid", "until [ -e go ]; do sleep 0.02; done; exit 4", nested_in="x").status == 200
    output = agent.sandbox("x") / "stdout"
    deadline = time.monotonic() + TIMEOUT
    while output.read_text() != "done\n":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    before = agent.containers()["x"]
    assert agent.stop(signal.SIGKILL) == -signal.SIGKILL
    (agent.sandbox("x") / "containers/kid/go").touch()
    agent.start()
    after = agent.containers()["x"]
    assert after["container_status"] == before["container_status"]
    then, now = before["resource_statistics"], after["resource_statistics"]
    for name in ("cpus_limit", "cpus_soft_limit", "mem_limit_bytes", "mem_soft_limit_bytes"):
        assert now[name] == then[name], name
    assert (now["cpus_limit"], now["mem_limit_bytes"]) == (1.5, 64 << 20)
    times = ("cpus_user_time_secs", "cpus_system_time_secs")
    assert sum(now[name] for name in times) >= sum(then[name] for name in times) > 0
    assert now.keys() == then.keys(), "pressure is counted again, for one"
    assert agent.get("/files/read?path=/containers/x/stdout&offset=0").json["data"] == "done\n"
    assert agent.wait_for("kid", nested_in="x") == {"exit_status": 4 << 8}


def test_what_is_left_of_the_one_before(agent: AgentProcess) -> None:
    """Its launcher, and an init that this has made in advance (not for v2), which a slow machine has not ended yet."""
    agent.start()
    assert agent.launch("x", SLEEP).status == 200
    init = init_of(agent, "x")
    (launcher,) = children(agent.pid)
    deadline = time.monotonic() + 0.5
    while len(left := [launcher, *(child for child in children(launcher) if child != init)]) < 2:
        if time.monotonic() > deadline:
            break
        time.sleep(0.005)
    for pid in left:
        os.kill(pid, signal.SIGSTOP)
    assert agent.stop(signal.SIGKILL) == -signal.SIGKILL
    try:
        agent.start()
        assert agent.containers().keys() == {"x"}
        assert agent.launch("y", "exit 5").status == 200
        assert agent.wait_for("y") == {"exit_status": 5 << 8}
    finally:
        for pid in left:
            os.kill(pid, signal.SIGCONT)
    for pid in left:
        await_process(pid)
    assert init_of(agent, "x") == init


# Damaged records.


@pytest.fixture
def killed(agent: AgentProcess) -> tuple[AgentProcess, int]:
    """An agent that was killed, with the containers `x`, `kid` in it, and `y`; and the init of `x`."""
    agent.start()
    shared = {"type": "MESOS", "linux_info": {"ipc_mode": "PRIVATE"}}
    assert agent.launch("x", SLEEP, container=shared).status == 200
    assert agent.launch("kid", SLEEP, nested_in="x").status == 200
    assert agent.launch("y", SLEEP).status == 200
    init = init_of(agent, "x")
    assert agent.stop(signal.SIGKILL) == -signal.SIGKILL
    return agent, init


@pytest.mark.parametrize(
    ("kind", "content", "text"),
    [
        ("config", '{"version": 1, "comm', "damaged"),
        ("pid", "", "damaged"),
        ("status", '{"version": 1, "sta', "damaged"),
        ("config", '{"version": 2}', "format version 2"),
        ("pid", '{"version": 99, "pid": []}', "format version 99"),
    ],
)
def test_a_damaged_record(killed: tuple[AgentProcess, int], kind: str, content: str, text: str) -> None:
    agent, init = killed
    damaged = record(agent, "x", kind)
    damaged.write_text(content)
    before = contents(agent.flags.runtime_dir)
    line = refused(agent)
    assert line.startswith(f"mesocosm: {damaged} ")
    assert text in line
    assert contents(agent.flags.runtime_dir) == before
    os.kill(init, 0)
    assert len(groups(agent, "x")) > 0

    agent.start("--no-strict")
    assert agent.containers().keys() == {"y"}
    await_process(init)
    assert ended(wait(agent, "x"))
    assert not groups(agent, "x")
    assert str(damaged) in agent.log.read_text()
    (aside,) = (agent.flags.runtime_dir / "damaged").glob("x-*/x")
    assert (aside / kind).read_text() == content
    assert str(aside) in agent.log.read_text()
    assert agent.launch("x", "exit 3").status == 200, "its name is free"
    assert agent.wait_for("x") == {"exit_status": 3 << 8}
    agent.stop()
    agent.start()
    assert agent.containers().keys() == {"y"}, "and it is no matter any more"


def test_what_is_no_record(killed: tuple[AgentProcess, int]) -> None:
    agent, _ = killed
    record(agent, "x", "config").unlink()
    strays = [records(agent) / where for where in ("not a name", "stray", "x/config", "y/containers")]
    for directory in (strays[0], strays[2]):
        directory.mkdir()
    for file in (strays[1], strays[3]):
        file.touch()
    before = contents(agent.flags.runtime_dir)
    line = refused(agent)
    assert any(line.startswith(f"mesocosm: {stray} is ") for stray in strays)
    assert contents(agent.flags.runtime_dir) == before
    agent.start("--no-strict")
    assert agent.containers().keys() == {"y"}
    aside = {path.name for path in (agent.flags.runtime_dir / "damaged").glob("*/*")}
    assert aside == {"not a name", "stray", "x", "containers"}
    assert not any(stray.exists() for stray in strays)


# A reboot.


def reboot(agent: AgentProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the agent finds another boot id: it is started in a mount namespace where that is covered."""
    other = agent.log.with_name("boot_id")
    other.write_text("00000000-0000-4000-8000-000000000000\n")
    script = f'mount --bind {other} /proc/sys/kernel/random/boot_id && exec "$@"'
    argv = agent.argv
    monkeypatch.setattr(
        agent,
        "argv",
        lambda *arguments, **options: ["unshare", "-m", "sh", "-c", script, "sh", *argv(*arguments, **options)],
    )


def test_a_reboot(agent: AgentProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records of containers that a machine took with it, one of them damaged by that."""
    agent.start()
    for name in ("x", "y"):
        assert agent.launch(name, SLEEP).status == 200
    inits = [init_of(agent, name) for name in ("x", "y")]
    agent.stop(signal.SIGKILL)
    for init in inits:
        os.kill(init, signal.SIGKILL)
        await_process(init)
    record(agent, "y", "config").write_bytes(b"")
    launched = json.loads(record(agent, "x", "pid").read_text())
    with subprocess.Popen(["sleep", "1000"]) as innocent:
        launched |= {"pid": innocent.pid, "started": process.start_time(innocent.pid)}
        record(agent, "x", "pid").write_text(json.dumps(launched))
        reboot(agent, monkeypatch)
        agent.start()
        assert agent.recovered == 0
        assert "the machine was booted" in agent.log.read_text()
        assert agent.wait_for("x") == UNKNOWN
        assert ended(wait(agent, "y")), "nobody asks whether it was damaged before the crash, or by it"
        assert agent.launch("z", SLEEP).status == 200
        assert agent.stop() == 0
        agent.start()
        assert "the machine was booted" not in agent.log.read_text()
        assert agent.containers().keys() == {"z"}
        assert agent.wait_for("x") == UNKNOWN
        assert innocent.poll() is None, "that now has the pid of a container's init"
        innocent.kill()
        agent.end()


def test_records_of_an_earlier_version(agent: AgentProcess) -> None:
    """See tests/unit/test_checkpoint_upgrade.py. They are of another boot, too."""
    shutil.copytree(RECORDED / "containers", records(agent))
    agent.start()
    assert agent.recovered == 0
    assert agent.wait_for("old") == {"exit_status": 3 << 8}
    assert agent.wait_for("web") == UNKNOWN
    assert agent.wait_for("probe", nested_in="web")["reason"] == "REASON_CONTAINER_LIMITATION_MEMORY"
    assert agent.call("REMOVE_CONTAINER", container_id=identity("web")).status == 200
    agent.stop()
    agent.start()
    assert agent.wait_for("old") == {"exit_status": 3 << 8}
    assert ended(wait(agent, "web"))


# Two agents, and an agent that ends.


@pytest.mark.parametrize("shared", ["work_dir", "runtime_dir"])
def test_a_second_agent_that_shares_a_directory(agent: AgentProcess, shared: str, run_directory: Path) -> None:
    agent.start()
    assert agent.launch("x", SLEEP).status == 200
    before = contents(agent.flags.runtime_dir)
    other = "runtime_dir" if shared == "work_dir" else "work_dir"
    flags = replace(agent.flags, **{other: run_directory / "other"})  # type: ignore[arg-type]
    second = AgentProcess(flags, run_directory / "log")
    second.log.parent.mkdir()
    line = refused(second)
    assert line.startswith(f"mesocosm: --{shared}: {getattr(agent.flags, shared)}")
    assert "is in use by another process" in line
    assert contents(agent.flags.runtime_dir) == before
    assert agent.containers().keys() == {"x"}


def test_cleanup(killed: tuple[AgentProcess, int]) -> None:
    agent, init = killed
    record(agent, "y", "config").write_text("{")
    assert refused(agent, "--recover=cleanup").startswith(f"mesocosm: {record(agent, 'y', 'config')} is damaged")
    os.kill(init, 0)
    agent.spawn("--recover=cleanup", "--no-strict")
    assert agent.wait() == 0
    await_process(init)
    agent.start()
    assert agent.containers() == {}
    assert agent.wait_for("x") == {"exit_status": signal.SIGKILL}
    assert agent.wait_for("kid", nested_in="x") == {"exit_status": signal.SIGKILL}
    assert agent.sandbox("x").exists()


def test_sigterm_while_it_recovers(killed: tuple[AgentProcess, int]) -> None:
    """It waits for the init of `slow`, which is none and so never gets as far as an init would."""
    agent, init = killed
    with subprocess.Popen(["sleep", "1000"], stdin=subprocess.DEVNULL) as slow:
        shutil.copytree(records(agent) / "y", records(agent) / "slow")
        launched = json.loads(record(agent, "slow", "pid").read_text())
        launched |= {"pid": slow.pid, "started": process.start_time(slow.pid)}
        record(agent, "slow", "pid").write_text(json.dumps(launched))
        before = contents(agent.flags.runtime_dir)
        agent.spawn()
        agent.await_log(re.compile("listening on"))
        time.sleep(0.3)  # A part of the time that it waits.
        assert agent.stop() == 0
        assert "recovered" not in agent.log.read_text()
        assert slow.poll() is None
        slow.kill()
    assert contents(agent.flags.runtime_dir) == before
    agent.start()
    assert agent.containers().keys() == {"x", "kid", "y"}
    assert init_of(agent, "x") == init
    assert agent.wait_for("slow") == UNKNOWN


@contextmanager
def silent_server() -> Iterator[str]:
    """The URL of something that never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/file"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_ended_in_the_middle_of_a_launch(agent: AgentProcess, number: signal.Signals) -> None:
    answers: list[Answer] = []

    def launch(url: str) -> None:
        with suppress(OSError, http.client.HTTPException):
            command = {"value": "exit 3", "uris": [{"value": url}]}
            answers.append(agent.call("LAUNCH_CONTAINER", container_id=identity("x"), command=command))

    agent.start()
    with silent_server() as url:
        launching = threading.Thread(target=launch, args=(url,))
        launching.start()
        deadline = time.monotonic() + TIMEOUT
        while "FETCHING" not in agent.get("/containerizer/debug").text:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        assert agent.stop(number) == (0 if number == signal.SIGTERM else -number)
        launching.join(TIMEOUT)
    if number == signal.SIGTERM:
        assert not record(agent, "x", "").exists()
        assert not groups(agent, "x")
        assert not agent.sandbox("x").exists()
        assert [answer.status for answer in answers] == [400]
    agent.start()
    assert agent.recovered == 0
    assert ended(wait(agent, "x"))
    assert not record(agent, "x", "").exists()
    assert not groups(agent, "x")
    assert agent.launch("x", "exit 3").status == 200
    assert agent.wait_for("x") == {"exit_status": 3 << 8}


def test_one_that_cannot_be_taken_apart(killed: tuple[AgentProcess, int]) -> None:
    """It keeps no agent from starting, and is tried again when that ends. Others go on."""
    agent, init = killed
    cpu = cgroup.hierarchies().of("cpu")
    if cpu is None or cpu.version == 2:
        pytest.skip("all that is in a cgroup of v2 is killed")
    os.kill(init, signal.SIGKILL)
    await_process(init)
    group = Path(cpu.group(agent.flags.cgroups_root, "x"))
    with subprocess.Popen(["sleep", "1000"]) as intruder:
        cgroup.assign(str(group), intruder.pid)
        agent.start("--cgroups_destroy_timeout=500ms")
        assert re.search(f"x could not be taken apart: .*{intruder.pid}", agent.log.read_text())
        assert agent.containers().keys() == {"x", "y"}
        assert agent.get("/metrics/snapshot").json["containerizer/mesos/container_destroy_errors"] > 0
        assert agent.launch("z", "exit 5").status == 200
        assert agent.wait_for("z") == {"exit_status": 5 << 8}
        other = init_of(agent, "y")
        assert agent.stop() != 0
        assert "x could not be taken apart" in agent.log.read_text().splitlines()[-1]
        agent.start("--cgroups_destroy_timeout=500ms")
        assert init_of(agent, "y") == other
        intruder.kill()
    assert agent.stop() == 0
    assert not group.exists()
    agent.start()
    assert agent.wait_for("x") == UNKNOWN


# A full disk.


@pytest.fixture
def small_disk(run_directory: Path) -> Iterator[Path]:
    directory = run_directory / "disk"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k,nr_inodes=100", "none", directory], check=True)
    yield directory
    subprocess.run(["umount", "-l", directory], check=True)


@contextmanager
def full(directory: Path) -> Iterator[None]:
    """The disk of `directory` has no room, and none for another name."""
    with suppress(OSError), (directory / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    with suppress(OSError):
        for number in range(1000):
            (directory / f"filler{number}").touch()
    try:
        yield
    finally:
        for filler in directory.glob("filler*"):
            filler.unlink()


@pytest.mark.parametrize("place", ["runtime_dir", "work_dir"])
def test_a_full_disk(small_disk: Path, agent: AgentProcess, place: str) -> None:
    agent.flags = replace(agent.flags, **{place: small_disk / "here"})  # type: ignore[arg-type]
    with full(small_disk):
        line = refused(agent)
        assert "No space left on device" in line
        assert str(small_disk) in line
    agent.start()
    assert agent.launch("x", SLEEP).status == 200
    assert agent.launch("y", "until [ -e /tmp/none ]; do sleep 1; done").status == 200
    with full(small_disk):
        answer = agent.launch("z", "exit 5")
        assert answer.status == 400
        assert "No space left on device" in answer.text
        assert str(small_disk) in answer.text
        assert not record(agent, "z", "").exists()
        assert not agent.sandbox("z").exists()
        assert agent.stop(signal.SIGKILL) == -signal.SIGKILL
        agent.start()
        assert agent.containers().keys() == {"x", "y"}
        assert agent.get("/health").status == 200
        assert agent.call("KILL_CONTAINER", container_id=identity("y"), signal=15).status == 200
        assert agent.wait_for("y") == {"exit_status": 15}
    assert agent.launch("z", "exit 5").status == 200
    assert agent.wait_for("z") == {"exit_status": 5 << 8}
    assert agent.stop() == 0
    agent.start()
    assert agent.wait_for("y") == {"exit_status": 15}, "it was recorded when there was room"


def test_an_end_that_could_not_be_recorded(small_disk: Path, agent: AgentProcess) -> None:
    """If the agent is killed then, nobody knows it; but nothing else is said."""
    agent.flags = replace(agent.flags, runtime_dir=small_disk / "here")
    agent.start()
    assert agent.launch("x", "until [ -e go ]; do sleep 0.02; done; exit 5").status == 200
    with full(small_disk):
        (agent.sandbox("x") / "go").touch()
        assert agent.wait_for("x") == {"exit_status": 5 << 8}
        assert "the end of x is not recorded" in agent.log.read_text()
        assert agent.stop(signal.SIGKILL) == -signal.SIGKILL
    for _ in range(2):
        agent.start()
        assert agent.wait_for("x") == UNKNOWN
        assert agent.stop() == 0
