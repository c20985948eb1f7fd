"""Where things are below the work directory: as a real agent has them, and nowhere else whatever an id says."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesocosm.agent.tasks.paths import AgentPaths, Layout

WORK = Path("/var/lib/mesos")
AGENT = "413279f6-59c9-4d01-9613-d88feb474a87-S0"
FRAMEWORK = "413279f6-59c9-4d01-9613-d88feb474a87-0000"
CONTAINER = "eb91a81a-77ae-4c36-8d18-061365770f22"
WRONG = ["", ".", "..", "a/b", "../../../etc", "/", "a\0b", "new\nline", "\x7f", "back\\slash", "x" * 256, "ä" * 128]


def test_everything_is_where_a_real_agent_has_it() -> None:
    """The paths of a recorded work directory."""
    layout = Layout(WORK)
    records, sandboxes = layout.records(AGENT), layout.sandboxes(AGENT)
    executor = records.framework(FRAMEWORK).executor("t1")
    run = executor.run(CONTAINER)
    below = f"slaves/{AGENT}/frameworks/{FRAMEWORK}/executors/t1/runs"
    found = {
        sandboxes.framework(FRAMEWORK).executor("t1").run(CONTAINER).path: f"{below}/{CONTAINER}",
        sandboxes.framework(FRAMEWORK).executor("t1").latest: f"{below}/latest",
        layout.latest: "meta/slaves/latest",
        records.info: f"meta/slaves/{AGENT}/slave.info",
        records.framework(FRAMEWORK).info: f"meta/slaves/{AGENT}/frameworks/{FRAMEWORK}/framework.info",
        records.framework(FRAMEWORK).pid: f"meta/slaves/{AGENT}/frameworks/{FRAMEWORK}/framework.pid",
        executor.info: f"meta/{below.removesuffix('/runs')}/executor.info",
        executor.generated: f"meta/{below.removesuffix('/runs')}/executor_generated_for_command_task",
        executor.latest: f"meta/{below}/latest",
        run.libprocess_pid: f"meta/{below}/{CONTAINER}/pids/libprocess.pid",
        run.task("t1").info: f"meta/{below}/{CONTAINER}/tasks/t1/task.info",
        run.task("t1").updates: f"meta/{below}/{CONTAINER}/tasks/t1/task.updates",
    }
    for path, expected in found.items():
        assert str(path) == f"{WORK}/{expected}"


@pytest.mark.parametrize("name", WRONG, ids=repr)
def test_what_cannot_be_a_directory_is_no_id(name: str) -> None:
    agent = Layout(WORK).records("a")
    run = agent.framework("f").executor("e").run("c")
    for refuse in (Layout(WORK).sandboxes, agent.framework, agent.framework("f").executor, run.task):
        with pytest.raises(ValueError, match="cannot be the id of a"):
            refuse(name)
    with pytest.raises(ValueError, match="container"):
        agent.framework("f").executor("e").run(name)


def test_text_that_is_not_utf_8_is_no_id() -> None:
    with pytest.raises(ValueError, match="not UTF-8"):
        Layout(WORK).records(b"\xff")  # type: ignore[arg-type]


def test_the_names_of_links_are_taken() -> None:
    with pytest.raises(ValueError, match="latest"):
        Layout(WORK).records("latest")
    with pytest.raises(ValueError, match="latest"):
        Layout(WORK).records("a").framework("f").executor("latest").run("latest")


@given(st.text(max_size=300))
def test_an_id_is_one_name_or_refused(name: str) -> None:
    try:
        path = AgentPaths(WORK).framework(name).path
    except ValueError:
        return
    assert path.parent == WORK / "frameworks"
    assert path.resolve() == path
    assert path.name == name
