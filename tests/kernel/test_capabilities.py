"""`linux/capabilities`: what a container has, what it can do with that, and what it can never get."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace

import pytest

from mesocosm.container import ContainerClass, LinuxInfo, TTYInfo
from mesocosm.errors import CommandError, ContainerError, FlagError
from mesocosm.flags import Flags
from mesocosm.isolators.selection import select
from mesocosm.linux import capabilities
from tests.launching import LINUX, Launch, Started

pytestmark = pytest.mark.kernel
WITH, WITHOUT = f"{LINUX},linux/capabilities", LINUX
OWN = capabilities.bounding()

# Each prints "yes" if the privileged act can be done, and undoes nothing: all of it ends with the container.
ACTS = {
    "CHOWN": "touch f && chown 7 f 2>/dev/null",
    "SYS_ADMIN": "unshare -m true 2>/dev/null",
    "NET_RAW": "{python} -c 'import socket; socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)' 2>/dev/null",
    "NET_BIND_SERVICE": "{python} -c 'import socket; socket.socket().bind((\"127.0.0.7\", 81))' 2>/dev/null",
}
STATUS = "sed -n 's/^Cap\\(...\\):.*\\(.\\{16\\}\\)$/\\1=\\2/p' /proc/%s/status"


def asking(effective: list[str] | None = None, bounding: list[str] | None = None) -> LinuxInfo:
    return LinuxInfo(
        effective_capabilities=None if effective is None else tuple(effective),
        bounding_capabilities=None if bounding is None else tuple(bounding),
    )


def parsed(text: str) -> dict[str, int]:
    return {name: int(value, 16) for name, value in (line.split("=") for line in text.split())}


async def sets(launch: Launch, pid: int | str = "self", **options: object) -> dict[str, int]:
    """The sets of the command, or of another process of its container."""
    return parsed(await launch.output(STATUS % pid, **options))


@pytest.fixture
def python() -> str:
    found = shutil.which("python3", path="/usr/bin:/bin")
    if found is None:
        pytest.skip("there is no Python that other users can execute")
    return found


@pytest.mark.parametrize("user", [None, "nobody"])
@pytest.mark.parametrize("name", ACTS)
async def test_privileged_acts(launch: Launch, name: str, user: str | None, python: str) -> None:
    """Each works with its capability and not without, for root and for another user."""
    act = f"{ACTS[name].format(python=python)} && echo yes || echo no"
    options = {"isolation": WITH, "user": user}
    assert await launch.output(act, linux_info=asking([name]), **options) == "yes"
    others = [other for other in capabilities.names_of(OWN) if other != name]
    assert await launch.output(act, linux_info=asking([]), **options) == "no"
    assert await launch.output(act, linux_info=asking(bounding=others), **options) == "no"
    assert await launch.output(act, **options) == ("no" if user else "yes"), "the control: nothing is asked for"


async def test_the_sets_of_root(launch: Launch) -> None:
    """The kernel gives root its bounding set with each exec. Nothing can be inherited (CVE-2022-24769)."""
    both = capabilities.set_of(["CHOWN", "NET_RAW"])
    expected = {"Inh": 0, "Prm": both, "Eff": both, "Bnd": both, "Amb": 0}
    for info in (asking(["CHOWN", "NET_RAW"]), asking(bounding=["CHOWN", "NET_RAW"])):
        assert await sets(launch, isolation=WITH, linux_info=info) == expected
    assert await sets(launch, isolation=WITH, linux_info=asking([])) == dict.fromkeys(expected, 0)


async def test_the_sets_of_another_user(launch: Launch) -> None:
    """What is effective is ambient, too, so that what the command executes has it; the rest is a bound only."""
    one, both = capabilities.set_of(["CHOWN"]), capabilities.set_of(["CHOWN", "NET_RAW"])
    info = asking(["CHOWN"], ["CHOWN", "NET_RAW"])
    found = await sets(launch, isolation=WITH, user="nobody", linux_info=info)
    assert found == {"Inh": one, "Prm": one, "Eff": one, "Bnd": both, "Amb": one}
    found = await sets(launch, isolation=WITH, user="nobody", linux_info=asking(bounding=["CHOWN"]))
    assert found == {"Inh": 0, "Prm": 0, "Eff": 0, "Bnd": one, "Amb": 0}


async def test_control_without_a_wish(launch: Launch) -> None:
    assert (await sets(launch, isolation=WITH))["Bnd"] == OWN
    assert await sets(launch, isolation=WITH) == {"Inh": 0, "Prm": OWN, "Eff": OWN, "Bnd": OWN, "Amb": 0}


async def test_a_wish_that_nobody_would_fulfil_is_refused(launch: Launch) -> None:
    for info in (asking([]), asking(bounding=["CHOWN"])):
        with pytest.raises(ContainerError, match="asks for capabilities; enable the isolator linux/capabilities"):
            await launch("true", isolation=WITHOUT, linux_info=info)


async def test_the_init_has_no_more_than_the_command(launch: Launch) -> None:
    """But for CAP_KILL, with which it passes signals on. Who traces it or enters its /proc/1 gains nothing."""
    bound = capabilities.set_of(["CHOWN", "SYS_PTRACE"])
    found = await sets(launch, 1, isolation=WITH, linux_info=asking(["CHOWN", "SYS_PTRACE"]))
    own = bound | 1 << capabilities.KILL
    assert found == {"Inh": 0, "Prm": own, "Eff": own, "Bnd": bound, "Amb": 0}


@pytest.mark.parametrize("user", ["nobody", None])
async def test_signals_reach_a_command_of_another_user(launch: Launch, user: str | None) -> None:
    container = await launch.talking(
        "trap 'echo caught; exit 5' USR1; echo up; while :; do sleep 0.1; done",
        isolation=WITH,
        user=user,
        linux_info=asking([]),
    )
    assert await container.line() == "up"
    assert await launch.containerizer().kill(container.container_id, 10)
    assert await container.wait() == 5


@pytest.mark.parametrize("bounding", [["CHOWN"], [], None])
async def test_a_set_user_id_program_gains_the_bound(
    launch: Launch, set_user_id_grep: str, bounding: list[str] | None
) -> None:
    output = await launch.output(
        [set_user_id_grep, "-E", "^(Uid|CapEff)", "/proc/self/status"],
        isolation=WITH,
        user="nobody",
        linux_info=asking(bounding=bounding),
    )
    assert output.split()[:3] == ["Uid:", "65534", "0"], "it is root"
    assert int(output.split()[-1], 16) == (OWN if bounding is None else capabilities.set_of(bounding))


async def test_more_than_the_bound_is_refused(launch: Launch) -> None:
    with pytest.raises(ContainerError) as caught:
        await launch("true", isolation=WITH, linux_info=asking(["CHOWN", "NET_RAW"], ["CHOWN"]))
    assert str(caught.value).endswith(
        "asks for the effective capabilities NET_RAW, but its bounding capabilities are CHOWN; "
        "ask for less, or allow more"
    )


@pytest.mark.skipif((1 << len(capabilities.NAMES)) - 1 == OWN, reason="Mesocosm has all capabilities here")
async def test_what_mesocosm_has_not_cannot_be_asked_for(launch: Launch) -> None:
    missing = next(name for name in capabilities.NAMES if not OWN >> capabilities.NAMES.index(name) & 1)
    with pytest.raises(ContainerError, match=f"effective capabilities {missing}, but Mesocosm itself has"):
        await launch("true", isolation=WITH, linux_info=asking([missing]))
    found = await sets(launch, isolation=WITH, linux_info=asking(bounding=[missing, "CHOWN"]))
    assert found["Bnd"] == capabilities.set_of(["CHOWN"])


OPERATOR = {
    "effective is the bound": ({"effective_capabilities": ("CHOWN",)}, asking(), ["CHOWN"], ["CHOWN"]),
    "effective and bounding": (
        {"effective_capabilities": ("CHOWN",), "bounding_capabilities": ("CHOWN", "KILL")},
        asking(),
        ["CHOWN"],
        ["CHOWN", "KILL"],
    ),
    "bounding alone": ({"bounding_capabilities": ("CHOWN",)}, asking(), [], ["CHOWN"]),
    "nothing at all": ({"effective_capabilities": ()}, asking(), [], []),
    "another wish": (
        {"effective_capabilities": ("CHOWN",), "bounding_capabilities": ("CHOWN", "KILL")},
        asking(["KILL"]),
        ["KILL"],
        ["CHOWN", "KILL"],
    ),
    "a tighter bound": ({"bounding_capabilities": ("CHOWN", "KILL")}, asking([], ["KILL"]), [], ["KILL"]),
    "a wish without a bound": ({"effective_capabilities": ("CHOWN",)}, asking(["NET_RAW"]), ["NET_RAW"], ["NET_RAW"]),
}


@pytest.mark.parametrize("case", OPERATOR)
async def test_what_the_operator_says(launch: Launch, case: str) -> None:
    flags, info, effective, bounding = OPERATOR[case]
    launch.containerizer(WITH, **flags)
    user = await sets(launch, user="nobody", linux_info=info)
    assert capabilities.names_of(user["Eff"]) == tuple(effective)
    assert capabilities.names_of(user["Bnd"]) == tuple(bounding)
    root = await sets(launch, linux_info=info)
    assert capabilities.names_of(root["Eff"]) == tuple(bounding)


@pytest.mark.parametrize("info", [asking(["NET_RAW"]), asking(bounding=["NET_RAW"]), asking([], ["NET_RAW"])])
async def test_beyond_what_the_operator_allows(launch: Launch, info: LinuxInfo) -> None:
    launch.containerizer(WITH, effective_capabilities=("CHOWN",), bounding_capabilities=("CHOWN",))
    with pytest.raises(ContainerError, match=r"capabilities NET_RAW, but .* CHOWN"):
        await launch("true", linux_info=info)


def test_flags_of_the_operator(flags: Flags) -> None:
    """What is effective has to be within the bound; either may be missing."""
    for effective, bounding in (
        (("NET_RAW",), ("NET_RAW", "NET_ADMIN")),
        (("NET_RAW",), ("NET_RAW",)),
        (None, None),
        (("NET_RAW",), None),
        (None, ("NET_RAW",)),
    ):
        select(
            replace(flags, isolation=WITH, effective_capabilities=effective, bounding_capabilities=bounding), "linux"
        )
    given = replace(flags, isolation=WITH, effective_capabilities=("KILL", "CHOWN"), bounding_capabilities=("KILL",))
    with pytest.raises(FlagError, match="--effective_capabilities has CHOWN, which --bounding_capabilities has not"):
        select(given, "linux")


async def test_nested_containers_have_their_own(launch: Launch) -> None:
    """As in Mesos: what they ask for, else what the operator says; not what their parent has."""
    launch.containerizer(WITH, bounding_capabilities=("CHOWN", "KILL"))
    parent = await launch.sleeping(linux_info=asking(["CHOWN"], ["CHOWN"]))
    bound = capabilities.set_of(["CHOWN", "KILL"])
    assert (await sets(launch, parent=parent))["Bnd"] == bound
    nested = await sets(launch, parent=parent, linux_info=asking([], ["KILL"]))
    assert nested["Bnd"] == capabilities.set_of(["KILL"])
    debug = {"parent": parent, "container_class": ContainerClass.DEBUG}
    assert (await sets(launch, **debug, linux_info=asking([], [])))["Bnd"] == 0


async def test_the_command_has_its_terminal(launch: Launch) -> None:
    """It is started in another way with capabilities than without."""
    for info in (asking(), asking([])):
        container = await launch(
            ["/bin/sh", "-c", "tty && stty size && exec > $MESOS_SANDBOX/out && ps -o pid=,sid=,tpgid= -p $$"],
            isolation=WITH,
            linux_info=info,
            tty_info=TTYInfo(30, 100),
        )
        assert await container.wait() == 0
        pid, session, foreground = (container.sandbox / "out").read_text().split()
        assert pid == session == foreground


@pytest.mark.parametrize("info", [asking(), asking([])], ids=["spawned", "forked"])
class TestHowTheCommandIsFound:
    """The same in both ways to start it."""

    async def start(self, launch: Launch, info: LinuxInfo, path: str, name: str) -> Started:
        options = {"isolation": WITH, "environment": {"PATH": path}, "linux_info": info, "user": "nobody"}
        return await launch([name], **options)

    async def test_in_the_path(self, launch: Launch, info: LinuxInfo) -> None:
        assert await (await self.start(launch, info, "/nonexistent:/etc/passwd:/bin", "true")).wait() == 0

    async def test_missing(self, launch: Launch, info: LinuxInfo) -> None:
        with pytest.raises(CommandError, match="not found") as caught:
            await self.start(launch, info, "/bin", "no-such-program")
        assert caught.value.exit_status == 127

    async def test_not_executable(self, launch: Launch, info: LinuxInfo) -> None:
        with pytest.raises(CommandError, match="Permission denied") as caught:
            await self.start(launch, info, "/bin", "/etc/passwd")
        assert caught.value.exit_status == 126

    async def test_what_it_inherits(self, launch: Launch, info: LinuxInfo) -> None:
        script = "import os, signal; print(sorted(map(int, os.listdir('/proc/self/fd')))[:-1], os.getgroups(), "
        script += "[n for n in signal.valid_signals() if signal.getsignal(n) == signal.SIG_IGN], "
        script += "signal.pthread_sigmask(signal.SIG_BLOCK, []), os.getpgid(0) == os.getpid())"
        output = await launch.output([sys.executable, "-I", "-S", "-c", script], isolation=WITH, linux_info=info)
        # Python ignores these two itself.
        ignored = "[<Signals.SIGPIPE: 13>, <Signals.SIGXFSZ: 25>]"
        assert output == f"[0, 1, 2] [] {ignored} set() True"
