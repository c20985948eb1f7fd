"""What `mesocosm top` and tables show: in the order that was asked for, and never more than there is room for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesocosm.cli.containers import Container, Overview, choose
from mesocosm.cli.messages import complain, printable
from mesocosm.cli.screen import View, header, order_of, table
from mesocosm.cli.shown import exit_status, in_tree, outcome, since, state_of
from mesocosm.cli.table import GREEN, Column, columns_of, cut, render
from mesocosm.cli.usage import machine_usage, usages
from mesocosm.errors import FlagError, UnknownContainerError

MIB = 1 << 20


def container(container_id: str, state: str = "RUNNING", launched: float = 0.0, **entry: Any) -> Container:
    parent = container_id.rpartition(".")[0] or None
    return Container(container_id, parent, state, launched, None, {"id": container_id, **entry})


def look(time: float, *containers: Container, busy: float = 0.0) -> Overview:
    machine = {"timestamp": time, "cpus": 2, "cpu_busy_secs": busy, "mem_used_bytes": MIB, "mem_total_bytes": 4 * MIB}
    return Overview(time, {"hostname": "host", "started": 0.0}, machine, containers)


def used(container_id: str, time: float, cpu: float, memory: int) -> Container:
    statistics = {
        "timestamp": time,
        "cpus_user_time_secs": cpu,
        "cpus_system_time_secs": 0.0,
        "mem_total_bytes": memory,
        "net_rx_bytes": int(cpu * 100),
    }
    return container(container_id, launched=len(container_id), command="sleep 1000", statistics=statistics)


BEFORE = look(10.0, used("a", 10.0, 1.0, 5), used("b", 10.0, 1.0, 5), container("a.c"), busy=4.0)
NOW = look(12.0, used("a", 12.0, 1.5, 9), used("b", 12.0, 3.0, 7), container("a.c"), container("e", "ENDED"), busy=6.0)


def test_rates_are_between_two_looks() -> None:
    a, b, nested = usages(BEFORE, NOW)
    assert (a.cpu, a.memory, a.received) == (0.25, 9, 25.0)
    assert (b.cpu, nested.cpu, nested.memory) == (1.0, None, None)
    assert [usage.cpu for usage in usages(None, NOW)] == [None, None, None]
    assert machine_usage(BEFORE, NOW).cpu == 1.0
    again = look(10.0, used("a", 10.0, 9.0, 5))
    assert usages(again, NOW)[0].cpu == 0.0, "a counter that begins anew has no negative rate"


def test_the_order_of_a_screen() -> None:
    view = View(2.0, looks=(BEFORE, NOW))
    assert first_of(view) == ["a", "└─ c", "b"]
    for text, ids in (("cpu", ["b", "a", "a.c"]), ("mem", ["a", "b", "a.c"]), ("cont", ["a", "a.c", "b"])):
        view.order = order_of(text)
        assert first_of(view) == ids
    view.press("r")
    assert first_of(view) == ["b", "a.c", "a"]
    view.press("RIGHT")
    assert first_of(view) == ["a", "b", "a.c"], "what nobody measures is last either way"
    view.press("t")
    assert first_of(view) == ["a", "└─ c", "b"]
    with pytest.raises(FlagError, match="--sort: there is no column 'nope'; there are container, cpu"):
        order_of("nope")


def first_of(view: View) -> list[str]:
    return [line.split("  ")[0] for line in table(view, 200)[1:]]


def test_the_machine() -> None:
    first, bars = header(View(2.0, looks=(BEFORE, NOW)), 120)[:2]
    assert first.startswith("host   3 containers")
    assert "cpu    ████████░░░░░░░░  50% of 2 CPUs" in bars
    assert "memory ████░░░░░░░░░░░░  25% of 4.0 MB" in bars
    assert "########--------" in header(View(2.0, looks=(BEFORE, NOW)), 120, plain=True)[1]


@given(st.integers(1, 150), st.sampled_from([None, 0, 1, 2, 8]))
def test_no_line_is_wider_than_a_screen(width: int, order: int | None) -> None:
    view = View(2.0, order, looks=(BEFORE, NOW))
    assert all(columns_of(line) <= width for line in header(view, width))
    if width >= 30:  # What cannot be left out has that many.
        assert all(columns_of(line) <= width for line in table(view, width))


def test_scrolling_and_intervals_have_ends() -> None:
    view = View(2.0, looks=(BEFORE, NOW), page=2)
    for key, offset in (("UP", 0), ("DOWN", 1), ("END", 2), ("NPAGE", 2), ("PPAGE", 0), ("HOME", 0)):
        view.press(key)
        assert view.offset == offset
    for key, interval in (("+", 60.0), ("-", 0.5)):
        for _ in range(20):
            view.press(key)
        assert view.interval == interval


def test_tables() -> None:
    columns = [Column("name"), Column("size", ">", rank=1, style=lambda _: GREEN), Column("what")]
    rows = [("a", "1", "x" * 30), ("\u4e2d\u6587", "200", "y")]
    assert render(columns, rows, None) == ["name  size  what", f"a        1  {'x' * 30}", "中文   200  y"]
    assert render(columns, rows, 24) == ["name  size  what", "a        1  xxxxxxxxxxx…", "中文   200  y"]
    assert render(columns, rows, 18) == ["name  what", "a     xxxxxxxxxxx…", "中文  y"]
    assert render(columns, rows, None, colour=True)[2] == "中文   \x1b[32m200\x1b[0m  y"
    assert (cut("abc", 3), cut("abcd", 3), cut("中文字", 4)) == ("abc", "ab…", "中…")
    assert printable("a\x1b[2J\nb\u202e") == "a\\x1b[2J\\nb\\u202e"


def test_names() -> None:
    found = [container(name) for name in ("web", "web-2", "web.side", "db.main", "db.more")]
    for text, meant in {
        "web": "web",
        "web-": "web-2",
        "w.s": "web.side",
        "web.side": "web.side",
        "d.mo": "db.more",
    }.items():
        assert choose(found, text).id == meant
    for text in ("", ".", "w", "d.m", "side", "web.", "x"):
        with pytest.raises(UnknownContainerError):
            choose(found, text)


def test_trees() -> None:
    found = [
        container(name, launched=number) for number, name in enumerate(("b", "a", "b.y", "b.x", "b.y.z", "lost.child"))
    ]
    assert [branch + each.name for branch, each in in_tree(found)] == [
        *("b", "├─ y", "│  └─ z", "└─ x", "a", "child"),
    ]


@pytest.mark.parametrize(
    ("status", "reason", "state", "text", "code"),
    [
        (0, None, "exit 0", "exit status 0", 0),
        (3 << 8, None, "exit 3", "exit status 3", 3),
        (15, None, "SIGTERM", "killed by SIGTERM", 143),
        (9, "REASON_CONTAINER_LIMITATION_MEMORY", "memory limit", "killed by SIGKILL", 137),
        (None, None, "lost", "nobody saw how it ended", 125),
    ],
)
def test_ends(status: int | None, reason: str | None, state: str, text: str, code: int) -> None:
    assert state_of(container("a", "ENDED", status=status, reason=reason)) == state
    assert outcome({"exit_status": status, "message": "why\nmore"}) == f"{text}: why"
    assert exit_status(status) == code


def test_ages() -> None:
    ages = {0: "0s", 119.9: "119s", 120: "2m", 7200: "2h", 172800: "2d", -5: "0s"}
    assert {seconds: since(1000.0, 1000.0 + seconds) for seconds in ages} == ages
    assert since(None) == ""


def test_a_message_is_a_line_that_no_terminal_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    """An executor, or an agent, may say anything."""
    complain("t: TASK_FAILED: \x1b]0;owned\x07\nmesocosm: all is well")
    assert capsys.readouterr().err == "mesocosm: t: TASK_FAILED: \\x1b]0;owned\\x07\\nmesocosm: all is well\n"
