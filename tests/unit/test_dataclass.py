"""`mesocosm.dataclass` makes what the standard library would make of the same class."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import msgspec
import pytest

from mesocosm import dataclass as dataclass_module
from mesocosm.dataclass import dataclass, field


@dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: int = 2
    labels: list[str] = field(default_factory=list, compare=False)
    secret: str = field(default="s", repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Standard:
    x: int
    y: int = 2
    labels: list[str] = dataclasses.field(default_factory=list, compare=False)
    secret: str = dataclasses.field(default="s", repr=False)


@dataclass(slots=True)
class Changing:
    value: int = 0


@dataclass(slots=True, eq=False)
class Identity:
    value: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    value: int


@dataclass(frozen=True, slots=True)
class Nothing:
    pass


@dataclass(frozen=True, slots=True)
class Checked:
    value: int

    def __post_init__(self) -> None:
        if self.value < 0:
            raise ValueError(self.value)

    def __repr__(self) -> str:
        return f"<{self.value}>"


@dataclass(frozen=True, slots=True)
class Derived(Checked):
    more: int = 1


@pytest.mark.parametrize("arguments", [(1,), (1, 3), (1, 3, ["a"]), (1, 3, [], "t")])
def test_values_and_text_are_those_of_the_standard_library(arguments: tuple[Any, ...]) -> None:
    ours, standard = Point(*arguments), Standard(*arguments)
    assert repr(ours) == repr(standard).replace("Standard", "Point")
    assert dataclasses.asdict(ours) == dataclasses.asdict(standard)
    assert hash(ours) == hash(standard)


@pytest.mark.parametrize(
    "make",
    [
        lambda kind: kind(),
        lambda kind: kind(1, z=2),
        lambda kind: kind(1, x=1),
        lambda kind: kind(1, 2, [], "s", 5),
        lambda kind: kind(y=1),
    ],
)
def test_wrong_arguments_are_refused(make: Callable[[type], object]) -> None:
    for kind in (Point, Standard):
        with pytest.raises(TypeError, match=kind.__name__):
            make(kind)


def test_equal_are_those_of_one_class_whose_compared_fields_are() -> None:
    assert Point(1, labels=["a"]) == Point(1, labels=["b"])
    assert Point(1) != Point(2)
    assert Point(1) != Standard(1)
    assert Nothing() == Nothing()
    assert hash(Nothing()) == hash(Nothing())
    assert Identity() != Identity()
    assert Changing(1) == Changing(1)
    with pytest.raises(TypeError, match="unhashable"):
        hash(Changing())


def test_a_frozen_one_does_not_change() -> None:
    point = Point(1)
    with pytest.raises(FrozenInstanceError):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        del point.x
    changing = Changing()
    changing.value = 5
    assert changing == Changing(5)
    assert not hasattr(point, "__dict__")


def test_each_value_has_a_default_of_its_own() -> None:
    assert Point(1).labels is not Point(1).labels


def test_named_only() -> None:
    assert Named(value=1) == Named(value=1)
    with pytest.raises(TypeError, match="Named"):
        Named(1)  # type: ignore[misc]


def test_what_a_class_has_itself_stays() -> None:
    assert repr(Checked(1)) == "<1>"
    with pytest.raises(ValueError, match="-1"):
        Derived(-1)
    assert [entry.name for entry in fields(Derived)] == ["value", "more"]
    assert Derived(1, 2) == Derived(1, more=2) != Derived(1)


@pytest.mark.parametrize("value", [Point(1, 3, ["a"], "t"), Changing(3), Named(value=4), Nothing(), Derived(1, 2)])
def test_copies_are_equal(value: Any) -> None:
    assert pickle.loads(pickle.dumps(value)) == value
    assert copy.deepcopy(value) == value
    assert replace(value) == value
    assert msgspec.json.decode(msgspec.json.encode(value), type=type(value)) == value


def test_replaced() -> None:
    point = Point(1, labels=["a"])
    assert dataclass_module.replace(point, y=3, secret="t") == Point(1, 3, ["a"], "t") != point
    assert dataclass_module.replace(Derived(1), more=2) == Derived(1, 2)
    assert dataclass_module.replace(Standard(1), x=2) == Standard(2)
    with pytest.raises(TypeError, match="z"):
        dataclass_module.replace(point, z=1)
    with pytest.raises(ValueError, match="-1"):
        dataclass_module.replace(Checked(1), value=-1)


def test_the_standard_library_makes_one_of_it() -> None:
    @dataclasses.dataclass(frozen=True, slots=True)
    class More(Point):
        z: int = 0

    assert repr(More(1, z=5)).endswith("More(x=1, y=2, labels=[], z=5)")
    assert dataclasses.asdict(More(1)) == {**dataclasses.asdict(Point(1)), "z": 0}


def test_replaced_is_one_of_the_same_class() -> None:
    @dataclasses.dataclass(frozen=True, slots=True)
    class More(Point):
        z: int = 0

    assert dataclass_module.replace(More(1, z=2), x=3) == More(3, z=2)


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(TypeError, match="init"):
        field(init=False)
    with pytest.raises(TypeError, match=r"Mixed\.x: use the field"):

        @dataclass(slots=True)
        class Mixed:
            x: int = dataclasses.field(default=1)

    with pytest.raises(ValueError, match="Point has 4 fields, and not 1"):
        Point.__new__(Point).__setstate__((1,))  # type: ignore[attr-defined]


def test_patterns_match_by_position() -> None:
    match Point(1, 3):
        case Point(x, y):
            assert (x, y) == (1, 3)


def test_only_classes_with_slots() -> None:
    with pytest.raises(TypeError):
        dataclass(frozen=True)(Point)
