"""The life of a container: its states, its end, and everything that can go wrong on the way."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mesocosm.container import CommandInfo, ContainerConfig, ContainerID, ContainerType, Resources, TTYInfo
from mesocosm.containerizer.base import LaunchResult
from mesocosm.containerizer.mesos import MesosContainerizer
from mesocosm.errors import CommandError, ContainerError, UnknownContainerError
from mesocosm.flags import Flags
from mesocosm.isolators.base import Isolator
from mesocosm.isolators.selection import NamedIsolator
from mesocosm.launcher.channel import Channel
from mesocosm.launcher.info import LaunchInfo
from mesocosm.launcher.messages import Report
from mesocosm.statistics import Limitation
from tests.launching import LINUX, TIMEOUT, Launch

pytestmark = pytest.mark.kernel
X = ContainerID("x")
STEPS = ["prepare", "isolate"]


class Obstacle(Isolator):
    """An isolator that blocks or fails where a test wants it to."""

    def __init__(self, blocks: str = "", fails: str = "", times: int = 1) -> None:
        self.blocks, self.fails, self.times = blocks, fails, times
        self.reached, self.passable = asyncio.Event(), asyncio.Event()
        self.cleanups = 0
        self.cancelling = 0
        self.limited: asyncio.Future[Limitation] | None = None

    async def _pass(self, step: str) -> None:
        if step == self.fails and self.times:
            self.times -= 1
            raise ContainerError(f"the obstacle failed in {step}")
        if step == self.blocks:
            self.reached.set()
            await self.passable.wait()

    async def prepare(self, container_id: ContainerID, config: ContainerConfig) -> LaunchInfo | None:
        await self._pass("prepare")
        return None

    async def isolate(self, container_id: ContainerID, pid: int) -> None:
        await self._pass("isolate")

    async def update(self, container_id: ContainerID, resources: Resources, limits: Resources) -> None:
        await self._pass("update")

    def watch(self, container_id: ContainerID) -> asyncio.Future[Limitation] | None:
        return self.limited

    async def cleanup(self, container_id: ContainerID) -> None:
        self.cleanups += 1
        task = asyncio.current_task()
        self.cancelling += 0 if task is None else task.cancelling()
        await self._pass("cleanup")

    async def close(self) -> None:
        await self._pass("close")


@pytest.fixture(params=["filesystem/posix", "filesystem/linux", LINUX])
def isolation(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def obstruct(launch: Launch) -> Callable[[Obstacle], MesosContainerizer]:
    """Adds an obstacle to the isolators of the containerizer."""

    def add(obstacle: Obstacle) -> MesosContainerizer:
        containerizer = launch.containerizer()
        isolation = containerizer._isolation
        isolation.named = (*isolation.named, NamedIsolator("test/obstacle", obstacle))
        return containerizer

    return add


def config(command: str = "sleep 60", **options: object) -> ContainerConfig:
    return ContainerConfig(CommandInfo(command), **options)  # type: ignore[arg-type]


# How a container ends.


@pytest.mark.parametrize(
    ("command", "status", "exit_status"),
    [
        ("exit 0", 0, 0),
        ("exit 3", 3 << 8, 3),
        ("kill -TERM $$", signal.SIGTERM, 143),
        ("kill -KILL $$", signal.SIGKILL, 137),
        ("kill -SEGV $$", signal.SIGSEGV, 139),
    ],
)
async def test_exit_status(launch: Launch, isolation: str, command: str, status: int, exit_status: int) -> None:
    container = await launch(f"ulimit -c 0; {command}", isolation=isolation)
    termination = await container.termination()
    assert (termination.status, termination.exit_status) == (status, exit_status)
    assert (termination.reason, termination.message) == (None, None)


@pytest.mark.parametrize(
    ("command", "status", "text"),
    [
        (["/no/such"], 127, "/no/such.*not found"),
        (["no-such-command"], 127, "no-such-command.*not found"),
        (["/etc/passwd"], 126, "/etc/passwd.*Permission denied"),
        (["/etc"], 126, "/etc.*Permission denied"),
        (["true/x"], 127, "not found"),
        (["/bin/" + "x" * 300], 126, "File name too long"),
        (["/bin/echo", "x" * (1 << 18)], 126, "Argument list too long"),
    ],
)
async def test_commands_that_cannot_be_executed(
    launch: Launch, isolation: str, command: list[str], status: int, text: str
) -> None:
    with pytest.raises(CommandError, match=text) as caught:
        await launch(command, isolation=isolation)
    assert caught.value.exit_status == status
    with pytest.raises(UnknownContainerError):
        await launch.containerizer().wait(ContainerID("c1"))


@pytest.mark.parametrize(
    "command", [CommandInfo(), CommandInfo(""), CommandInfo("a\0b"), CommandInfo("a", shell=False)]
)
async def test_commands_that_are_none(launch: Launch, command: CommandInfo) -> None:
    with pytest.raises(ContainerError):
        await launch.containerizer().launch(X, ContainerConfig(command))
    assert await launch.containerizer().containers() == set()


async def test_everything_that_the_command_started_ends_with_it(launch: Launch, isolation: str) -> None:
    container = await launch.talking("setsid sleep 60 & sleep 60 & (sleep 60 &) ; echo $!; exit 4", isolation=isolation)
    assert await container.line()
    assert await container.wait() == 4
    assert await asyncio.wait_for(container.line(), TIMEOUT) == "", "nobody is left who could write"


async def test_waiting(launch: Launch, isolation: str) -> None:
    container = await launch.sleeping(isolation=isolation)
    waiting = [asyncio.create_task(container.wait()) for _ in range(20)]
    await asyncio.sleep(0)
    waiting.pop().cancel()
    container.say("end")
    assert await asyncio.gather(*waiting) == [0] * 19
    assert await container.wait() == 0, "also after the exit"
    await launch.containerizer().remove(container.container_id)
    with pytest.raises(UnknownContainerError):
        await container.wait()


async def test_unknown_containers(launch: Launch) -> None:
    containerizer = launch.containerizer()
    assert await containerizer.destroy(X) is None
    for method in (containerizer.wait, containerizer.usage, containerizer.status, containerizer.remove):
        with pytest.raises(UnknownContainerError, match="x"):
            await method(X)
    with pytest.raises(UnknownContainerError, match="x"):
        await containerizer.kill(X, signal.SIGTERM)


async def test_already_launched(launch: Launch) -> None:
    container = await launch.sleeping(name="x")
    containerizer = launch.containerizer()
    assert await containerizer.launch(X, config()) is LaunchResult.ALREADY_LAUNCHED
    assert (await container.status()).executor_pid
    with pytest.raises(ContainerError, match="not ended"):
        await containerizer.remove(X)
    await container.destroy()
    assert await containerizer.launch(X, config()) is LaunchResult.ALREADY_LAUNCHED, "its end is not forgotten"
    await containerizer.remove(X)
    assert not container.sandbox.exists()
    assert await containerizer.launch(X, config("true")) is LaunchResult.SUCCESS


async def test_docker_containers_are_for_another_containerizer(launch: Launch) -> None:
    result = await launch.containerizer().launch(X, config(type=ContainerType.DOCKER))
    assert result is LaunchResult.NOT_SUPPORTED


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
async def test_signals_reach_the_command(launch: Launch, isolation: str, number: signal.Signals) -> None:
    # Not a `read`: a signal that comes just before it is dealt with only after it.
    script = f"trap 'echo got; exit 5' {number.name[3:]}; echo up; while :; do sleep 0.05; done"
    container = await launch.talking(script, isolation=isolation)
    await container.line()
    assert await launch.containerizer().kill(container.container_id, number)
    assert await container.line() == "got"
    assert await container.wait() == 5


async def test_a_stopped_command_goes_on(launch: Launch, isolation: str) -> None:
    watch = "(until grep -q 'State:.T' /proc/$$/status; do :; done; echo stopped) & echo up; exec cat"
    container = await launch.talking(watch, isolation=isolation)
    await container.line()
    containerizer = launch.containerizer()
    await containerizer.kill(container.container_id, signal.SIGSTOP)
    assert await container.line() == "stopped"
    container.say("still here")
    await containerizer.kill(container.container_id, signal.SIGCONT)
    assert await container.line() == "still here"


async def test_a_command_that_ignores_sigterm(launch: Launch, isolation: str) -> None:
    container = await launch.talking("trap '' TERM INT HUP; echo up; while :; do sleep 1; done", isolation=isolation)
    await container.line()
    await launch.containerizer().kill(container.container_id, signal.SIGTERM)
    termination = await container.destroy()
    assert termination is not None
    assert termination.exit_status == 137


# Destroying, in every state.


@pytest.mark.parametrize("step", STEPS)
async def test_destroy_while_it_is_launched(obstruct: Callable[[Obstacle], MesosContainerizer], step: str) -> None:
    obstacle = Obstacle(blocks=step)
    containerizer = obstruct(obstacle)
    launch = asyncio.create_task(containerizer.launch(X, config()))
    await obstacle.reached.wait()
    assert await containerizer.launch(X, config()) is LaunchResult.ALREADY_LAUNCHED
    waiting = asyncio.create_task(containerizer.wait(X))
    destroys = [asyncio.create_task(containerizer.destroy(X)) for _ in range(3)]
    for destroyed in destroys:
        assert await asyncio.wait_for(destroyed, TIMEOUT) is not None
    with pytest.raises(ContainerError, match="destroyed"):
        await launch
    await asyncio.wait_for(waiting, TIMEOUT)
    assert obstacle.cleanups == 1
    assert await containerizer.containers() == set()


async def test_a_container_that_ends_while_it_is_updated_leaves_no_record(
    obstruct: Callable[[Obstacle], MesosContainerizer], flags: Flags
) -> None:
    obstacle = Obstacle(blocks="update")
    containerizer = obstruct(obstacle)
    await containerizer.launch(X, config())
    updating = asyncio.create_task(containerizer.update(X, Resources(cpus=1), Resources()))
    await obstacle.reached.wait()
    await containerizer.destroy(X)
    await containerizer.remove(X)
    obstacle.passable.set()
    with pytest.raises(UnknownContainerError):
        await updating
    assert not (flags.runtime_dir / "containers/x").exists()


@pytest.mark.parametrize("step", STEPS)
async def test_a_cancelled_launch_leaves_nothing(obstruct: Callable[[Obstacle], MesosContainerizer], step: str) -> None:
    obstacle = Obstacle(blocks=step)
    containerizer = obstruct(obstacle)
    launch = asyncio.create_task(containerizer.launch(X, config()))
    await obstacle.reached.wait()
    launch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await launch
    assert await containerizer.containers() == set()


async def test_destroy_at_every_turn_of_the_loop(launch: Launch, rootfs: Path) -> None:
    """The launch takes less turns of the event loop than this; all of them see a destroy once."""
    containerizer = launch.containerizer()
    for turns in range(40):
        task = asyncio.create_task(containerizer.launch(X, config("sleep 60", rootfs=rootfs)))
        for _ in range(turns):
            await asyncio.sleep(0)
        await asyncio.wait_for(containerizer.destroy(X), TIMEOUT)
        await asyncio.wait_for(asyncio.wait([task]), TIMEOUT)
        assert isinstance(task.exception(), ContainerError | None)
        await asyncio.wait_for(containerizer.destroy(X), TIMEOUT)
        assert await containerizer.containers() == set()
        await containerizer.remove(X)


async def test_destroy_while_its_files_are_fetched(flags: Flags) -> None:
    fetching, cancelled = asyncio.Event(), asyncio.Event()

    async def fetch(*_: object) -> None:
        fetching.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with MesosContainerizer(replace(flags, isolation="filesystem/posix"), fetch=fetch) as containerizer:
        launch = asyncio.create_task(containerizer.launch(X, config()))
        await asyncio.wait_for(fetching.wait(), TIMEOUT)
        assert await containerizer.destroy(X) is not None
        assert cancelled.is_set()
        with pytest.raises(ContainerError, match="destroyed"):
            await launch
        await containerizer.remove(X)


@pytest.mark.parametrize("change", ["update", "kill"])
async def test_who_changes_a_container_waits_for_the_word_that_it_runs(
    flags: Flags, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """Its command may ask for that before."""
    released, told, report = asyncio.Event(), asyncio.Event(), Channel.report

    async def hear_late(channel: Channel, *unless: Any) -> Report | None:
        released.set()
        await told.wait()
        return await report(channel, *unless)

    async with MesosContainerizer(replace(flags, isolation=LINUX)) as containerizer:
        monkeypatch.setattr(Channel, "report", hear_late)
        launching = asyncio.create_task(containerizer.launch(X, ContainerConfig(CommandInfo("sleep 1000"))))
        await released.wait()
        changing = asyncio.create_task(
            containerizer.update(X, Resources(cpus=1), Resources())
            if change == "update"
            else containerizer.kill(X, signal.SIGKILL)
        )
        done, _ = await asyncio.wait([changing], timeout=0.1)
        assert not done
        told.set()
        assert await changing is (None if change == "update" else True)
        assert await launching is LaunchResult.SUCCESS
        await containerizer.destroy(X)
        await containerizer.remove(X)


async def test_what_takes_a_destroyed_container_apart_is_not_cancelled(
    obstruct: Callable[[Obstacle], MesosContainerizer],
) -> None:
    """Else, before Python 3.11.3, the first timeout in there would end it halfway, and who waits would for ever."""
    obstacle = Obstacle()
    containerizer = obstruct(obstacle)
    await containerizer.launch(X, config())
    await asyncio.wait_for(containerizer.destroy(X), TIMEOUT)
    assert (obstacle.cleanups, obstacle.cancelling) == (1, 0)


async def test_destroy_twice_at_once(launch: Launch, isolation: str) -> None:
    container = await launch.sleeping(isolation=isolation)
    first, second = await asyncio.gather(container.destroy(), container.destroy())
    assert first == second
    assert await container.destroy() == first, "and again when it has ended"


# Isolators that fail.


@pytest.mark.parametrize("step", STEPS)
async def test_an_isolator_that_fails_a_launch(
    launch: Launch, obstruct: Callable[[Obstacle], MesosContainerizer], step: str
) -> None:
    obstacle = Obstacle(fails=step)
    containerizer = obstruct(obstacle)
    with pytest.raises(ContainerError, match=f"the obstacle failed in {step}"):
        await containerizer.launch(X, config())
    assert obstacle.cleanups == 1
    assert await containerizer.containers() == set()
    assert not launch.sandbox(X).exists()
    assert await containerizer.launch(X, config("true")) is LaunchResult.SUCCESS


async def test_a_cleanup_that_fails_can_be_tried_again(obstruct: Callable[[Obstacle], MesosContainerizer]) -> None:
    containerizer = obstruct(Obstacle(fails="cleanup"))
    await containerizer.launch(X, config("exit 3"))
    with pytest.raises(ContainerError, match="the obstacle failed in cleanup"):
        await containerizer.wait(X)
    assert await containerizer.containers() == {X}
    assert await containerizer.launch(X, config()) is LaunchResult.ALREADY_LAUNCHED
    termination = await containerizer.destroy(X)
    assert termination is not None
    assert termination.exit_status == 3, "the status is not lost by the failure"
    assert (await containerizer.wait(X)).exit_status == 3


async def test_a_launch_and_then_its_cleanup_that_fail(obstruct: Callable[[Obstacle], MesosContainerizer]) -> None:
    containerizer = obstruct(Obstacle(fails="cleanup"))
    with pytest.raises(ContainerError) as caught:
        await containerizer.launch(X, config(working_directory="/no/such"))
    assert "the obstacle failed in cleanup" in str(caught.value)
    assert "/no/such" in str(caught.value), "what failed first is told, too"
    await containerizer.destroy(X)
    assert await containerizer.containers() == set()


async def test_a_limitation_ends_the_container(obstruct: Callable[[Obstacle], MesosContainerizer]) -> None:
    obstacle = Obstacle()
    obstacle.limited = asyncio.get_running_loop().create_future()
    containerizer = obstruct(obstacle)
    await containerizer.launch(X, config())
    obstacle.limited.set_result(Limitation("REASON_CONTAINER_LIMITATION_DISK", "too much", "disk"))
    termination = await asyncio.wait_for(containerizer.wait(X), TIMEOUT)
    assert termination.reason == "REASON_CONTAINER_LIMITATION_DISK"
    assert (termination.message, termination.limited_resource) == ("too much", "disk")
    assert termination.exit_status == 137


async def test_a_watch_that_fails_ends_the_container_but_not_its_sandbox(
    launch: Launch, obstruct: Callable[[Obstacle], MesosContainerizer]
) -> None:
    obstacle = Obstacle()
    obstacle.limited = asyncio.get_running_loop().create_future()
    containerizer = obstruct(obstacle)
    await containerizer.launch(X, config("echo precious; sleep 60"))
    obstacle.limited.set_exception(OSError("the watch failed"))
    termination = await asyncio.wait_for(containerizer.wait(X), TIMEOUT)
    assert "the watch failed" in (termination.message or "")
    assert (launch.sandbox(X) / "stdout").exists(), "it did run, and what it left belongs to the user"
    assert await containerizer.wait(X) == termination


# Bad luck.


async def test_kill_9_of_the_init(launch: Launch, isolation: str) -> None:
    container = await launch.sleeping(isolation=isolation)
    os.kill(await container.pid(), signal.SIGKILL)
    assert await container.wait() == 137


async def test_a_launch_after_close(launch: Launch, flags: Flags) -> None:
    containerizer = MesosContainerizer(flags)
    with pytest.raises(ContainerError, match="not started"):
        await containerizer.launch(X, config())
    containerizer.start()
    await containerizer.close()
    with pytest.raises(ContainerError):
        await containerizer.launch(X, config())
    await containerizer.close()


async def test_many_at_once(launch: Launch, rootfs: Path) -> None:
    containerizer = launch.containerizer()
    ids = [ContainerID(f"m{number}") for number in range(200)]

    async def live(container_id: ContainerID) -> int | None:
        status = int(container_id.value[1:]) % 100
        await containerizer.launch(container_id, config(f"exit {status}", rootfs=rootfs))
        found = (await containerizer.wait(container_id)).exit_status
        await containerizer.remove(container_id)
        return found

    found = await asyncio.wait_for(asyncio.gather(*map(live, ids)), 3 * TIMEOUT)
    assert found == [number % 100 for number in range(200)]


async def test_many_at_once_in_one_new_root_filesystem(launch: Launch, writable_rootfs: Path) -> None:
    """They all make the same mount points in it."""
    containerizer = launch.containerizer()
    ids = [ContainerID(f"m{number}") for number in range(30)]
    launches = (containerizer.launch(each, config("exit 0", rootfs=writable_rootfs)) for each in ids)
    assert await asyncio.wait_for(asyncio.gather(*launches), TIMEOUT) == [LaunchResult.SUCCESS] * 30


async def test_who_waits_is_told_that_the_containerizer_was_closed(flags: Flags) -> None:
    flags = replace(flags, isolation=LINUX)
    first, second = MesosContainerizer(flags), MesosContainerizer(flags)
    first.start()
    await first.launch(ContainerID("x"), ContainerConfig(CommandInfo("sleep 60")))
    waiting = asyncio.create_task(first.wait(ContainerID("x")))
    await asyncio.sleep(0)
    await first.close()
    with pytest.raises(ContainerError, match="goes on"):
        await waiting
    async with second:
        await second.recover()
        await second.destroy(ContainerID("x"))
        await second.remove(ContainerID("x"))


async def test_all_is_given_back_where_an_isolator_cannot_be_closed(
    obstruct: Callable[[Obstacle], MesosContainerizer], launch: Launch
) -> None:
    containerizer = obstruct(Obstacle(fails="close"))
    await containerizer.launch(X, config("exit 0"))
    await containerizer.wait(X)
    await containerizer.remove(X)
    with pytest.raises(ExceptionGroup) as raised:
        await containerizer.close()
    assert "the obstacle failed in close" in str(raised.value.exceptions)
    await launch.successor()  # By which nothing is found to be in use.


async def test_a_terminal_outlives_its_container(launch: Launch) -> None:
    """Until somebody takes it, or removes the container: a short command ends before its caller can attach."""
    containerizer = launch.containerizer()
    container = await launch("echo written", tty_info=TTYInfo())
    assert await container.wait() == 0
    terminal = await containerizer.attach(container.container_id)
    assert os.read(terminal, 100) == b"written\r\n"
    os.close(terminal)
    with pytest.raises(ContainerError, match="no terminal"):
        await containerizer.attach(container.container_id)
    other = await launch("true", tty_info=TTYInfo())
    assert await other.wait() == 0
    assert any("ptmx" in str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink())
    for ended in (container, other):
        await containerizer.remove(ended.container_id)
    assert not any("ptmx" in str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink())


async def test_removed_while_one_is_that_is_nested_in_it(launch: Launch) -> None:
    """As an executor and its agent may do it: the second finds no sandbox that somebody else still removes."""
    outer = await launch("sleep 1000")
    nested = await launch("mkdir d; i=0; while [ $i -lt 300 ]; do : > d/$i; i=$((i+1)); done", parent=outer)
    assert await nested.wait() == 0
    containerizer = launch.containerizer()
    await containerizer.destroy(outer.container_id)
    await asyncio.gather(*(containerizer.remove(each.container_id) for each in (nested, outer)))
    assert not outer.sandbox.exists()
    assert not containerizer.terminated()


async def test_removed_by_two_at_once(launch: Launch) -> None:
    """The second is refused, and not told that all is gone while the first still removes it."""
    container = await launch("mkdir d; i=0; while [ $i -lt 300 ]; do : > d/$i; i=$((i+1)); done")
    assert await container.wait() == 0
    containerizer = launch.containerizer()
    results = await asyncio.gather(
        *(containerizer.remove(container.container_id) for _ in range(3)), return_exceptions=True
    )
    assert [str(result) for result in results if result is not None] == [
        f"{container.container_id} is being removed"
    ] * 2
    assert not container.sandbox.exists()
