"""Hooks of other packages: which there are, and what becomes of what they return and raise."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from mesocosm.api import v1
from mesocosm.container import CommandInfo, ContainerConfig, ContainerID
from mesocosm.errors import ContainerError, FlagError
from mesocosm.hooks import ENTRY_POINTS, Hook, Hooks
from tests.plugins import DOCS, example, install

X = ContainerID("x")
CONFIG = ContainerConfig(CommandInfo("true"), environment={"GIVEN": "1"})

BODY = """
from mesocosm.hooks import Hook


class First(Hook):
    pass


class Second(Hook):
    pass


class Broken(Hook):
    def __init__(self):
        raise RuntimeError("no licence")


class NoHook:
    pass
"""


class Setting(Hook):
    """Sets a variable to what it was, and something more."""

    def __init__(self, name: str, value: str) -> None:
        self.name, self.value = name, value
        self.fetched: list[Path] = []

    async def pre_launch(self, container_id: ContainerID, config: ContainerConfig) -> ContainerConfig | None:
        value = config.environment.get(self.name, "") + self.value
        return replace(config, environment={**config.environment, self.name: value})

    async def post_fetch(self, container_id: ContainerID, sandbox: Path) -> None:
        self.fetched.append(sandbox)


class Failing(Hook):
    async def pre_launch(self, container_id: ContainerID, config: ContainerConfig) -> ContainerConfig | None:
        raise RuntimeError("not on a Friday")

    async def post_fetch(self, container_id: ContainerID, sandbox: Path) -> None:
        raise RuntimeError("nothing to scan")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"first": "First", "second": "Second", "broken": "Broken", "odd": "NoHook", "missing": "Missing"}
    install(tmp_path, monkeypatch, ENTRY_POINTS, BODY, **names)


def hooks(**named: Hook) -> Hooks:
    return Hooks(tuple(named.items()))


@pytest.mark.parametrize(
    ("names", "expected"),
    [([], []), (["first"], ["First"]), (["second", "first"], ["Second", "First"])],
)
def test_loaded_in_the_order_of_the_flag(installed: None, names: list[str], expected: list[str]) -> None:
    loaded = Hooks.load(names)
    assert [type(hook).__name__ for _, hook in loaded.named] == expected


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["nonesuch"], "--hooks: there is no hook 'nonesuch'; there are: broken, first, missing, odd, second"),
        (["first", "first"], "--hooks names 'first' twice"),
        (["first", "odd"], "'odd'.* is no hook"),
        (["missing"], "'missing'.* cannot be loaded"),
        (["broken"], "'broken' cannot be made: no licence"),
    ],
)
def test_lists_that_make_no_sense(installed: None, names: list[str], text: str) -> None:
    with pytest.raises(FlagError, match=text) as caught:
        Hooks.load(names)
    assert "\n" not in str(caught.value)


def test_where_no_package_has_hooks() -> None:
    with pytest.raises(FlagError, match=r"install a package with .* group 'mesocosm\.hooks'"):
        Hooks.load(["first"])


async def test_a_hook_sees_what_the_one_before_returned() -> None:
    chain = hooks(one=Setting("A", "1"), nothing=Hook(), two=Setting("A", "2"), other=Setting("GIVEN", "3"))
    config = await chain.pre_launch(X, CONFIG)
    assert config.environment == {"A": "12", "GIVEN": "13"}
    assert CONFIG.environment == {"GIVEN": "1"}


class OfTask(Hook):
    """Gives the containers of tasks a variable, and their executors another."""

    def __init__(self, value: str) -> None:
        self.value = value

    async def pre_launch_docker(
        self,
        container_id: ContainerID,
        config: ContainerConfig,
        executor: v1.ExecutorInfo,
        task: v1.TaskInfo | None,
    ) -> ContainerConfig | None:
        if task is None:
            raise RuntimeError(f"{executor.executor_id.value} is custom")
        environment = {**config.environment, "TASK": config.environment.get("TASK", "") + self.value}
        return replace(config, environment=environment, program_environment={"EXECUTOR": task.task_id.value})


async def test_a_hook_of_containers_that_docker_makes() -> None:
    chain = hooks(one=OfTask("1"), nothing=Hook(), two=OfTask("2"))
    executor = v1.ExecutorInfo(executor_id=v1.ExecutorID(value="e"))
    task = v1.TaskInfo(task_id=v1.TaskID(value="t"))
    config = await chain.pre_launch_docker(X, CONFIG, executor, task)
    assert config.environment == {"GIVEN": "1", "TASK": "12"}
    assert config.program_environment == {"EXECUTOR": "t"}
    with pytest.raises(ContainerError, match="x: the hook 'one' refuses the launch: e is custom"):
        await chain.pre_launch_docker(X, CONFIG, executor, None)


async def test_without_hooks_nothing_changes(tmp_path: Path) -> None:
    assert await hooks().pre_launch(X, CONFIG) is CONFIG
    assert await hooks(nothing=Hook()).pre_launch(X, CONFIG) is CONFIG
    await hooks().post_fetch(X, tmp_path)


async def test_a_hook_that_fails_before_the_launch_fails_it() -> None:
    later = Setting("A", "1")
    with pytest.raises(ContainerError, match="x: the hook 'bad' refuses the launch: not on a Friday"):
        await hooks(bad=Failing(), later=later).pre_launch(X, CONFIG)


async def test_a_hook_that_fails_after_the_fetch_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    later = Setting("A", "1")
    with caplog.at_level(logging.ERROR):
        await hooks(bad=Failing(), later=later).post_fetch(X, tmp_path)
    assert later.fetched == [tmp_path]
    assert "x, after the fetch: the hook 'bad' failed" in caplog.text


class Labelling(Hook):
    """Gives everything one label more."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.removed: list[str] = []

    def resources(self, resources: Sequence[v1.Resource]) -> Sequence[v1.Resource]:
        return [*resources, v1.Resource(name=self.name, type=v1.Value.SCALAR)]

    def attributes(self, attributes: Sequence[v1.Attribute]) -> Sequence[v1.Attribute]:
        return [*attributes, v1.Attribute(name=self.name, type=v1.Value.TEXT)]

    def task_labels(self, task: v1.TaskInfo, executor: v1.ExecutorInfo, framework: v1.FrameworkInfo) -> v1.Labels:
        return v1.Labels(labels=[*task.labels.labels, v1.Label(key=self.name)])

    def task_status(self, framework_id: str, status: v1.TaskStatus) -> v1.TaskStatus:
        labels = v1.Labels(labels=[*status.labels.labels, v1.Label(key=self.name)])
        return v1.TaskStatus(state=v1.TASK_FAILED, message="not taken", labels=labels)

    async def executor_removed(self, framework: v1.FrameworkInfo, executor: v1.ExecutorInfo) -> None:
        self.removed.append(executor.executor_id.value)


