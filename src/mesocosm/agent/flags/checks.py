"""What flags mean for each other: those that nothing serves, that cannot work together, or do not what they seem to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from mesocosm.agent.flags.given import Given
from mesocosm.agent.flags.kinds import Source
from mesocosm.agent.flags.table.cluster import MASTER
from mesocosm.agent.flags.table.own import LOGROTATE
from mesocosm.agent.flags.values import AgentFlags
from mesocosm.errors import FlagError
from mesocosm.flags import Flags, names_in
from mesocosm.isolators.selection import ALIASES

_OF_A_CLUSTER = {flag.name for flag in MASTER if flag.served_by is not None} | {"reconfiguration_policy"}
_EVERY_CGROUP = "cgroups/all"
_LONGEST_REREGISTRATION = 15.0
"""Seconds that a master takes an agent to be recovering, at most (MAX_EXECUTOR_REREGISTRATION_TIMEOUT)."""


def check_served(entry: Given) -> None:
    """Raises FlagError for a flag that nothing serves, as it would be ignored otherwise."""
    if entry.flag.instead is not None:
        why = f": {entry.flag.why}" if entry.flag.why else ""
        raise FlagError(f"{entry.origin} is not served here{why}", entry.flag.instead)
    if entry.flag.served_by is None:
        raise FlagError(f"{entry.origin}: nothing serves this flag yet", "remove it")


def check_together(agent: AgentFlags, containerizer: Flags, found: Mapping[str, Given]) -> None:
    """Raises FlagError for values that cannot work together."""
    _check_directories(agent, containerizer)
    _check_executors(agent)
    if agent.systemd_enable_support:
        raise FlagError(
            "--systemd_enable_support is not served here: containers are in no slice of systemd's",
            "write --no-systemd_enable_support, and KillMode=process in the unit, lest they end with the agent",
        )
    for name in ("authenticate_http_readonly", "authenticate_http_readwrite"):
        if getattr(agent, name) and agent.http_credentials is None:
            raise FlagError(f"--{name} needs --http_credentials", "name the file of the credentials")
    for name, entry in found.items():
        if name.startswith(f"{LOGROTATE}_") and agent.container_logger != LOGROTATE:
            raise FlagError(f"{entry.origin} needs --container_logger={LOGROTATE}", "add that, or remove the flag")
        if name in _OF_A_CLUSTER and agent.master is None:
            raise FlagError(f"{entry.origin} needs --master", "add that, or remove the flag")
    if agent.authentication_timeout_min > agent.authentication_timeout_max:
        raise FlagError(
            "--authentication_timeout_min is more than --authentication_timeout_max", "give the greater one more"
        )


def _check_directories(agent: AgentFlags, containerizer: Flags) -> None:
    work_dir, runtime_dir, cache = containerizer.work_dir, containerizer.runtime_dir, agent.fetcher_cache_dir
    if work_dir == runtime_dir:
        raise FlagError(f"--work_dir and --runtime_dir are both {str(work_dir)!r}", "they need one each")
    for name, path in {"work_dir": work_dir, "runtime_dir": runtime_dir, "log_dir": agent.log_dir}.items():
        if path is not None and path.is_relative_to(cache):
            raise FlagError(
                f"--fetcher_cache_dir, {str(cache)!r}, has --{name} in it",
                "choose another directory: that of the cache is cleared when the agent starts",
            )


def _check_executors(agent: AgentFlags) -> None:
    if agent.executor_reregistration_timeout > _LONGEST_REREGISTRATION:
        raise FlagError("--executor_reregistration_timeout is too long", "give 15secs at most")
    if agent.authenticate_http_executors and agent.jwt_secret_key is None:
        raise FlagError("--authenticate_http_executors needs --jwt_secret_key", "name the file of the key")
    if agent.domain_socket_location is not None and not agent.http_executor_domain_sockets:
        raise FlagError("--domain_socket_location needs --http_executor_domain_sockets", "add that, or remove the flag")
    variables = agent.executor_environment_variables or {}
    if wrong := [name for name, value in variables.items() if not isinstance(value, str)]:
        raise FlagError(f"--executor_environment_variables: the value of {wrong[0]!r} is no text", "quote it")


def isolators(isolation: str) -> list[str]:
    """The names in `--isolation`, with new ones for those that are deprecated."""
    names = names_in(isolation)
    result: list[str] = []
    for name in names:
        current = ALIASES.get(name)
        result += [name] if current is None else [new for new in current if new not in (*names, *result)]
    return result


def warnings_of(found: Mapping[str, Given], isolation: str) -> Iterator[str]:
    """What is deprecated, unsafe or without effect in the flags that were set."""
    for name in dict.fromkeys(names_in(isolation)):
        if name in ALIASES:
            yield f"--isolation: {name!r} is deprecated; write {','.join(ALIASES[name])}"
    used = isolators(isolation)
    for entry in found.values():
        yield from _warnings_of(entry, used)


def _warnings_of(entry: Given, used: Sequence[str]) -> Iterator[str]:
    flag, file = entry.flag, entry.file
    if entry.is_old_name:
        yield f"{entry.origin} is deprecated; write --{flag.name}"
    if flag.kind.source is Source.OLD_PATH and file == entry.text:
        yield f"{entry.origin}: a path alone is deprecated; write file://{file}"
    if flag.isolators and not _is_any_used(flag.isolators, used) and entry.text != flag.default:
        yield f"{entry.origin} has no effect; add {' or '.join(flag.isolators)} to --isolation"


def _is_any_used(names: Sequence[str], used: Sequence[str]) -> bool:
    return any(name in used or (name.startswith("cgroups/") and _EVERY_CGROUP in used) for name in names)
