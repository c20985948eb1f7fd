"""The `dataclass` of the standard library, without what that costs.

For each class the standard library writes the source of up to eight methods and compiles it: about a millisecond, and
`mesocosm run` loads ninety of them. It also loads `inspect`, with a megabyte that every container's init would inherit,
and give back at its end. Here the methods of all classes are closures of the same few functions, which come compiled,
and the standard library is asked only when somebody wants to know the fields of a class. For `fields`, `replace`,
`asdict`, pickle and msgspec they are dataclasses like any others.
"""

from __future__ import annotations

from collections import deque
from itertools import repeat
from operator import attrgetter, call, itemgetter

TYPE_CHECKING = False  # As `typing` has it, which would have to be loaded.
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from dataclasses import dataclass as dataclass
    from dataclasses import field as field
    from dataclasses import replace as replace
    from typing import Any, TypeVar

    Get = Callable[[object], tuple[Any, ...]]
    Put = Callable[[object, Any], None]
    Entries = dict[str, "_Options"]

    Class = TypeVar("Class", bound=type)
else:

    def dataclass(
        *, slots: bool, frozen: bool = False, eq: bool = True, kw_only: bool = False
    ) -> Callable[[Class], Class]:
        """As in the standard library, for classes with slots, and without an order."""
        if not slots:
            raise TypeError("only classes with slots")

        def complete(cls: Class) -> Class:
            entries = {**_inherited(cls), **_own(cls, kw_only=kw_only)}
            cls = _with_slots(cls, entries, frozen=frozen)
            for name, method in _methods(cls, entries, frozen=frozen, eq=eq).items():
                if name not in cls.__dict__:
                    setattr(cls, name, method)
            return cls

        return complete

    def field(**options: Any) -> _Options:
        """As in the standard library, with those of its options that are needed here."""
        if unknown := options.keys() - _KNOWN:
            raise TypeError(f"field() does not know {sorted(unknown)}")
        return _Options(options)

    def replace(value: Any, /, **changes: Any) -> Any:
        """As in the standard library, in a fraction of the time for values of classes of this module."""
        if (make := getattr(value, "__replace__", None)) is None:
            import dataclasses

            return dataclasses.replace(value, **changes)
        return make(**changes)


_FIELDS = "__dataclass_fields__"
_KNOWN = {"default", "default_factory", "repr", "compare", "metadata"}
_UNSAID = object()


class _Options(dict[str, "Any"]):
    """What is said of a field, by the names of the standard library."""


class _Description:
    """What the standard library keeps of a class: made by itself, of a class like this one, when it is asked for."""

    def __init__(self, cls: type[Any], entries: Entries, *, frozen: bool) -> None:
        self.entries = entries
        self._cls = cls
        self._frozen = frozen
        self._made: type[Any] | None = None

    @property
    def made(self) -> type[Any]:
        """The other class."""
        if self._made is None:
            import dataclasses

            types = {name: kind for base in reversed(self._cls.__mro__) for name, kind in _annotations(base).items()}
            namespace: dict[str, Any] = {name: dataclasses.field(**options) for name, options in self.entries.items()}
            namespace["__annotations__"] = {name: types[name] for name in self.entries}
            namespace["__module__"] = self._cls.__module__  # Where the types have their names.
            like: type[Any] = type(self._cls.__name__, (), namespace)
            self._made = dataclasses.dataclass(init=False, repr=False, eq=False, frozen=self._frozen)(like)
        return self._made


class _Described:
    """An attribute of a class that is in its description."""

    def __init__(self, name: str, description: _Description) -> None:
        self._name = name
        self.description = description
        self._value: Any = None

    def __get__(self, _instance: object, _owner: type[Any]) -> Any:
        if self._value is None:
            self._value = getattr(self.description.made, self._name)
        return self._value


def _annotations(cls: type[Any]) -> dict[str, Any]:
    found: dict[str, Any] = getattr(cls, "__annotations__", {})
    return found


