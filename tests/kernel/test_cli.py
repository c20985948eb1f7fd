"""`mesocosm run` as a process: streams, signals, exit statuses, terminals, and what is left when it is killed."""

from __future__ import annotations

import hashlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pexpect
import pytest

from tests.command_line import MESOCOSM, TIMEOUT, CommandLine, children, kill_whole, line, stop

pytestmark = pytest.mark.kernel

STATUSES = {
    "success": (["true"], 0),
    "failure": (["sh", "-c", "exit 3"], 3),
    "signal": (["sh", "-c", "kill -TERM $$"], 143),
    "kill": (["sh", "-c", "kill -KILL $$"], 137),
    "timeout": (["--timeout", "0.3", "--", "sleep", "60"], 124),
    "not found": (["no-such-command"], 127),
    "not executable": (["/etc/passwd"], 126),
    "a directory": (["/etc"], 126),
    "no user": (["--user", "no-such-user", "--", "true"], 125),
    "no directory": (["--workdir", "/no/such", "--", "true"], 125),
    "bad option": (["--mem", "lots", "--", "true"], 125),
}


@pytest.fixture
def cli(run_directory: Path, unique_name: str) -> CommandLine:
    return CommandLine(run_directory, unique_name)


@pytest.mark.parametrize(("arguments", "status"), STATUSES.values(), ids=STATUSES)
def test_exit_status(cli: CommandLine, arguments: list[str], status: int) -> None:
    result = cli.run(*arguments)
    assert result.returncode == status
    lines = result.stderr.decode().splitlines()
    # A line only where the status is this program's, not the command's.
    assert len(lines) == (1 if 124 <= status <= 127 else 0)
    assert all(entry.startswith("mesocosm: ") for entry in lines)
    assert not cli.left()


def test_default_directories_are_private_and_removed(unique_name: str) -> None:
    """Made before the test, as the directories above those of a run stay."""
    cli = CommandLine(Path("/nonexistent"), unique_name)
    script = f"pwd; stat -c '%a %U' /run/mesocosm/run/{unique_name}; cat /proc/self/cgroup"
    argv = [*MESOCOSM, "run", "--name", unique_name, "--", "sh", "-c", script]
    result = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT, check=True)
    directory, mode, *cgroups = result.stdout.splitlines()
    assert directory.startswith(f"/var/lib/mesocosm/run/{unique_name}/")
    assert mode == "700 root"
    assert any(f"/mesocosm/{unique_name}/" in group for group in cgroups)
    assert not cli.left()


@pytest.fixture(scope="module", autouse=True)
def _standing_directories() -> None:
    for directory in ("/run/mesocosm/run", "/var/lib/mesocosm/run"):
        Path(directory).mkdir(mode=0o711, parents=True, exist_ok=True)


def test_the_default_isolates(cli: CommandLine) -> None:
    script = "echo $$; ls /proc | grep -c '^[0-9]'; ls /dev/shm | wc -l; cat /proc/self/cgroup"
    result = cli.run("--verbose", "--mem", "64MB", "--", "sh", "-c", script)
    pid, processes, shared, *cgroups = result.stdout.decode().splitlines()
    assert int(pid) < 20
    assert int(processes) < 10
    assert int(shared) == 0
    assert any(cli.name in group for group in cgroups)
    isolation = result.stderr.decode().splitlines()[0]
    assert isolation.startswith("mesocosm: isolation: filesystem/linux,namespaces/pid,namespaces/ipc,cgroups/")


def test_posix_isolation_sees_the_host(cli: CommandLine) -> None:
    """The control of the test before."""
    result = cli.run("--isolation", "posix/cpu", "--", "sh", "-c", "readlink /proc/self/ns/pid")
    assert result.stdout.decode().strip() == str(Path("/proc/self/ns/pid").readlink())
    assert result.returncode == 0


def test_a_limit_that_nothing_gives_is_refused(cli: CommandLine) -> None:
    result = cli.run("--isolation", "posix/cpu", "--mem", "64MB", "--", "true")
    assert result.returncode == 125
    assert b"--mem needs the isolator cgroups/mem" in result.stderr


