"""The flags of the agent out of a command line and an environment, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mesocosm.agent.flags.checks import check_served, check_together, isolators, warnings_of
from mesocosm.agent.flags.flag import Flag
from mesocosm.agent.flags.given import Given, given
from mesocosm.agent.flags.table import FLAGS
from mesocosm.agent.flags.values import AgentFlags
from mesocosm.errors import FlagError
from mesocosm.flags import Flags
from mesocosm.launcher.selection import launcher_name


@dataclass(frozen=True, slots=True)
class Loaded:
    """The flags that an agent runs with."""

    containerizer: Flags
    agent: AgentFlags
    texts: dict[str, str]
    """What `/flags` shows: every flag that has a value, by its name, as Mesos writes it."""
    warnings: tuple[str, ...]
    """Lines for the log, each once: what is deprecated, and what has no effect."""


@dataclass(frozen=True, slots=True)
class _Evaluated:
    value: Any
    text: str | None


def load(arguments: Sequence[str], environment: Mapping[str, str]) -> Loaded:
    """The flags of a command line, and the variables `MESOS_…` for those that it does not set.

    Raises FlagError for one that is unknown, not served or missing, for a value that is none of its kind, and for
    values that cannot work together.
    """
    found = given(arguments, environment)
    for entry in found.values():
        check_served(entry)
    evaluated = {name: _evaluate(flag, found.get(name)) for name, flag in FLAGS.items()}
    values = {name: entry.value for name, entry in evaluated.items()}
    warnings = tuple(warnings_of(found, values["isolation"]))
    values["isolation"] = ",".join(isolators(values["isolation"]))
    containerizer = Flags(**{entry.name: values[entry.name] for entry in fields(Flags)})
    agent = AgentFlags(**{entry.name: values[entry.name] for entry in fields(AgentFlags)})
    check_together(agent, containerizer, found)
    texts = {name: entry.text for name, entry in evaluated.items() if entry.text is not None}
    texts["launcher"] = launcher_name(containerizer)  # Its default depends on who the agent is.
    return Loaded(containerizer, agent, dict(sorted(texts.items())), warnings)


def _evaluate(flag: Flag, entry: Given | None) -> _Evaluated:
    if entry is not None:
        return _evaluate_given(entry)
    if flag.required:
        raise FlagError(f"--{flag.name} is missing", f"write --{flag.name}={flag.kind.label.upper()}")
    if flag.default is None:
        return _Evaluated(flag.kind.absent, None)
    value = flag.kind.parse(flag.default)
    return _Evaluated(value, flag.kind.show(value))


def _evaluate_given(entry: Given) -> _Evaluated:
    kind, file = entry.flag.kind, entry.file
    try:
        value = kind.parse(entry.text if file is None else _read(file))
    except FlagError as error:
        raise FlagError(f"{entry.origin}: {error.message}", error.hint) from error
    return _Evaluated(value, kind.show(value))


def _read(file: str) -> str:
    """The text of a file, without the end of its last line, which people rarely mean."""
    try:
        return Path(file).read_text(encoding="utf-8").removesuffix("\n")
    except OSError as error:
        raise FlagError(f"the file {file!r} cannot be read: {error.strerror}") from error
    except ValueError as error:  # What is no UTF-8, and a NUL in the path.
        raise FlagError(f"the file {file!r} cannot be read: {error}") from error
