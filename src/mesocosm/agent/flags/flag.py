"""What the table says of a flag."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, fields

from mesocosm.agent.flags.kinds import Kind
from mesocosm.dataclass import replace
from mesocosm.flags import Flags
from mesocosm.isolators.selection import REFUSED

_DEFAULTS = {entry.name: entry.default for entry in fields(Flags)}


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag. `help` is one or two sentences, and silent about `default`."""

    name: str
    kind: Kind
    help: str
    _: KW_ONLY
    default: str | None = None
    """As it would be written on the command line."""
    served_by: str | None = None
    """What honours it: a part of the agent, or isolators by their names, separated by commas. None: nothing yet."""
    instead: str | None = None
    """What to do instead, where nothing will ever serve it."""
    why: str | None = None
    """The reason for that, where it is not plain."""
    renamed_from: str | None = None
    """A deprecated name."""
    required: bool = False

    @property
    def old_names(self) -> tuple[str, ...]:
        """The deprecated spellings. An agent was called slave once, in every name."""
        renamed = () if self.renamed_from is None else (self.renamed_from,)
        return (*renamed, self.name.replace("agent", "slave")) if "agent" in self.name else renamed

    @property
    def isolators(self) -> tuple[str, ...]:
        """The isolators that serve it, if nothing else does."""
        names = tuple((self.served_by or "").split(", "))
        return names if all("/" in name for name in names) else ()


def own(name: str, kind: Kind, served_by: str, *, renamed_from: str | None = None) -> Flag:
    """A flag that is a field of the containerizer's `Flags`."""
    default = _DEFAULTS[name]
    text = None if default is None else kind.show(default)
    return Flag(name, kind, Flags.help(name), default=text, served_by=served_by, renamed_from=renamed_from)


def of_refused(isolator: str, *flags: Flag) -> tuple[Flag, ...]:
    """The flags of an isolator of Mesos that there will not be."""
    reason, instead = REFUSED[isolator]
    return tuple(replace(flag, why=f"there is no {isolator}: {reason}", instead=instead) for flag in flags)