def test_an_isolator_that_needs_another(cli: CommandLine) -> None:
    result = cli.run("--isolation", "namespaces/pid", "--", "true")
    assert (result.returncode, result.stderr) == (
        125,
        b"mesocosm: --isolation: 'namespaces/pid' needs 'filesystem/linux'; add 'filesystem/linux' to the list\n",
    )


def test_memory_limit_is_told(cli: CommandLine) -> None:
    hog = [sys.executable, "-c", "x = b'x' * 200_000_000"]
    limited = cli.run("--mem", "48MB", "--", *hog)
    assert limited.returncode == 137
    assert limited.stderr.decode().splitlines()[0].startswith("mesocosm: Memory limit exceeded: Requested: 48MB")
    assert cli.run("--", *hog).returncode == 0


def test_options_that_take_rights_away(cli: CommandLine, run_directory: Path) -> None:
    show = "grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status; ulimit -n; ulimit -Hn"

    def shown(*options: str) -> list[str]:
        result = cli.run(*options, "--", "sh", "-c", show)
        assert (result.returncode, result.stderr) == (0, b"")
        return [line.split()[-1] for line in result.stdout.decode().splitlines()]

    before = shown()
    assert before[2:4] == ["0", "0"], "the control"
    chown, both = f"{1:016x}", f"{1 | 1 << 5:016x}"
    assert shown("--cap-drop", "ALL", "--cap-add", "chown", "--cap-add=CAP_KILL")[:2] == [both, both]
    assert shown("--user", "nobody", "--cap-drop=all", "--cap-add", "chown")[:2] == [chown, chown]
    assert shown("--seccomp", "default", "--no-new-privileges")[2:4] == ["1", "2"]
    profile = run_directory / "mine.json"
    profile.write_text('{"defaultAction": "SCMP_ACT_ALLOW", "archMap": [], "syscalls": []}')
    assert shown("--seccomp", str(profile))[2:4] == ["0", "2"]
    assert shown("--seccomp", str(profile), "--seccomp", "unconfined")[3] == "0"
    assert shown("--rlimit", "nofile=64:128")[4:] == ["64", "128"]
    assert shown("--privileged") == before


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--cap-add", "NONE"], "--cap-add: there is no capability 'NONE'"),
        (["--seccomp", "/nowhere"], "--seccomp: there is no profile '/nowhere'"),
        (["--seccomp", "/etc/passwd"], "its seccomp profile cannot be used: this is no seccomp profile"),
        (["--rlimit", "nofile"], "--rlimit: 'nofile' has no limit; write NAME=SOFT[:HARD]"),
        (["--rlimit", "core=2:1"], "the soft limit of RLMT_CORE, 2, is above the hard one, 1"),
        (["--no-new-privileges", "--allow-new-privileges"], "contradict each other"),
        (["--isolation", "filesystem/linux", "--rlimit", "core=1"], "the isolator posix/rlimits is not in use here"),
    ],
)
def test_rights_that_cannot_be_taken_away(cli: CommandLine, options: list[str], text: str) -> None:
    result = cli.run(*options, "--", "true")
    (line,) = result.stderr.decode().splitlines()
    assert (result.returncode, text in line) == (125, True), line


def test_options_reach_the_command(cli: CommandLine, rootfs: Path, run_directory: Path) -> None:
    data = run_directory / "data"
    data.mkdir()
    data.chmod(0o777)
    (data / "file").write_text("seen\n")
    script = "id -un; pwd; echo $A$B; cat /data/file; touch /data/x 2>&1; touch /new 2>&1; touch /tmp/x && echo ok"
    result = cli.run(
        *("--rootfs", str(rootfs), "--read-only", "--user", "app", "--workdir", "/home/app"),
        *("--env", "A=1", "--env", "B", "--volume", f"{data}:/data:ro", "--tmpfs", "/tmp:1MB"),
        *("--", "sh", "-c", script),
        env={**os.environ, "B": "2"},
    )
    refusal = "Read-only file system"
    assert result.stdout.decode().splitlines() == [
        *("app", "/home/app", "12", "seen"),
        *(f"touch: /data/x: {refusal}", f"touch: /new: {refusal}"),
        "ok",
    ]


