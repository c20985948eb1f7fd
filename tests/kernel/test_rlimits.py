"""`posix/rlimits`: every limit, from the inside; and what makes no sense, or that nobody here may set."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

import pytest

from mesocosm.container import ContainerID, RLimit
from mesocosm.errors import ContainerError
from mesocosm.linux import capabilities, rlimits
from tests.launching import LINUX, Launch

pytestmark = pytest.mark.kernel
WITH, WITHOUT = f"{LINUX},posix/rlimits", LINUX
MAY_RAISE = capabilities.has(capabilities.SYS_RESOURCE)
LINES = {
    "AS": "Max address space",
    "CORE": "Max core file size",
    "CPU": "Max cpu time",
    "DATA": "Max data size",
    "FSIZE": "Max file size",
    "LOCKS": "Max file locks",
    "MEMLOCK": "Max locked memory",
    "MSGQUEUE": "Max msgqueue size",
    "NICE": "Max nice priority",
    "NOFILE": "Max open files",
    "NPROC": "Max processes",
    "RSS": "Max resident set",
    "RTPRIO": "Max realtime priority",
    "RTTIME": "Max realtime timeout",
    "SIGPENDING": "Max pending signals",
    "STACK": "Max stack size",
}
"""How proc(5) calls them. Half of what there is, at most, leaves every program enough to show its limits."""


async def limits(launch: Launch, name: str, **options: object) -> list[str]:
    """The soft and the hard limit of a command."""
    output = await launch.output(["grep", f"^{LINES[name]}", "/proc/self/limits"], **options)
    return output.removeprefix(LINES[name]).split()[:2]


def number(name: str) -> int:
    found = rlimits.number(name)
    assert found is not None
    return found


@contextlib.contextmanager
def lowered(name: str, hard: int) -> Iterator[None]:
    """The limit of this process, and so of the launcher that it starts. There is a way back for some."""
    before = rlimits.get(number(name))
    if not MAY_RAISE:
        pytest.skip("a limit that was lowered cannot be raised here again, without CAP_SYS_RESOURCE")
    rlimits.put(number(name), hard, hard)
    try:
        yield
    finally:
        rlimits.put(number(name), *before)


def test_every_name_has_a_line() -> None:
    assert set(LINES) == set(rlimits.NAMES)


@pytest.mark.parametrize("user", [None, "nobody"])
@pytest.mark.slow
async def test_each_limit(launch: Launch, user: str | None) -> None:
    """All at once, each with values of its own."""
    expected = {}
    for position, name in enumerate(rlimits.NAMES):
        _, own = rlimits.get(number(name))
        hard = (1 << 40) + position if own is None else own
        expected[name] = (hard // 2, hard)
    asked = tuple(RLimit(name, *values) for name, values in expected.items())
    output = await launch.output(["cat", "/proc/self/limits"], isolation=WITH, rlimits=asked, user=user)
    found = {name: next(line for line in output.splitlines() if line.startswith(LINES[name])) for name in LINES}
    shown = {name: line.removeprefix(LINES[name]).split()[:2] for name, line in found.items()}
    assert shown == {name: [str(soft), str(hard)] for name, (soft, hard) in expected.items()}


@pytest.mark.slow
async def test_control_without_a_wish_and_without_the_isolator(launch: Launch) -> None:
    own = ["unlimited" if value is None else str(value) for value in rlimits.get(number("CORE"))]
    assert await limits(launch, "CORE", isolation=WITH) == own


@pytest.mark.slow
async def test_without_the_isolator_it_is_refused(launch: Launch) -> None:
    with pytest.raises(ContainerError, match="asks for resource limits of processes; enable the isolator posix/rlimit"):
        await launch("true", isolation=WITHOUT, rlimits=(RLimit("CORE", 0, 0),))


@pytest.mark.slow
async def test_neither_limit_means_infinity(launch: Launch) -> None:
    """But for NOFILE: the kernel has no unlimited number of files, whoever asks for it (fs.nr_open)."""
    names = [name for name in LINES if name != "NOFILE" and (MAY_RAISE or rlimits.get(number(name))[1] is None)]
    asked = tuple(RLimit(name) for name in names)
    output = await launch.output(["cat", "/proc/self/limits"], isolation=WITH, rlimits=asked)
    for name in names:
        (line,) = (line for line in output.splitlines() if line.startswith(LINES[name]))
        assert line.removeprefix(LINES[name]).split()[:2] == ["unlimited", "unlimited"]


@pytest.mark.slow
async def test_more_than_a_number_is_no_limit(launch: Launch) -> None:
    """RLIM_INFINITY, as a client in C++ writes it."""
    _, own = rlimits.get(number("FSIZE"))
    if own is not None and not MAY_RAISE:
        pytest.skip("raising this one takes CAP_SYS_RESOURCE")
    asked = (RLimit("FSIZE", 1 << 20, (1 << 64) - 1),)
    assert await limits(launch, "FSIZE", isolation=WITH, rlimits=asked) == [str(1 << 20), "unlimited"]


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        (RLimit("CPU", 100, 1), "the soft limit of RLMT_CPU, 100, is above the hard one, 1;"),
        (RLimit("CPU", (1 << 64) - 1, 1), "the soft limit of RLMT_CPU, unlimited, is above the hard one, 1;"),
        (RLimit("CORE", soft=1), "RLMT_CORE has no hard limit; give both, or none for no limit"),
        (RLimit("CORE", hard=1), "RLMT_CORE has no soft limit; give both, or none for no limit"),
        (RLimit("NONSENSE", 1, 1), "this system has no limit RLMT_NONSENSE"),
    ],
)
@pytest.mark.slow
async def test_what_makes_no_sense(launch: Launch, limit: RLimit, text: str) -> None:
    with pytest.raises(ContainerError) as caught:
        await launch("touch started", name="web", isolation=WITH, rlimits=(limit,))
    assert text in str(caught.value)
    assert not launch.sandbox(ContainerID("web")).exists()


@pytest.mark.skipif(MAY_RAISE, reason="Mesocosm has CAP_SYS_RESOURCE here")
async def test_a_hard_limit_that_cannot_be_raised(launch: Launch) -> None:
    _, own = rlimits.get(number("NOFILE"))
    assert own is not None
    with pytest.raises(ContainerError) as caught:
        await launch("true", isolation=WITH, rlimits=(RLimit("NOFILE", 1, own + 1),))
    assert str(caught.value).endswith(
        f"the hard limit of RLMT_NOFILE, {own + 1}, is above that of Mesocosm itself, {own}; "
        "raising it takes CAP_SYS_RESOURCE"
    )


async def test_a_hard_limit_that_can_be_raised(launch: Launch) -> None:
    with lowered("NOFILE", 512):
        asked = (RLimit("NOFILE", 600, 1024),)
        assert await limits(launch, "NOFILE", isolation=WITH, rlimits=asked, user="nobody") == ["600", "1024"]


async def test_what_the_kernel_refuses_is_said(launch: Launch) -> None:
    if not MAY_RAISE:
        pytest.skip("without CAP_SYS_RESOURCE it is refused before")
    with pytest.raises(ContainerError, match="limit RLMT_NOFILE failed: Operation not permitted"):
        await launch("true", isolation=WITH, rlimits=(RLimit("NOFILE"),))


@pytest.mark.slow
async def test_a_command_that_exceeds_its_limit_is_ended(launch: Launch) -> None:
    endless = ["/bin/sh", "-c", "while :; do :; done"]
    container = await launch(endless, isolation=WITH, rlimits=(RLimit("CPU", 1, 1),))
    termination = await container.termination()
    assert termination.status is not None
    assert os.WTERMSIG(termination.status) in (signal.SIGXCPU, signal.SIGKILL)


@pytest.mark.slow
async def test_the_limit_of_files_is_one(launch: Launch) -> None:
    write = "head -c 5000 /dev/zero > file; wc -c < file"
    assert await launch.output(write, isolation=WITH, rlimits=(RLimit("FSIZE", 4096, 4096),)) == "4096"
    assert await launch.output(write, isolation=WITH) == "5000"


@pytest.mark.slow
async def test_the_last_of_a_name_counts(launch: Launch) -> None:
    asked = (RLimit("CORE", 1, 1), RLimit("CORE", 2, 2))
    assert await limits(launch, "CORE", isolation=WITH, rlimits=asked) == ["2", "2"]


@pytest.mark.slow
async def test_a_limit_that_no_command_can_live_with(launch: Launch) -> None:
    container = await launch("true", isolation=WITH, rlimits=(RLimit("AS", 4096, 4096),))
    assert await container.wait() != 0


@pytest.mark.slow
async def test_nested_containers_have_their_own(launch: Launch) -> None:
    parent = await launch.sleeping(isolation=WITH, rlimits=(RLimit("CORE", 1, 1),))
    assert await limits(launch, "CORE", parent=parent, rlimits=(RLimit("CORE", 2, 3),)) == ["2", "3"]
    own = ["unlimited" if value is None else str(value) for value in rlimits.get(number("CORE"))]
    assert await limits(launch, "CORE", parent=parent) == own
