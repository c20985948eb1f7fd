"""`mesocosm.run`: what it returns, from many threads, event loops and forks, and what is left at the exit."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import mesocosm
from mesocosm.errors import CommandError, ContainerError, FlagError, MesocosmError
from mesocosm.linux import cgroup
from mesocosm.oneshot import janitor, runner
from mesocosm.oneshot.place import Place
from tests.command_line import TIMEOUT, kill_whole, line
from tests.limits import few_descriptors

pytestmark = pytest.mark.kernel
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch, run_directory: Path, unique_name: str) -> Iterator[Path]:
    """Where the places of a test are; at its end, all of them are gone."""
    choose = Place.choose
    monkeypatch.setattr(Place, "choose", lambda: choose(f"{unique_name}-{os.urandom(4).hex()}", run_directory / "run"))
    yield run_directory / "run/run"
    runner.close()
    assert not list((run_directory / "run").glob("run/*"))


@pytest.fixture(scope="module", autouse=True)
def _standing_directories() -> None:
    for directory in ("/run/mesocosm/run", "/var/lib/mesocosm/run"):
        Path(directory).mkdir(mode=0o711, parents=True, exist_ok=True)


@pytest.mark.usefixtures("places")
class TestRun:
    def test_streams_and_status(self) -> None:
        result = mesocosm.run("cat; echo err >&2; exit 3", input="in")
        assert (result.stdout, result.stderr, result.exit_status, result.signal) == (b"in", b"err\n", 3, None)
        assert mesocosm.run(["echo", "$HOME"]).text == "$HOME\n"
        assert mesocosm.run("cat").stdout == b""

    def test_rights(self) -> None:
        show = "sed -n 's/^CapEff:.*\\(.\\)$/\\1/p; s/^NoNewPrivs:.*\\(.\\)$/\\1/p' /proc/self/status; ulimit -n"
        confined = mesocosm.run(show, cap_drop=["ALL"], no_new_privileges=True, rlimits=["nofile=50"])
        assert confined.text.split() == ["0", "1", "50"]
        assert mesocosm.run(show).text.split()[:2] == ["f", "0"], "the control"
        with pytest.raises(FlagError, match="--cap-add: there is no capability 'X'"):
            mesocosm.run("true", cap_add=["X"])

    def test_binary_data(self) -> None:
        data = os.urandom(1 << 20) * 5
        assert mesocosm.run(["cat"], input=data).stdout == data

    def test_input_that_nobody_reads(self) -> None:
        assert mesocosm.run(["true"], input=b"x" * (1 << 20)).ok

    def test_signal(self) -> None:
        result = mesocosm.run("kill -USR1 $$")
        assert (result.exit_status, result.signal) == (128 + signal.SIGUSR1, signal.SIGUSR1)

    def test_timeout(self) -> None:
        result = mesocosm.run("trap '' TERM; echo up; sleep 60", timeout="300ms")
        assert (result.exit_status, result.limit, result.text) == (124, "timeout", "up\n")
        assert 0.3 <= result.wall_time < 10
        assert mesocosm.run(["true"], timeout=TIMEOUT).limit is None

    def test_memory(self) -> None:
        hog = [sys.executable, "-c", "x = b'x' * 100_000_000"]
        limited = mesocosm.run(hog, mem="48MB")
        assert (limited.limit, limited.exit_status) == ("mem", 137)
        assert (limited.message or "").startswith("Memory limit exceeded: Requested: 48MB")
        free = mesocosm.run(hog)
        assert free.ok
        assert (free.peak_memory or 0) > 100_000_000

    def test_pids(self) -> None:
        script = "i=0; while [ $i -lt 20 ]; do sleep 60 & i=$((i+1)); echo $i; done"
        assert mesocosm.run(script, pids=8).text.split()[-1] == "6"  # With the init and the shell.
        assert mesocosm.run(script).text.split()[-1] == "20"

    def test_cpu_time(self) -> None:
        result = mesocosm.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.5: pass"], cpus=0.5)
        assert 0.4 < result.cpu_time < 5
        assert result.wall_time > 0.8  # Half of a CPU.

    def test_output_is_bounded(self) -> None:
        result = mesocosm.run("yes | head -c 50000000; echo end >&2", max_output=1000)
        assert (len(result.stdout), result.truncated, result.exit_status) == (1000, True, 0)
        assert result.stderr == b"end\n"  # It could write to the end.
        assert not mesocosm.run("printf 12345", max_output=5).truncated

    def test_options(self, writable_rootfs: Path, run_directory: Path) -> None:
        (run_directory / "data").write_text("shared")
        result = mesocosm.run(
            "id -un; pwd; echo $A; cat /data; touch /new",
            rootfs=writable_rootfs,
            read_only=True,
            user="app",
            workdir="/home/app",
            env={"A": "b"},
            volumes=[f"{run_directory}/data:/data:ro"],
        )
        assert result.text == "app\n/home/app\nb\nshared"
        assert "Read-only file system" in result.error_text

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            ({"command": ["no-such-command"]}, CommandError),
            ({"command": []}, ContainerError),
            ({"command": ["true"], "user": "no-such-user"}, ContainerError),
            ({"command": ["true"], "mem": "much"}, FlagError),
            ({"command": ["true"], "volumes": ["/no/such:/x"]}, FlagError),
            ({"command": ["true"], "isolation": "nope"}, FlagError),
        ],
    )
    def test_errors(self, arguments: dict[str, object], error: type[Exception]) -> None:
        with pytest.raises(error):
            mesocosm.run(**arguments)  # type: ignore[arg-type]

    def test_the_containerizer_stays(self, places: Path) -> None:
        mesocosm.run(["true"])
        first = list(places.iterdir())
        mesocosm.run(["true"])
        assert list(places.iterdir()) == first

    def test_it_is_closed_while_a_command_runs(self, run_directory: Path) -> None:
        marker = run_directory / "marker"
        mesocosm.run(["true"])
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(mesocosm.run, f"touch {marker}; sleep 60")
            _await_file(marker)
            runner.close()
            assert running.result(TIMEOUT).signal == signal.SIGKILL

    def test_without_descriptors_for_its_streams(self) -> None:
        assert mesocosm.run(["cat"], input="text").text == "text"
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(20):
            with few_descriptors(3), pytest.raises(ContainerError, match="Too many open files"):
                mesocosm.run(["cat"], input="text")
        # Some more or less are those of the init that is made ready for the next.
        assert len(list(Path("/proc/self/fd").iterdir())) < before + 20
        assert mesocosm.run(["cat"], input="text").text == "text"

    def test_one_that_cannot_be_removed_keeps_no_other(self, places: Path) -> None:
        mesocosm.run(["true"], isolation="filesystem/linux,namespaces/pid")
        mesocosm.run(["true"])
        busy = max(places.iterdir(), key=lambda path: path.stat().st_mtime)
        groups = (hierarchy.group(f"mesocosm/{busy.name}") for hierarchy in cgroup.hierarchies().mounted)
        with subprocess.Popen(["sleep", "1000"]) as intruder:
            cgroup.assign(next(group for group in groups if cgroup.exists(group)), intruder.pid)
            with pytest.raises(MesocosmError, match="busy"):
                runner.close()
            intruder.kill()
        assert [path.name for path in places.iterdir()] == [busy.name]
        assert not [thread for thread in threading.enumerate() if thread.name == "mesocosm"]
        subprocess.run(janitor.command_line(places), check=True)
        assert list(places.iterdir()) == []

    def test_many_threads(self) -> None:
        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(lambda number: mesocosm.run(f"echo {number}; exit {number}"), range(24)))
        assert [(result.exit_status, result.text) for result in results] == [(n, f"{n}\n") for n in range(24)]

    async def test_inside_an_event_loop(self) -> None:
        assert mesocosm.run("echo loop").text == "loop\n"
        results = await asyncio.gather(*(asyncio.to_thread(mesocosm.run, f"exit {n}") for n in range(4)))
        assert [result.exit_status for result in results] == [0, 1, 2, 3]

    def test_an_interrupted_call_ends_its_container(self, places: Path, run_directory: Path) -> None:
        marker = run_directory / "marker"
        mesocosm.run(["true"])
        main = threading.main_thread().ident
        assert main is not None
        waiter = threading.Thread(target=_interrupt_once_made, args=(marker, main))
        waiter.start()
        with pytest.raises(KeyboardInterrupt):
            mesocosm.run(f"touch {marker}; sleep 60")
        waiter.join()
        # The next is served by the same loop, in which the end of the first was begun before.
        mesocosm.run(["true"])
        runner.close()
        assert not list(places.iterdir())

    def test_a_forked_child_starts_its_own(self) -> None:
        mesocosm.run(["true"])
        reading, writing = os.pipe()
        if (pid := os.fork()) == 0:
            status = 1
            try:
                os.write(writing, mesocosm.run("echo child").stdout)
                runner.close()
                status = 0
            finally:
                os._exit(status)
        os.close(writing)
        assert os.waitpid(pid, 0)[1] == 0
        with open(reading, "rb") as pipe:
            assert pipe.read() == b"child\n"
        assert mesocosm.run("echo parent").text == "parent\n"


def _await_file(file: Path) -> None:
    """Returns once the container has made a file: its output, which would tell of it, is collected."""
    deadline = time.monotonic() + TIMEOUT
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.01)


def _interrupt_once_made(marker: Path, thread: int) -> None:
    """As a ^C does."""
    _await_file(marker)
    signal.pthread_kill(thread, signal.SIGINT)


SCRIPT = """\
import mesocosm, os, sys, threading
choose = mesocosm.oneshot.place.Place.choose.__func__
choose.__defaults__ = ({name!r}, mesocosm.oneshot.place.Path({directory!r}), *choose.__defaults__[2:])
assert mesocosm.run(["true"]).ok
threading.Thread(target=lambda: mesocosm.run({command!r}), daemon=True).start()
{then}
"""


def _script(run_directory: Path, name: str, then: str) -> list[str]:
    marker = run_directory / "marker"
    text = "import mesocosm.oneshot.place\n" + SCRIPT.format(
        name=name, directory=str(run_directory / "run"), command=f"echo up > {marker}; sleep 60", then=then
    )
    wait = f"import time\nwhile not os.path.exists({str(marker)!r}): time.sleep(0.01)\n"
    return [sys.executable, "-c", text.replace(then, wait + then)]


def test_the_exit_ends_what_runs(run_directory: Path, unique_name: str) -> None:
    argv = _script(run_directory, unique_name, "print('bye')")
    result = subprocess.run(argv, capture_output=True, timeout=TIMEOUT, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"bye\n", b"")
    assert not list((run_directory / "run/run").iterdir())
    assert not Path("/var/lib/mesocosm/run", unique_name).exists()


def test_killed(run_directory: Path, unique_name: str) -> None:
    argv = _script(run_directory, unique_name, "print('up', flush=True); sys.stdin.read()")
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stdin=subprocess.PIPE) as process:
        assert line(process) == "up"
        kill_whole(process)
    assert not list((run_directory / "run/run").iterdir())
    assert not Path("/var/lib/mesocosm/run", unique_name).exists()


EXPECTED = {
    "oneliner": ["hello from", "and from outside", "exit status 0"],
    "judge": [
        *("right accepted", "wrong wrong answer", "crashes runtime error, exit status 3"),
        *("loops time limit exceeded", "hoards memory limit exceeded", "babbles output limit exceeded"),
        "forks runtime error",
    ],
    "async_many": ["20 containers, exit statuses [0, 1, 2, 0, 1, 2,"],
    "nested": ["parent.child ended with 0: I am process", "parent.other ended with its parent: 137"],
}


@pytest.mark.parametrize("name", EXPECTED)
def test_example(name: str) -> None:
    result = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py"], capture_output=True, text=True, timeout=2 * TIMEOUT, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
    lines = [" ".join(output.split()) for output in result.stdout.splitlines()]
    assert len(lines) == len(EXPECTED[name])
    assert all(output.startswith(expected) for output, expected in zip(lines, EXPECTED[name], strict=True))


def test_every_example_is_tested() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(EXPECTED)