def test_nothing_of_the_caller_is_carried_over(cli: CommandLine) -> None:
    result = cli.run(
        "--", "sh", "-c", "env | sort | cut -d= -f1; ls /proc/self/fd | wc -l", env={**os.environ, "X": "y"}
    )
    *names, descriptors = result.stdout.decode().split()
    assert set(names) <= {"MESOS_SANDBOX", "PATH", "PWD", "OLDPWD", "SHLVL", "_"}
    assert int(descriptors) == 4  # 0, 1, 2, and the directory that is listed.


def test_work_dir_is_kept(cli: CommandLine, run_directory: Path) -> None:
    work = run_directory / "work"
    result = cli.run("--verbose", "--work-dir", str(work), "--", "sh", "-c", "echo kept > file")
    sandbox = next(entry for entry in result.stderr.decode().splitlines() if "sandbox: " in entry).partition(
        "sandbox: "
    )[2]
    assert Path(sandbox, "file").read_text() == "kept\n"
    assert Path(sandbox).is_relative_to(work)
    assert not cli.left()


def test_two_of_one_name(cli: CommandLine) -> None:
    with cli.start("--", "sh", "-c", "echo up; exec sleep 60") as process:
        assert line(process) == "up"
        second = cli.run("--", "true")
        assert second.returncode == 125
        assert b"--name: there is a container" in second.stderr
        process.terminate()
        assert process.wait(TIMEOUT) == 128 + signal.SIGTERM


# Streams.


def test_output_comes_at_once(cli: CommandLine) -> None:
    with cli.start("-i", "--", "sh", "-c", "echo first; read x; echo $x", stdin=subprocess.PIPE) as process:
        assert line(process) == "first"
        assert process.stdin is not None
        process.stdin.write(b"second\n")
        process.stdin.flush()
        assert line(process) == "second"


def test_streams_are_apart(cli: CommandLine) -> None:
    result = cli.run("--", "sh", "-c", "echo out; echo err >&2")
    assert (result.stdout, result.stderr) == (b"out\n", b"err\n")


def test_large_binary_data_in_and_out(cli: CommandLine) -> None:
    data = os.urandom(1 << 20) * 50
    result = cli.run("-i", "--", "cat", input=data)
    assert hashlib.sha256(result.stdout).digest() == hashlib.sha256(data).digest()
    assert result.returncode == 0


def test_stdin_is_empty_unless_interactive(cli: CommandLine) -> None:
    assert cli.run("--", "cat", input=b"secret").stdout == b""
    assert cli.run("-i", "--", "cat", input=b"given").stdout == b"given"


def test_end_of_stdin_is_passed_on(cli: CommandLine) -> None:
    result = cli.run("-i", "--", "sh", "-c", "cat > /dev/null; echo after the end", input=b"some")
    assert result.stdout == b"after the end\n"


def test_a_reader_that_leaves(cli: CommandLine) -> None:
    with cli.start("--", "yes", stderr=subprocess.PIPE) as process:
        assert line(process) == "y"
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.wait(TIMEOUT) == 128 + signal.SIGPIPE
        assert process.stderr.read() == b""


def test_closed_stdout(cli: CommandLine) -> None:
    quiet = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", *cli.argv("--", "true")], capture_output=True, timeout=TIMEOUT, check=False
    )
    assert (quiet.returncode, quiet.stderr) == (0, b"")
    loud = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", *cli.argv("--", "echo", "hi")], capture_output=True, timeout=TIMEOUT, check=False
    )
    assert (loud.returncode, loud.stderr) == (125, b"mesocosm: the output could not be written: Bad file descriptor\n")


