"""The table of the agent's flags: all that Mesos has, with its defaults, and each that is served with a reader."""

from __future__ import annotations

import json
import typing
from dataclasses import fields
from pathlib import Path

import pytest

from mesocosm.agent.flags import AgentFlags, help_text, load
from mesocosm.agent.flags.flag import Flag
from mesocosm.agent.flags.kinds import show_duration
from mesocosm.agent.flags.table import FLAGS, SECTIONS, SPELLINGS
from mesocosm.agent.flags.table.own import LOGROTATE, OWN
from mesocosm.flags import Flags
from mesocosm.launcher.selection import launcher_name
from mesocosm.loggers.logrotate import Rotation

DATA = Path(__file__).with_name("data")
OF_MESOS = (DATA / "mesos_agent_flags.txt").read_text().split()
RECORDED: dict[str, str] = json.loads(
    (DATA / "operator_api/v0_flags.http").read_text().partition("\n\n")[2].replace("\r", "")
)["flags"]
SET_THERE = {
    *("attributes", "cgroups_cpu_enable_pids_and_tids_count", "cgroups_enable_cfs", "cgroups_net_cls_primary_handle"),
    *("cgroups_root", "docker", "hostname", "ip", "isolation", "launcher_dir", "master", "port", "resources"),
    *("systemd_enable_support", "work_dir"),
}
"""What the agent that was recorded was given, or, of `launcher_dir`, built with."""
ANSWERED_AT_ONCE = {"help", "version"}
SERVED = {name for name, flag in FLAGS.items() if flag.served_by is not None}


def test_the_table_has_every_flag_of_mesos_and_says_what_is_not_of_mesos() -> None:
    assert set(FLAGS) - {flag.name for flag in OWN} == set(OF_MESOS)
    assert not {flag.name for flag in OWN} & set(OF_MESOS)


def test_every_spelling_is_of_one_flag() -> None:
    assert sum(map(len, SECTIONS.values())) == len(FLAGS)
    assert len(SPELLINGS) == sum(1 + len(flag.old_names) for flag in FLAGS.values())
    assert not [name for name in SPELLINGS if name.startswith("no_") or not name.replace("_", "a").isalnum()]


def test_every_flag_that_is_served_is_read_and_no_other() -> None:
    read = [entry.name for entry in (*fields(Flags), *fields(AgentFlags))]
    assert len(read) == len(set(read))
    assert set(read) == SERVED - ANSWERED_AT_ONCE


def test_what_is_never_served_is_not_served() -> None:
    assert not [flag.name for flag in FLAGS.values() if flag.instead and flag.served_by]


@pytest.mark.parametrize("flag", FLAGS.values(), ids=lambda flag: flag.name)
def test_help_is_a_sentence_or_two(flag: Flag) -> None:
    assert flag.help.endswith(".")
    assert flag.help[0].isupper() or flag.help[0] == "`"
    assert "|" not in flag.help, "it would end a cell of the table in the documentation"


@pytest.mark.parametrize("kind", [AgentFlags, Flags])
def test_values_are_of_the_types_that_are_declared(kind: type) -> None:
    loaded = load(["--work_dir=/agent"], {})
    values = loaded.agent if kind is AgentFlags else loaded.containerizer
    for name, declared in typing.get_type_hints(kind).items():
        assert matches(getattr(values, name), declared), name


def test_the_flags_of_the_logger_that_rotates_have_its_defaults() -> None:
    agent = load(["--work_dir=/agent"], {}).agent
    for entry in fields(Rotation):
        assert getattr(agent, f"{LOGROTATE}_{entry.name}") == entry.default


def matches(value: object, declared: object) -> bool:
    origin, arguments = typing.get_origin(declared), typing.get_args(declared)
    if origin is typing.Literal:
        return value in arguments
    if origin in (tuple, dict):
        return isinstance(value, origin)
    if arguments:
        return any(matches(value, argument) for argument in arguments)
    return type(value) is declared or (isinstance(value, Path) and declared is Path)


# What `/flags` shows.


def test_the_keys_are_those_of_a_recorded_agent() -> None:
    texts = load(["--work_dir=/var/lib/mesos"], {}).texts
    unset = {name for name in SET_THERE if FLAGS[name].default is None and not FLAGS[name].required}
    more = {flag.name for flag in (*OWN, *SECTIONS["Port mapping"])}  # It was built without.
    assert set(texts) - more == set(RECORDED) - unset
    assert list(texts) == sorted(texts)


def test_the_values_are_those_of_a_recorded_agent() -> None:
    texts = load(["--work_dir=/var/lib/mesos"], {}).texts
    ours = {name: text for name, text in texts.items() if name in RECORDED and name not in SET_THERE}
    assert ours | {"launcher": "linux"} == {name: RECORDED[name] for name in ours}
    assert texts["launcher"] == launcher_name(Flags())


def test_what_was_recorded_is_shown_again_as_it_was() -> None:
    """As far as it is served."""
    arguments = [f"--{name}={text}" for name, text in RECORDED.items() if name in SERVED - ANSWERED_AT_ONCE]
    texts = load(arguments, {}).texts
    assert {name: texts[name] for name in RECORDED if name in SERVED} == {
        name: text for name, text in RECORDED.items() if name in SERVED
    }


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ns"),
        (5e-9, "5ns"),
        (2.5e-6, "2500ns"),
        (250e-6, "250us"),
        (0.5, "500ms"),
        (1.5, "1500ms"),
        (60, "1mins"),
        (90, "90secs"),
        (5400, "90mins"),
        (129600, "36hrs"),
        (864000, "10days"),
        (1209600, "2weeks"),
        (60.000000001, "1.00000000001667mins"),
    ],
)
def test_durations_are_written_as_mesos_does(seconds: float, text: str) -> None:
    assert show_duration(seconds) == text


# What people read.


def test_help_has_every_flag_within_100_columns() -> None:
    text = help_text()
    assert max(map(len, text.splitlines())) <= 100
    for flag in FLAGS.values():
        assert f"--{flag.name}" in text or f"--[no-]{flag.name}" in text


def test_help_marks_what_is_not_served() -> None:
    section = help_text().partition("Port mapping:")[2].partition("\n\n")[0]
    assert section.strip().startswith("not served: --ephemeral_ports_per_container, ")
    assert "--gc_delay=DURATION\n      How long" in help_text()
