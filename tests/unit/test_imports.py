"""Who imports whom: neighbours do not know each other, and everything imports where there is no Linux."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import mesocosm

PACKAGE = Path(mesocosm.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
_VALUES = (
    "container",
    "dataclass",
    "devices",
    "errors",
    "flags",
    "images.image",
    "networks",
    "secret_resolver",
    "secrets",
    "statistics",
    "units",
    "users",
    "volume_gids",
)
VALUES = tuple(f"mesocosm.{name}" for name in _VALUES)

# A Mac, as far as an import can tell. What is imported first has parts for the platform that it finds.
DARWIN = """
import asyncio, importlib, fcntl, msgspec, os, platform, psutil, resource, select, signal, socket, sys, tempfile
for library in ("aiohttp", "click", "prometheus_client", "pty", "rich.console", "rich.table", "tty", "urllib.request"):
    importlib.import_module(library)
sys.platform = "darwin"
gone = {
    os: ["memfd_create", "pidfd_open", "setns", "unshare", "eventfd", "eventfd_read", "eventfd_write", "setresuid",
         "setresgid", "getresuid", "O_PATH", "O_TMPFILE", "sched_getaffinity", "splice", "listxattr", "getrandom",
         "posix_fadvise", "MFD_CLOEXEC", "MFD_ALLOW_SEALING", "EFD_CLOEXEC", "EFD_NONBLOCK", "P_PIDFD"],
    signal: ["pidfd_send_signal", "SIGPWR", "SIGSTKFLT", "SIGRTMIN", "SIGRTMAX", "sigtimedwait", "sigwaitinfo"],
    select: ["epoll", "EPOLLIN", "EPOLLPRI", "EPOLLERR", "EPOLLHUP"],
    fcntl: ["F_ADD_SEALS", "F_GET_SEALS", "F_SEAL_SEAL", "F_SEAL_WRITE", "F_SEAL_GROW", "F_SEAL_SHRINK"],
    socket: ["MSG_CMSG_CLOEXEC", "SOCK_CLOEXEC", "SOCK_NONBLOCK", "SO_PEERCRED"],
    resource: ["prlimit"],
}
for module, names in gone.items():
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def name_of(module: Path) -> str:
    return ".".join(module.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def imported(module: Path) -> Iterator[str]:
    """The modules of Mesocosm that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("mesocosm"))
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            if node.module and node.module.startswith("mesocosm"):
                yield from (_module(node.module, alias.name) for alias in node.names)


def _module(package: str, name: str) -> str:
    path = PACKAGE.parent.joinpath(*package.split("."), name)
    return f"{package}.{name}" if path.is_dir() or path.with_suffix(".py").exists() else package


IN_ISOLATORS = [path for path in MODULES if "isolators" in path.relative_to(PACKAGE).parts]


@pytest.mark.parametrize("module", IN_ISOLATORS, ids=name_of)
def test_isolators_know_only_what_is_below_them(module: Path) -> None:
    own = name_of(module)
    if own == "mesocosm.isolators.selection":
        pytest.skip("it chooses among them")
    base = f"{own.rpartition('.')[0]}.base"
    launcher = [f"mesocosm.launcher.{name}" for name in ("info", "kernel_filesystems", "later", "operations")]
    tools = [f"mesocosm.{name}" for name in ("bodies", "cni", "concurrency", "docker.plugins", "linux")]
    allowed = (*VALUES, *tools, *launcher)
    shared = [f"mesocosm.isolators.{name}" for name in ("base", "mounting", "records", "disk.projects")]
    for name in imported(module):
        assert name.startswith(allowed) or name in (*shared, base, base.rpartition(".")[0], "mesocosm.isolators"), (
            f"{own} imports {name}"
        )


@pytest.mark.parametrize("module", [path for path in MODULES if "linux" in path.parts[:-1]], ids=name_of)
def test_the_kernels_facilities_know_nothing_above_them(module: Path) -> None:
    if "mesocosm.linux" not in name_of(module):
        pytest.skip("an isolator")
    allowed = ("mesocosm.linux", "mesocosm.dataclass", "mesocosm.errors")
    assert [name for name in imported(module) if not name.startswith(allowed)] == []


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_ctypes_and_kernel_constants_are_in_one_place(module: Path) -> None:
    text = module.read_text()
    if "mesocosm.linux" not in name_of(module):
        assert "import ctypes" not in text


def test_every_module_imports_without_linux() -> None:
    names = [name_of(module) for module in MODULES if module.stem != "__main__"]
    done = subprocess.run([sys.executable, "-c", DARWIN, *names], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_containerizer_is_loaded_when_it_is_used() -> None:
    program = "import sys, mesocosm; assert 'asyncio' not in sys.modules; mesocosm.MesosContainerizer"
    subprocess.run([sys.executable, "-c", program], check=True)
    with pytest.raises(AttributeError, match="nothing_of_that_name"):
        _ = mesocosm.nothing_of_that_name


UNUSED = (
    *("_ssl", "aiohttp", "click", "google", "importlib.metadata", "msgspec", "prometheus_client", "rich", "shutil"),
    *("tempfile", "mesocosm.agent", "mesocosm.api", "mesocosm.cni", "mesocosm.fetcher", "mesocosm.images.store"),
    *("mesocosm.isolators.disk", "mesocosm.isolators.docker", "mesocosm.isolators.environment_secret"),
    *("mesocosm.isolators.network", "mesocosm.isolators.volume", "mesocosm.launcher.init", "mesocosm.launcher.server"),
    *("mesocosm.containerizer.recovery", "mesocosm.loggers"),
)


def test_a_container_that_asks_for_nothing_loads_nothing_for_more(tmp_path: Path) -> None:
    """What `mesocosm run` imports, it takes the time for, before every command."""
    directories = [f"--runtime-dir={tmp_path}/run", f"--work-dir={tmp_path}/work"]
    loaded = loaded_by("run", *directories, "--", "true")
    assert "mesocosm.containerizer.mesos" in loaded
    assert among(UNUSED, loaded) == []


def test_the_launcher_loads_little_as_every_init_gives_it_back_at_its_end() -> None:
    program = f"import sys; sys.path[:0] = {[str(PACKAGE.parent)]}; import mesocosm.launcher.server"
    command = [sys.executable, "-I", "-S", "-X", "importtime", "-c", program]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    loaded = modules_in(done.stderr)
    assert "mesocosm.launcher.init" in loaded
    others = ("asyncio", "dataclasses", "inspect", "ipaddress", "logging", "pathlib", "subprocess", "typing", "urllib")
    own = ("container", "containerizer", "isolators", "images", "agent", "api", "switchboard")
    assert among((*others, *(f"mesocosm.{name}" for name in own)), loaded) == []


@pytest.mark.parametrize("command", [["ps"], ["kill", "x"], ["inspect", "x"]])
def test_a_command_for_an_agent_loads_no_agent(command: list[str]) -> None:
    loaded = loaded_by(*command, "--agent", "http://127.0.0.1:1")
    assert "http.client" in loaded
    others = ("aiohttp", "asyncio", "curses", "google", "logging", "msgspec", "psutil", "rich")
    own = (
        "agent",
        "api.convert",
        "api.protos",
        "api.v1",
        "container",
        "containerizer",
        "images",
        "isolators",
        "launcher",
        "linux",
        "oneshot",
    )
    assert among((*others, *(f"mesocosm.{name}" for name in own)), loaded) == []


def test_help_loads_no_command() -> None:
    loaded = loaded_by("--help")
    assert among(("mesocosm.agent", "mesocosm.cli.run", "mesocosm.cli.ps"), loaded) == []


def loaded_by(*arguments: str) -> list[str]:
    """The modules that a command line loads."""
    command = [sys.executable, "-X", "importtime", "-m", "mesocosm", *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode in (0, 125), done.stderr
    return modules_in(done.stderr)


def modules_in(report: str) -> list[str]:
    """What an interpreter says that it has loaded, with `-X importtime`."""
    lines = [line for line in report.splitlines() if line.startswith("import time:")]
    return [line.rpartition("|")[2].strip() for line in lines]


def among(unused: Iterable[str], loaded: list[str]) -> list[str]:
    """Those of the loaded modules that are unused, or parts of such packages."""
    return [name for name in loaded if any(f"{name}.".startswith(f"{each}.") for each in unused)]