def test_a_full_disk(cli: CommandLine) -> None:
    with open("/dev/full", "wb") as full:
        result = cli.run("--", "echo", "hi", capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert result.returncode == 125
    assert b"No space left on device" in result.stderr


def test_the_callers_file_is_out_of_reach(cli: CommandLine, run_directory: Path) -> None:
    """A container's root could open the file behind an inherited descriptor anew, to read or overwrite all of it."""
    output = run_directory / "output"
    output.write_text("before\n")
    with output.open("ab") as file:
        result = cli.run("--", "sh", "-c", "echo over > /proc/self/fd/1", capture_output=False, stdout=file)
    assert result.returncode == 0
    assert output.read_text() == "before\nover\n"


def test_any_user_can_open_the_streams(cli: CommandLine) -> None:
    result = cli.run("--user", "nobody", "--", "sh", "-c", "echo out > /dev/stdout; echo err > /dev/stderr")
    assert (result.stdout, result.stderr) == (b"out\n", b"err\n")


# Signals.


@pytest.mark.parametrize("name", ["HUP", "INT", "QUIT", "TERM", "USR1", "USR2"])
def test_signals_are_passed_on(cli: CommandLine, name: str) -> None:
    script = f"trap 'echo got {name}; exit 9' {name}; echo ready; while :; do sleep 0.1; done"
    with cli.start("--", "sh", "-c", script) as process:
        assert line(process) == "ready"
        process.send_signal(getattr(signal, f"SIG{name}"))
        assert line(process) == f"got {name}"
        assert process.wait(TIMEOUT) == 9


def test_an_ignored_signal_stays_ignored(cli: CommandLine) -> None:
    with cli.start(
        "-i", "--", "sh", "-c", "echo ready; read x; echo $x",
        stdin=subprocess.PIPE, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    ) as process:  # fmt: skip
        assert line(process) == "ready"
        process.send_signal(signal.SIGHUP)
        process.communicate(b"alive\n", TIMEOUT)
        assert process.returncode == 0


def test_a_command_that_ignores_signals_is_killed_at_its_timeout(cli: CommandLine) -> None:
    with cli.start("--timeout", "1", "--", "sh", "-c", "trap '' INT TERM; echo ready; sleep 60") as process:
        assert line(process) == "ready"
        process.terminate()
        assert process.wait(TIMEOUT) == 124


# Terminals.


def test_terminal(cli: CommandLine) -> None:
    with _spawn(cli, "-it", "--env", "PS1=$ ", "--", "sh") as shell:
        shell.expect_exact("$ ")
        shell.sendline("stty size; tty")
        shell.expect_exact("31 97")
        shell.expect("/dev/pts/[0-9]+|/dev/console")
        shell.setwinsize(12, 60)
        _until(shell, "stty size", "12 60")
        shell.sendline("sh -c 'echo inter''ruptible; exec sleep 60'")  # Before its child runs, sh can lose a SIGINT.
        shell.expect_exact("interruptible")
        shell.sendintr()
        shell.sendline("echo status $?")
        shell.expect_exact("status 130")
        shell.sendeof()
        assert _status(shell) == 0


def test_job_control(cli: CommandLine) -> None:
    if (bash := shutil.which("bash")) is None:
        pytest.skip("bash is not installed")
    with _spawn(cli, "-it", "--env", "PS1=$ ", "--", bash, "--norc", "-i") as shell:
        shell.expect_exact("$ ")
        shell.sendline("echo up; cat")
        shell.expect("[\r\n]up\r\n")  # From now on the terminal echoes, and not bash.
        shell.sendline("first")
        shell.expect_exact("first\r\nfirst")
        shell.send("\x1a")  # ^Z
        shell.expect_exact("Stopped")
        shell.sendline("fg")
        shell.sendline("second")
        shell.expect("\r\nsecond\r\n")  # Of cat, or else of a shell that would not know the command.
        shell.sendintr()
        shell.sendline("exit 4")
        assert _status(shell) == 4


def test_the_terminal_is_given_back(cli: CommandLine) -> None:
    script = "stty -a | md5sum; {}; stty -a | md5sum"
    for ending in (
        ["true"],
        ["sh", "-c", "kill -9 $$"],
        ["no-such-command"],
        ["--timeout", "0.3", "--", "sleep", "60"],
    ):
        run = " ".join(f"'{word}'" for word in cli.argv("-it", *ending))
        shell = pexpect.spawn("sh", ["-c", script.format(run)], timeout=TIMEOUT, encoding="utf-8", echo=False)
        shell.expect("([0-9a-f]{32}).*([0-9a-f]{32})")
        assert shell.match[1] == shell.match[2]
        shell.expect(pexpect.EOF)
        shell.close()


def test_a_terminal_without_input_and_none_of_the_caller(cli: CommandLine) -> None:
    result = cli.run("-t", "--", "sh", "-c", "test -t 0 && test -t 1 && stty size")
    assert result.stdout == b"24 80\r\n"
    assert cli.run("-it", "--", "cat", input=b"typed\n").stdout == b"typed\r\ntyped\r\n"


def _spawn(cli: CommandLine, *arguments: str) -> pexpect.spawn:
    program, *rest = cli.argv(*arguments)
    return pexpect.spawn(program, rest, timeout=TIMEOUT, encoding="utf-8", dimensions=(31, 97))


def _until(shell: pexpect.spawn, command: str, text: str) -> None:
    """Repeats a command until its output is what it is to become, for which there is no event."""
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        shell.sendline(command)
        if shell.expect_exact([text, "31 97"]) == 0:
            return
    pytest.fail(f"{command} never said {text}")


def _status(shell: pexpect.spawn) -> int | None:
    shell.expect(pexpect.EOF)
    shell.close()
    return shell.exitstatus


# kill -9.


@pytest.mark.parametrize("isolation", [None, "posix/cpu"])
def test_killed_while_the_command_runs(cli: CommandLine, isolation: str | None) -> None:
    arguments = [] if isolation is None else ["--isolation", isolation]
    with cli.start(*arguments, "--", "sh", "-c", "echo ready; sleep 60 & sleep 60") as process:
        assert line(process) == "ready"
        assert cli.left()
        kill_whole(process)
        assert not cli.left()


@pytest.mark.parametrize("milliseconds", [15, 30, 45, 60, 75, 90, 105, 120, 135, 150])
def test_killed_at_any_moment(cli: CommandLine, milliseconds: int) -> None:
    """Not a wait for anything: the moments are all that differs."""
    with cli.start("--", "sleep", "60") as process:
        time.sleep(milliseconds / 1000)
        kill_whole(process)
        assert not cli.left()


def test_killed_with_its_launcher(cli: CommandLine) -> None:
    with cli.start("--", "sh", "-c", "echo ready; exec sleep 60") as process:
        assert line(process) == "ready"
        stop(process.pid)
        for child in children(process.pid):
            os.kill(child, signal.SIGKILL)
        process.kill()
        process.wait(TIMEOUT)
        assert process.stdout is not None
        assert not select.select([process.stdout], [], [], 0)[0] or process.stdout.read(1) == b""
    assert cli.left()  # Nobody could.
    assert cli.run("--", "true", name=f"{cli.name}-next").returncode == 0
    assert not cli.left()


def test_a_place_in_use_is_not_swept(cli: CommandLine) -> None:
    with cli.start("-i", "--", "sh", "-c", "echo ready; read x; exit 7", stdin=subprocess.PIPE) as process:
        assert line(process) == "ready"
        assert cli.run("--", "true", name=f"{cli.name}-next").returncode == 0
        process.communicate(b"\n", TIMEOUT)
        assert process.returncode == 7


# Without privileges.


def test_as_a_user(unique_name: str, run_directory: Path) -> None:
    python = _python_for_anybody()
    run_directory.chmod(0o777)
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": "/nonexistent",
        "XDG_RUNTIME_DIR": str(run_directory),
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    argv = [python, "-m", "mesocosm", "run", "--", "sh", "-c", "id -u; sleep 60 & exit 5"]
    result = subprocess.run(
        argv,
        env=environment,
        user=65534,
        group=65534,
        extra_groups=[],
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert result.stdout == b"65534\n"
    assert result.returncode == 5
    assert result.stderr == (
        b"mesocosm: warning: nothing is isolated, neither files nor processes: that takes root on Linux\n"
    )
    assert not list((run_directory / "mesocosm/run").iterdir())
    refused = subprocess.run(
        [*argv[:4], "--mem", "64MB", "true"],
        env=environment, user=65534, group=65534, extra_groups=[], capture_output=True, timeout=TIMEOUT, check=False,
    )  # fmt: skip
    assert refused.returncode == 125
    assert b"--mem needs the isolator cgroups/mem" in refused.stderr


def _python_for_anybody() -> str:
    """An interpreter that other users can execute, with the packages of this one."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (sys.executable, f"/usr/bin/{version}"):
        command = [candidate, "-c", "import msgspec, psutil, click"]
        environment = {"PYTHONPATH": os.pathsep.join(sys.path)}
        try:
            subprocess.run(command, env=environment, user=65534, group=65534, capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return candidate
    pytest.skip(f"no {version} that another user can execute")
