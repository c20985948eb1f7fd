"""Which flags a command line and an environment set, in every spelling that Mesos knows (stout/flags/flags.hpp)."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mesocosm.agent.flags.flag import Flag
from mesocosm.agent.flags.kinds import BOOLEAN
from mesocosm.agent.flags.table import FLAGS, SPELLINGS
from mesocosm.errors import FlagError

PREFIX = "MESOS_"
_QUESTIONS = ("help", "version")
_NEGATION = "no_"
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Given:
    """A flag that was set to `text`, by `origin`: how it was spelled."""

    flag: Flag
    origin: str
    text: str
    is_old_name: bool

    @property
    def file(self) -> str | None:
        """The file whose text is meant, where `text` names one."""
        return self.flag.kind.file_of(self.text)


@dataclass(frozen=True, slots=True)
class _Written:
    """A flag as it was written: its name in lower case with underscores, and no value where there is no `=`."""

    origin: str
    name: str
    value: str | None


def given(arguments: Sequence[str], environment: Mapping[str, str]) -> dict[str, Given]:
    """The flags that were set, by their names; the command line goes before the environment. Raises FlagError."""
    _refuse_other(arguments)
    return _resolve(_in_environment(environment)) | _resolve(_in_arguments(arguments))


def asked(arguments: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """`help` or `version` where that is asked for: it is answered whatever is wrong with the rest, as in Mesos."""
    written = [*_in_arguments(arguments), *_in_environment(environment)]
    for name in _QUESTIONS:
        if any(entry.name == name and entry.value in (None, "", "true", "1") for entry in written):
            return name
    return "help" if "-h" in arguments else None


def _refuse_other(arguments: Sequence[str]) -> None:
    """Raises FlagError for an argument that is no flag. Mesos passes over them."""
    before = ""
    for argument in arguments:
        if not argument.strip().startswith("--"):
            is_value = _normal(before.removeprefix("--")) in SPELLINGS
            raise FlagError(f"{argument!r} is no flag", f"write {before if is_value else '--NAME'}=VALUE, as one word")
        before = argument


def _in_arguments(arguments: Iterable[str]) -> Iterator[_Written]:
    for argument in map(str.strip, arguments):
        if argument.startswith("--"):
            origin, equals, value = argument.partition("=")
            yield _Written(origin, _normal(origin.removeprefix("--")), value if equals else None)


def _in_environment(environment: Mapping[str, str]) -> Iterator[_Written]:
    """Other variables with the prefix are for executors and libraries; Mesos passes over them, too."""
    variables = {name: value for name, value in environment.items() if name.startswith(PREFIX)}
    for variable, value in variables.items():
        name = _normal(variable.removeprefix(PREFIX))
        if name.removeprefix(_NEGATION) in SPELLINGS:
            yield _Written(variable, name, value)
        else:
            _logger.debug("the variable %s sets no flag", variable)


def _normal(name: str) -> str:
    return name.lower().replace("-", "_")


def _resolve(written: Iterable[_Written]) -> dict[str, Given]:
    found: dict[str, Given] = {}
    for entry in written:
        is_negated = entry.name.startswith(_NEGATION)
        spelling = entry.name.removeprefix(_NEGATION)
        if spelling not in SPELLINGS:
            raise _unknown(entry.origin, spelling)
        flag = FLAGS[SPELLINGS[spelling]]
        if (other := found.get(flag.name)) is not None:
            raise FlagError(f"--{flag.name} is given twice, by {other.origin} and {entry.origin}", "remove one of them")
        found[flag.name] = Given(flag, entry.origin, _text(flag, entry, is_negated), spelling != flag.name)
    return found


def _text(flag: Flag, entry: _Written, is_negated: bool) -> str:
    value = entry.value
    if flag.kind is not BOOLEAN:
        if is_negated:
            raise FlagError(f"{entry.origin}: --{flag.name} is not yes or no", f"write --{flag.name}=VALUE")
        if value is None:
            raise FlagError(f"{entry.origin} needs a value", f"write {entry.origin}=VALUE")
    elif is_negated and value:
        raise FlagError(f"{entry.origin} takes no value", f"write --{flag.name}={value!r}, or leave the value out")
    else:
        value = value or ("false" if is_negated else "true")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise FlagError(f"{entry.origin}: the value is no text in UTF-8") from None
    return value


def _unknown(origin: str, spelling: str) -> FlagError:
    near = difflib.get_close_matches(spelling, SPELLINGS, n=1)
    hint = f"did you mean --{SPELLINGS[near[0]]}?" if near else "`mesocosm agent --help` lists them"
    return FlagError(f"there is no flag {origin!r}", hint)
