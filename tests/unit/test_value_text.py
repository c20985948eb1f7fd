"""Resources and attributes as flags have them."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesocosm.agent.resources import offered, role_of, total
from mesocosm.api import v1
from mesocosm.api.json import to_json
from mesocosm.api.resources import value_text
from mesocosm.api.value_text import parse_attributes, parse_resources, parse_value

EXAMPLE = "cpus:24;gpus:2;mem:24576;disk:409600;ports:[21000-24000,30000-34000];bugs(debug_role):{a,b,c}"


def test_the_example_of_mesos_in_both_forms() -> None:
    resources = parse_resources(EXAMPLE)
    assert [(each.name, value_text(each), role_of(each)) for each in resources] == [
        ("cpus", "24", "*"),
        ("gpus", "2", "*"),
        ("mem", "24576", "*"),
        ("disk", "409600", "*"),
        ("ports", "[21000-24000, 30000-34000]", "*"),
        ("bugs", "{a, b, c}", "debug_role"),
    ]
    older = [{**to_json(each), "role": role_of(each)} for each in resources]
    for entry in older:
        entry.pop("reservations", None)
    assert parse_resources(json.dumps(older)) == resources
    assert parse_resources(json.dumps([to_json(each) for each in resources])) == resources


def test_a_default_role_is_that_of_those_without_one() -> None:
    resources = parse_resources("cpus:2; mem(*): 10 ;disk(a/b):1.5\nfish:{}", "web")
    assert [(each.name, role_of(each)) for each in resources] == [
        ("cpus", "web"),
        ("mem", "*"),
        ("disk", "a/b"),
        ("fish", "web"),
    ]
    assert to_json(resources[0])["reservations"] == [{"type": "STATIC", "role": "web"}]
    assert "role" not in to_json(resources[0])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("cpus", "'cpus' is no pair of a name and a value"),
        ("cpus:", "'cpus:' is no pair"),
        (":2", "':2' is no pair"),
        ("cpus:two", "'two' is no amount of the resource 'cpus'"),
        ("cpus:-1", "'-1' is no amount"),
        ("cpus:nan", "'nan' is no amount"),
        ("cpus:1e-310", "too small"),
        ("cpus:0.0001", "value <= 0"),
        ("gpus:1.5", "must be an unsigned integer"),
        ("ports:[1-2", "the brackets of '[1-2' do not match"),
        ("ports:[[1-2]]", "the brackets"),
        ("ports:1-2]", "has a bracket that does not belong there"),
        ("ports:[1]", "'1' is no range"),
        ("ports:[2-1]", "the range 2-1 ends before it begins"),
        ("ports:[1-18446744073709551616]", "is no range"),
        ("cpus(:2", "is no name of a resource"),
        ("cpus(a b):2", "Role component 'a b' is invalid"),
        ("cpus(-a):2", "starts with a dash"),
        ("[", "the value is no JSON"),
        ("[1]", "Expecting a JSON object"),
        ('[{"name": "cpus"}]', "type"),
        ('[{"name":"disk","type":"SCALAR","scalar":{"value":1},"disk":{"persistence":{"id":"x"}}}]', "persistent"),
        ('[{"name":"cpus","type":"SCALAR","scalar":{"value":1},"revocable":{}}]', "is revocable"),
        (
            '[{"name":"cpus","type":"SCALAR","scalar":{"value":1},"reservations":[{"type":"DYNAMIC","role":"a"}]}]',
            "is dynamically reserved",
        ),
    ],
)
def test_resources_that_make_no_sense(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        parse_resources(text)
    assert reason in str(raised.value)


def test_a_default_role_that_makes_no_sense() -> None:
    with pytest.raises(ValueError, match=r"'/a' cannot start with a slash"):
        parse_resources("", "/a")


def test_attributes() -> None:
    attributes = parse_attributes("rack:2.5;zone:west;ports: [9-9,1-3,4-5];os:debian:12")
    assert [(each.name, value_text(each)) for each in attributes] == [
        ("rack", "2.5"),
        ("zone", "west"),
        ("ports", "[1-5, 9-9]"),
        ("os", "debian:12"),
    ]
    with pytest.raises(ValueError, match="the attribute 'a' cannot be a set"):
        parse_attributes("a:{b}")


@given(st.text())
def test_no_text_is_more_than_wrong(text: str) -> None:
    for parse in (parse_value, parse_resources, parse_attributes):
        with contextlib.suppress(ValueError):
            parse(text)


def test_what_the_flag_does_not_name_is_found(tmp_path: Path) -> None:
    resources = offered("cpus:0;mem:64;fish:{a}", "*", tmp_path)
    assert [each.name for each in resources] == ["mem", "fish", "disk", "ports"]
    assert total(resources, "mem") == 64
    assert total(resources, "cpus") == 0
    assert total(resources, "disk") > 0
    found = offered(None, "web", tmp_path)
    assert {each.name for each in found} == {"cpus", "mem", "disk", "ports"}
    assert {role_of(each) for each in found} == {"web"}
    assert all(isinstance(each, v1.Resource) for each in found)
