"""The `dataclass` of the standard library, without what that costs at each import.

For each class the standard library writes the source of up to eight methods and compiles it: about a millisecond, and
`mesocosm run` loads ninety of them. Here the methods of all classes are closures of the same few functions, which come
compiled. For `fields`, `replace`, `asdict`, pickle and msgspec they are dataclasses like any others.
"""

from __future__ import annotations

import dataclasses
from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from dataclasses import dataclass as dataclass

    Get = Callable[[object], tuple[Any, ...]]
    Puts = dict[str, Callable[[object, Any], None]]

    Class = TypeVar("Class", bound=type)
else:

    def dataclass(
        *, slots: bool, frozen: bool = False, eq: bool = True, kw_only: bool = False
    ) -> Callable[[Class], Class]:
        """As in the standard library, for classes with slots, and without an order."""

        def complete(cls: Class) -> Class:
            cls = dataclasses.dataclass(init=False, repr=False, eq=False, slots=slots, kw_only=kw_only)(cls)
            for name, method in _methods(cls, frozen=frozen, eq=eq).items():
                if name not in cls.__dict__:
                    setattr(cls, name, method)
            return cls

        return complete


def _methods(cls: type[Any], *, frozen: bool, eq: bool) -> dict[str, Any]:
    """The methods of a class by their names; one that it has itself is not replaced."""
    entries = dataclasses.fields(cls)
    puts = {entry.name: getattr(cls, entry.name).__set__ for entry in entries}
    compared = _getter([entry.name for entry in entries if entry.compare])
    methods: dict[str, Any] = {
        "__init__": _initializer(cls, entries, puts),
        "__repr__": _representation([entry.name for entry in entries if entry.repr]),
        **_pickling(_getter([*puts]), puts),
    }
    if eq:
        methods |= {"__eq__": _equality(compared), "__hash__": _hash(compared) if frozen else None}
    if frozen:
        methods |= {"__setattr__": _refuse, "__delattr__": _refuse}
    return methods


def _getter(names: Sequence[str]) -> Get:
    """What returns the values of the attributes `names`: a tuple also if they are few."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda value: tuple(getattr(value, name) for name in names)


def _initializer(cls: type[Any], entries: Sequence[dataclasses.Field[Any]], puts: Puts) -> Callable[..., None]:
    missing = dataclasses.MISSING
    positional: tuple[str, ...] = cls.__match_args__
    defaults = {entry.name: entry.default for entry in entries if entry.default is not missing}
    factories = [(entry.name, entry.default_factory) for entry in entries if entry.default_factory is not missing]
    names, assignments = puts.keys(), [*puts.items()]
    after = getattr(cls, "__post_init__", None)

    def initialize(self: object, /, *args: Any, **named: Any) -> None:
        values = {**defaults, **named}
        if args:
            values.update(zip(positional, args, strict=False))
            if len(args) > len(positional) or not named.keys().isdisjoint(positional[: len(args)]):
                raise TypeError(f"{cls.__name__}() has one too many: {len(args)} by position, {[*named]} by name")
        for name, make in factories:
            if name not in values:
                values[name] = make()
        if values.keys() != names:
            raise TypeError(f"{cls.__name__}() lacks or does not know {sorted(values.keys() ^ names)}")
        for name, put in assignments:
            put(self, values[name])
        if after is not None:
            after(self)

    return initialize


def _pickling(get: Get, puts: Puts) -> dict[str, Callable[..., Any]]:
    """Pickle and copy could not set the attributes of a value that does not change."""

    def state(self: object) -> tuple[Any, ...]:
        return get(self)

    def restore(self: object, state: tuple[Any, ...]) -> None:
        for put, value in zip(puts.values(), state, strict=True):
            put(self, value)

    return {"__getstate__": state, "__setstate__": restore}


def _representation(names: Sequence[str]) -> Callable[[object], str]:
    def represent(self: object) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__qualname__}({shown})"

    return represent


def _equality(get: Get) -> Callable[[object, object], bool]:
    def equals(self: object, other: object) -> bool:
        return get(self) == get(other) if other.__class__ is self.__class__ else NotImplemented

    return equals


def _hash(get: Get) -> Callable[[object], int]:
    return lambda self: hash(get(self))


def _refuse(self: object, name: str, *_value: Any) -> None:
    raise dataclasses.FrozenInstanceError(f"a {type(self).__name__} does not change, nor does its {name!r}")
