"""What a container of `mesocosm run` may do: capabilities, system calls, and what programs may give it."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable
from pathlib import Path

from mesocosm.container import LinuxInfo, RLimit, SeccompInfo
from mesocosm.dataclass import dataclass, replace
from mesocosm.errors import FlagError
from mesocosm.linux import capabilities, rlimits

CAPABILITIES = (
    *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW"),
    *("SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
)
"""Those of a container of an image, as in Docker: what package managers and servers use."""
_UNCONFINED, _DEFAULT = "unconfined", "default"
_CAPABILITIES, _NO_NEW_PRIVILEGES, _SECCOMP = "linux/capabilities", "linux/nnp", "linux/seccomp"
_DEVICES = "cgroups/devices"
_ALL = "ALL"
_PREFIX = "CAP_"
_UNLIMITED = (1 << 64) - 1
"""RLIM_INFINITY of <sys/resource.h>, as a number."""


@dataclass(frozen=True, slots=True)
class Security:
    """Restrictions of a container; without any, it may do what its user may.

    `bounding` are the capabilities that it has at most, and root has; `effective` those that another user has, too.
    `guarded` are those of the bounding ones that it has only where an isolator says which devices may be opened.
    `profile` is the file of a seccomp profile.
    """

    bounding: tuple[str, ...] | None = None
    effective: tuple[str, ...] = ()
    guarded: tuple[str, ...] = ()
    profile: Path | None = None
    no_new_privileges: bool = False

    @property
    def isolators(self) -> tuple[str, ...]:
        """The isolators that it takes."""
        asked = {
            _CAPABILITIES: self.bounding is not None,
            _NO_NEW_PRIVILEGES: self.no_new_privileges,
            _SECCOMP: self.profile is not None,
        }
        return tuple(name for name, is_asked in asked.items() if is_asked)

    def apply(self, info: LinuxInfo, isolation: Collection[str]) -> LinuxInfo:
        """`info` with what the isolators in use are to be asked for. Profiles are named as paths below `/`."""
        bounding = self.bounding
        if bounding is not None and _DEVICES not in isolation:
            bounding = tuple(name for name in bounding if name not in self.guarded)
        return replace(
            info,
            bounding_capabilities=bounding,
            effective_capabilities=None if self.bounding is None else self.effective,
            seccomp=None if self.profile is None else SeccompInfo(str(self.profile).lstrip("/")),
        )


UNRESTRICTED = Security()


def for_image(isolation: Collection[str] | None = None) -> Security:
    """What a container of an image may do if nobody says otherwise, as far as the chosen isolators go."""
    from mesocosm.linux.seccomp import profile

    def serves(isolator: str) -> bool:
        return isolation is None or isolator in isolation

    return Security(
        bounding=CAPABILITIES if serves(_CAPABILITIES) else None,
        # Who may make device nodes has every disk of the host, where all devices may be opened.
        guarded=("MKNOD",),
        profile=profile.SHIPPED / profile.DEFAULT if serves(_SECCOMP) else None,
        no_new_privileges=serves(_NO_NEW_PRIVILEGES),
    )


def choose(
    default: Security = UNRESTRICTED,
    *,
    add: Iterable[str] = (),
    drop: Iterable[str] = (),
    seccomp: str | None = None,
    no_new_privileges: bool | None = None,
    privileged: bool = False,
) -> Security:
    """What is asked for, on top of `default`, or of no restriction for one that is `privileged`. Raises FlagError.

    As in Docker, what is added counts more than what is dropped, and a name more than ALL. What is added, users other
    than root have as well.
    """
    chosen = UNRESTRICTED if privileged else default
    asked, refused = tuple(add), tuple(drop)
    if asked or refused:  # Also if these are none: who has no capabilities can drop ALL.
        added, dropped = _names("--cap-add", asked), _names("--cap-drop", refused)
        chosen = replace(
            chosen,
            bounding=_bounding(chosen.bounding, added, dropped),
            effective=_sorted(added),
            guarded=tuple(name for name in chosen.guarded if name not in added),
        )
    if seccomp is not None:
        chosen = replace(chosen, profile=_profile(seccomp))
    if no_new_privileges is not None:
        chosen = replace(chosen, no_new_privileges=no_new_privileges)
    return chosen


def _bounding(default: Iterable[str] | None, add: frozenset[str], drop: frozenset[str]) -> tuple[str, ...]:
    kept = _held() if default is None else frozenset(default)
    return _sorted(kept - drop | add)


def _names(option: str, given: Iterable[str]) -> frozenset[str]:
    """The capabilities `given`, with all that there are in place of ALL."""
    names = frozenset(name.upper().removeprefix(_PREFIX) for name in given)
    for name in sorted(names - {_ALL}):
        if name not in capabilities.NAMES:
            raise FlagError(f"{option}: there is no capability {name!r}", f"write one of capabilities(7), or {_ALL}")
    return names - {_ALL} | _held() if _ALL in names else names


def _held() -> frozenset[str]:
    """Those that Mesocosm has itself. Raises FlagError where there is no such thing."""
    if sys.platform != "linux":
        raise FlagError("capabilities are of Linux", "leave out --cap-add and --cap-drop")
    return frozenset(capabilities.names_of(capabilities.get().permitted)) & frozenset(capabilities.NAMES)


def _sorted(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(names, key=capabilities.NAMES.index))


def _profile(text: str) -> Path | None:
    from mesocosm.linux.seccomp import profile

    if text == _UNCONFINED:
        return None
    path = profile.SHIPPED / profile.DEFAULT if text == _DEFAULT else Path(text).resolve()
    if not path.is_file():
        raise FlagError(
            f"--seccomp: there is no profile {text!r}", f"name a file, or write {_DEFAULT} or {_UNCONFINED}"
        )
    return path


def parse_rlimit(text: str) -> RLimit:
    """`NAME=SOFT[:HARD]`; a number alone is both limits, and `unlimited` is none. Raises FlagError."""
    name, equals, amounts = text.partition("=")
    name = name.upper().removeprefix("RLIMIT_").removeprefix("RLMT_")
    if not equals:
        raise FlagError(f"--rlimit: {text!r} has no limit", "write NAME=SOFT[:HARD]")
    if name not in rlimits.NAMES:
        raise FlagError(f"--rlimit: there is no limit {name!r}", f"write one of {', '.join(rlimits.NAMES).lower()}")
    soft, _, hard = amounts.partition(":")
    limits = _amount(text, soft), _amount(text, hard or soft)
    return RLimit(name) if limits == (_UNLIMITED, _UNLIMITED) else RLimit(name, *limits)


def _amount(text: str, amount: str) -> int:
    if amount in ("unlimited", "-1"):
        return _UNLIMITED
    if not amount.isdecimal() or not amount.isascii() or int(amount) > _UNLIMITED:
        raise FlagError(f"--rlimit: {amount!r} in {text!r} is no number", "write one, or unlimited")
    return int(amount)
