"""The command line without a container: its help, and what it says of bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mesocosm.cli import main
from mesocosm.cli.execution import Options
from mesocosm.cli.options import parse_quickly
from mesocosm.cli.run import run
from mesocosm.errors import UnsupportedError
from mesocosm.isolators.selection import REFUSED
from mesocosm.launcher.linux import LinuxLauncher
from mesocosm.version import __version__
from tests.third_party import ISOLATOR, ThirdParty

BAD = {
    "no command": ([], "there is no command to run"),
    "unknown option": (["--nope", "x"], "no such option"),
    "no number": (["--cpus", "many", "x"], "'many'"),
    "size": (["--mem", "64XB", "x"], "'64XB' is no size"),
    "tiny size": (["--mem", "64", "x"], "--mem: 64 bytes are too few"),
    "duration": (["--timeout", "soon", "x"], "'soon' is no duration"),
    "no cpu": (["--cpus", "0", "x"], "--cpus: 0 is no number of CPUs"),
    "no pid": (["--pids", "0", "x"], "--pids: 0 is no number of tasks"),
    "name": (["--name", "a/b", "x"], "container id 'a/b' is not a name"),
    "name with a dot": (["--name", "..", "x"], "container id '..' is not a name"),
    "isolator": (["--isolation", "posix/nope", "x"], "there is no isolator 'posix/nope'; there are: cgroups/all, "),
    "two isolators": (["--isolation", "posix/cpu,posix/cpu", "x"], "names 'posix/cpu' twice"),
    "file systems": (["--isolation", "filesystem/posix,filesystem/linux", "x"], "keep one of them"),
    "variable": (["--env", "=1", "x"], "--env: '=1' has no name"),
    "volume": (["--volume", "/tmp", "x"], "write SRC:DST[:ro|rw]"),
    "volume mode": (["--volume", "/tmp:/x:yes", "x"], "'yes' in '/tmp:/x:yes' is no mode"),
    "volume source": (["--volume", "/no/such:/x", "x"], "there is no /no/such to mount"),
    "volume place": (["--volume", "/tmp:x", "x"], "'x' is no absolute path"),
    "tmpfs": (["--tmpfs", "tmp", "x"], "'tmp' is no absolute path"),
    "tmpfs size": (["--tmpfs", "/tmp:big", "x"], "'big' is no size"),
    "rootfs": (["--rootfs", "/no/such", "x"], "/no/such is not a directory"),
    "read-only": (["--read-only", "x"], "--read-only needs --image or --rootfs"),
    "workdir": (["--workdir", "sub", "x"], "--workdir: 'sub' is no absolute path"),
}


@pytest.mark.parametrize(("arguments", "text"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line(
    arguments: list[str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["run", "--runtime-dir", str(tmp_path / "state"), *arguments]) == 125
    lines = [line for line in capsys.readouterr().err.splitlines() if "warning" not in line]
    assert len(lines) == 1
    assert lines[0].startswith("mesocosm: ")
    assert text in lines[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [["nope"], ["--nope"]])
def test_unknown_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(arguments) != 0
    assert capsys.readouterr().err.count("\n") == 1


def test_version() -> None:
    assert _invoke("--version").output == f"mesocosm {__version__}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["run", "-h"]])
def test_help_has_examples(arguments: list[str]) -> None:
    result = _invoke(*arguments)
    assert result.exit_code == 0
    assert "Examples:\n    mesocosm run -- echo hello\n" in result.output


def test_no_arguments_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([]) == 0
    assert "doctor" in capsys.readouterr().out


def test_doctor_json() -> None:
    result = _invoke("doctor", "--json")
    report = json.loads(result.output)
    assert result.exit_code == 0
    assert {"system", "launcher", "cgroups", "user"} <= report["host"].keys()
    isolators = {entry["name"]: entry for entry in report["isolators"]}
    assert isolators["filesystem/posix"]["works"]
    assert all((entry["reason"] is None) == entry["works"] for entry in isolators.values())
    assert all(entry["works"] for entry in isolators.values() if entry["by_default"])


def test_doctor_shows_what_there_will_not_be_only_if_asked() -> None:
    asked = {entry["name"]: entry for entry in json.loads(_invoke("doctor", "--json", "--refused").output)["isolators"]}
    not_asked = {entry["name"] for entry in json.loads(_invoke("doctor", "--json").output)["isolators"]}
    assert asked.keys() - not_asked == REFUSED.keys()
    for name in REFUSED:
        assert not asked[name]["works"]
        assert asked[name]["reason"]


@pytest.mark.parametrize("columns", [30, 80, 200])
def test_doctor_fits_any_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    result = _invoke("doctor")
    assert result.exit_code == 0
    assert max(map(len, result.output.splitlines())) <= columns
    assert "\x1b" not in result.output
    assert any(line.startswith("namespaces/pid") for line in result.output.splitlines())


def test_doctor_has_a_line_for_each_isolator_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    lines = _invoke("doctor").output.splitlines()
    count = len(json.loads(_invoke("doctor", "--json").output)["isolators"])
    assert len(lines) - lines.index(next(line for line in lines if line.startswith("isolator"))) - 1 == count


def test_doctor_says_what_would_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    report = json.loads(_invoke("doctor", "--json").output)
    isolators = {entry["name"]: entry for entry in report["isolators"]}
    assert "root" in isolators["namespaces/pid"]["reason"]
    for name in ("cgroups/all", "cgroups/cpu", "namespaces/pid", "filesystem/linux"):
        assert not isolators[name]["works"], name
        assert isolators[name]["reason"]
    defaults = {name for name, entry in isolators.items() if entry["by_default"]}
    assert defaults == {"posix/cpu", "posix/mem", "filesystem/posix", "environment_secret"}


def test_doctor_where_root_gets_the_posix_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `mesocosm run` does: where there is no cgroup hierarchy that the Linux launcher could kill by, for example."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(LinuxLauncher, "__init__", _refuse)
    report = json.loads(_invoke("doctor", "--json").output)
    isolators = {entry["name"]: entry for entry in report["isolators"]}
    defaults = {name for name, entry in isolators.items() if entry["by_default"]}
    assert defaults == {"posix/cpu", "posix/mem", "filesystem/posix", "environment_secret"}
    for name in ("cgroups/all", "cgroups/cpu", "filesystem/linux"):
        assert not isolators[name]["works"]
    assert "there is no freezer; mount one" in isolators["filesystem/linux"]["reason"]
    assert report["host"]["launcher"].startswith("posix")


def _refuse(*_arguments: object) -> None:
    raise UnsupportedError("there is no freezer", "mount one")


def test_doctor_shows_the_isolators_of_other_packages(third_party: ThirdParty) -> None:
    module = '"""The isolator `mine/one`: what it does."""\n' + ISOLATOR
    third_party("mine/one", module.format(body="create = classmethod(lambda cls, flags: cls())"))
    third_party("mine/unfinished", ISOLATOR.format(body="pass"))
    third_party("mine/broken", "import no_such_module\n")
    report = json.loads(_invoke("doctor", "--json").output)
    isolators = {entry["name"]: entry for entry in report["isolators"]}
    expected = {"name": "mine/one", "what": "What it does", "works": True, "by_default": False, "reason": None}
    assert isolators["mine/one"] == expected
    assert "no_such_module" in isolators["mine/broken"]["reason"]
    assert "NotImplementedError" in isolators["mine/unfinished"]["reason"]
    assert "mine/one" in _invoke("doctor").output


def _invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main.commands, arguments)


RIGHT = {
    "plain": ["echo", "-n", "hi"],
    "dashes": ["--", "echo"],
    "all kinds": [
        "--name=a",
        "-e",
        "A=1",
        "--env",
        "B",
        "--cpus",
        "0.5",
        "--pids=3",
        "--rootfs",
        "/",
        "-it",
        "x",
        "-i",
    ],
    "flags": ["--read-only", "-i", "-t", "--verbose", "--", "-x"],
    "empty value": ["--workdir", "", "x"],
}
WRONG = [
    [],
    ["--"],
    ["--nope", "x"],
    ["--cpus", "many", "x"],
    ["--name"],
    ["--read-only=yes", "x"],
    ["-h"],
    ["-e=A", "x"],
]


@pytest.mark.parametrize("arguments", RIGHT.values(), ids=RIGHT)
def test_the_quick_parser_agrees_with_click(arguments: list[str]) -> None:
    quick = parse_quickly(arguments)
    assert quick is not None
    assert Options(**quick) == Options(**run.make_context("run", list(arguments)).params)


@pytest.mark.parametrize("arguments", WRONG, ids=" ".join)
def test_the_quick_parser_leaves_to_click_what_has_to_be_explained(arguments: list[str]) -> None:
    assert parse_quickly(arguments) is None
