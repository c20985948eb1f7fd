"""What a command gives up before it is executed, and what its init does, so that there is nothing to take it back from.

The order is the only one that works: limits while it is root, groups before the user, the user before the capabilities
that shall survive the change, and the filter of system calls last, as it need not allow any of that then.
"""

from __future__ import annotations

import os
import sys

from mesocosm.launcher.info import Credentials, LaunchInfo
from mesocosm.launcher.step import Step
from mesocosm.linux import capabilities, prctl, rlimits, seccomp
from mesocosm.linux.capabilities import KILL, SYS_ADMIN, Sets


def limit_bounding(info: LaunchInfo) -> None:
    """Limits the bounding set of the init, and so of every process of the container. Raises Failure."""
    if info.capabilities is not None:
        with Step("limit the bounding capabilities"):
            capabilities.limit_bounding(info.capabilities.bounding)


def confine_init(info: LaunchInfo) -> None:
    """Takes from the init what the container's processes shall not get, if they may trace it (ptrace(2)).

    What it keeps in any case is the right to signal processes of other users, and the system calls that it lives on.
    It gains no privileges, as it executes nothing, and so needs no privilege for a filter. Raises Failure.
    """
    with Step("confine the init"):
        if info.capabilities is not None:
            kept = capabilities.get().permitted & (info.capabilities.bounding | 1 << KILL)
            capabilities.put(Sets(kept, kept))
        if info.no_new_privileges or info.system_calls is not None:
            prctl.gain_no_privileges()
        if info.system_calls is not None:
            seccomp.load(info.system_calls.init)


def confine_command(info: LaunchInfo) -> None:
    """Takes from the calling process what the command shall not have; only an exec may follow. Raises Failure."""
    for limit in info.rlimits:
        with Step(f"limit RLMT_{limit.name}"):
            rlimits.put(limit.number, limit.soft, limit.hard)
    if info.credentials is not None:
        with Step("switch the user"):
            _become(info.credentials)
    if info.capabilities is not None or info.system_calls is not None:
        with Step("limit the capabilities"):
            _limit_capabilities(info)
    if info.no_new_privileges:
        with Step("set no_new_privs"):
            prctl.gain_no_privileges()
    if info.system_calls is not None:
        with Step("filter system calls"):
            seccomp.load(info.system_calls.command)


def confine_program(info: LaunchInfo) -> None:
    """As `confine_command`, of a process that executes nothing: it also gives up what an exec would take from it.

    Nobody may look into it, also where its new user may look into others. Raises Failure.
    """
    confine_command(info)
    if sys.platform != "linux":
        return
    with Step("give up what an exec would take"):
        own = _own(info, capabilities.get().permitted)
        capabilities.put(Sets(own, own, 0 if os.geteuid() == 0 else own))
        prctl.hide_from_ptrace()  # A change of the user has undone it.


def _own(info: LaunchInfo, held: int) -> int:
    """Which of the capabilities `held` the command has after its exec."""
    if os.geteuid() == 0:
        return held if info.capabilities is None else held & info.capabilities.bounding
    return 0 if info.capabilities is None else held & info.capabilities.effective


def _become(credentials: Credentials) -> None:
    """Switches for good, and keeps the permitted capabilities until the exec: some are to stay."""
    os.setgroups(credentials.groups)
    os.setresgid(credentials.gid, credentials.gid, credentials.gid)
    if credentials.uid != 0:
        prctl.keep_capabilities()
    os.setresuid(credentials.uid, credentials.uid, credentials.uid)


def _limit_capabilities(info: LaunchInfo) -> None:
    """Sets them. The right to filter system calls, if that takes one, is gone with the exec (capabilities(7))."""
    held = capabilities.get().permitted
    filters = info.system_calls is not None and not info.no_new_privileges
    own = _own(info, held)
    now = held & (own | (1 << SYS_ADMIN if filters else 0))
    inherited = 0 if os.geteuid() == 0 else own
    capabilities.put(Sets(now, now, inherited))
    capabilities.raise_ambient(inherited)