def _inherited(cls: type[Any]) -> Entries:
    found: Entries = {}
    for base in reversed(cls.__mro__[1:]):
        if (known := base.__dict__.get(_FIELDS)) is not None:
            found |= known.description.entries
    return found


def _own(cls: type[Any], *, kw_only: bool) -> Entries:
    found: Entries = {}
    for name, kind in _annotations(cls).items():
        if "ClassVar" not in str(kind):
            given = cls.__dict__.get(name, _UNSAID)
            if type(given).__module__ == "dataclasses":
                raise TypeError(f"{cls.__name__}.{name}: use the field() that comes with this dataclass()")
            said = {} if given is _UNSAID else given if isinstance(given, _Options) else {"default": given}
            found[name] = _Options(kw_only=kw_only, **said)
    return found


def _with_slots(cls: Any, entries: Entries, *, frozen: bool) -> Any:
    """A class like `cls`, which was made without them."""
    taken = {name for base in cls.__mro__[1:] for name in base.__dict__.get("__slots__", ())}
    left_out = {*entries, "__dict__", "__weakref__"}
    namespace = {name: value for name, value in cls.__dict__.items() if name not in left_out}
    namespace["__slots__"] = tuple(name for name in entries if name not in taken)
    namespace["__match_args__"] = tuple(name for name, options in entries.items() if not options["kw_only"])
    made = type(cls)(cls.__name__, cls.__bases__, namespace)
    made.__qualname__ = cls.__qualname__
    description = _Description(made, entries, frozen=frozen)
    for name in (_FIELDS, "__dataclass_params__"):
        setattr(made, name, _Described(name, description))
    return made


def _methods(cls: type[Any], entries: Entries, *, frozen: bool, eq: bool) -> dict[str, Any]:
    """The methods of a class by their names; one that it has itself is not replaced."""
    names = tuple(entries)
    get, put = _getter(names), _putter(cls, names)
    compared = _getter([name for name, options in entries.items() if options.get("compare", True)])
    methods: dict[str, Any] = {
        "__init__": _initializer(cls, entries, put),
        "__repr__": _representation([name for name, options in entries.items() if options.get("repr", True)]),
        "__replace__": _replacement(cls, names, get),
        "__getstate__": lambda self: get(self),  # An attrgetter is no method.
        "__setstate__": put,
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


def _taker(names: Sequence[str]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    """The same of the items of a mapping."""
    if len(names) > 1:
        return itemgetter(*names)
    return lambda values: tuple(values[name] for name in names)


def _putter(cls: type[Any], names: Sequence[str]) -> Callable[[object, Collection[Any]], None]:
    """What sets all attributes, also of a value that does not change."""
    puts: list[Put] = [getattr(cls, name).__set__ for name in names]

    def put(self: object, values: Collection[Any]) -> None:
        if len(values) != len(puts):
            raise ValueError(f"{cls.__name__} has {len(puts)} fields, and not {len(values)}")
        deque(map(call, puts, repeat(self), values), 0)

    return put


def _initializer(
    cls: type[Any], entries: Entries, put: Callable[[object, Collection[Any]], None]
) -> Callable[..., None]:
    positional: tuple[str, ...] = cls.__match_args__
    names, take = entries.keys(), _taker(tuple(entries))
    defaults = {name: options["default"] for name, options in entries.items() if "default" in options}
    said = [(name, options.get("default_factory")) for name, options in entries.items()]
    factories = [(name, make) for name, make in said if make is not None]
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
        put(self, take(values))
        if after is not None:
            after(self)

    return initialize


def _replacement(cls: type[Any], names: Sequence[str], get: Get) -> Callable[..., Any]:
    def replaced(self: object, /, **changes: Any) -> Any:
        if type(self) is not cls:  # Of a class that the standard library has made of this one.
            import dataclasses

            return dataclasses.replace(self, **changes)  # type: ignore[type-var]
        return cls(**{**dict(zip(names, get(self), strict=True)), **changes})

    return replaced


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
    import dataclasses

    raise dataclasses.FrozenInstanceError(f"a {type(self).__name__} does not change, nor does its {name!r}")