def broken(method: str) -> Hook:
    """A hook that fails where it is called."""

    def fail(*_: object) -> None:
        raise RuntimeError("out of order")

    fail.__name__ = method

    return type("Broken", (Hook,), {method: fail})()


def test_what_an_agent_offers_and_is() -> None:
    chain = hooks(one=Labelling("a"), nothing=Hook(), two=Labelling("b"))
    given = v1.Resource(name="cpus", type=v1.Value.SCALAR)
    assert [each.name for each in chain.resources([given])] == ["cpus", "a", "b"]
    assert [each.name for each in chain.attributes(())] == ["a", "b"]
    with pytest.raises(FlagError, match="--hooks: 'bad' refuses the resources of the agent: out of order"):
        hooks(bad=broken("resources")).resources([given])


def test_the_labels_of_a_task(caplog: pytest.LogCaptureFixture) -> None:
    task = v1.TaskInfo(labels={"labels": [{"key": "own"}]})
    hooks(one=Labelling("a"), bad=broken("task_labels"), two=Labelling("b")).label(
        task, v1.ExecutorInfo(), v1.FrameworkInfo()
    )
    assert [label.key for label in task.labels.labels] == ["own", "a", "b"]
    assert "the hook 'bad' failed" in caplog.text


def test_of_a_status_only_labels_and_container_are_taken() -> None:
    status = v1.TaskStatus(state=v1.TASK_RUNNING)
    hooks(one=Labelling("a"), nothing=Hook(), bad=broken("task_status"), two=Labelling("b")).complete("f", status)
    assert [label.key for label in status.labels.labels] == ["a", "b"]
    assert (status.state, status.message) == (v1.TASK_RUNNING, "")


async def test_the_end_of_an_executor_is_told_to_all() -> None:
    later = Labelling("a")
    executor = v1.ExecutorInfo(executor_id={"value": "e"})
    await hooks(bad=broken("executor_removed"), later=later).executor_removed(v1.FrameworkInfo(), executor)
    assert later.removed == ["e"]


async def test_the_example_of_a_hook_works() -> None:
    names = example("hooks.md", '    """The hook `acme_proxy`', "\nWith `mesocosm agent")
    chain = hooks(acme_proxy=names["ProxyHook"]())
    with pytest.raises(ContainerError) as caught:
        await chain.pre_launch(ContainerID("web"), CONFIG)
    assert f"`{caught.value}`" in (DOCS / "hooks.md").read_text()
    changed = await chain.pre_launch(X, replace(CONFIG, user="nobody"))
    assert changed.environment == {"https_proxy": "http://proxy.acme.example:3128", "GIVEN": "1"}
