"""Whose a container is to access control lists, which know users by their names."""

from __future__ import annotations

import contextlib
import os
import pwd

from mesocosm.agent.authorization import Action, Authorizer


def allows(authorizer: Authorizer, principal: str | None, action: Action, user: str | None) -> bool:
    """Whether `principal` may do `action` to what is the `user`'s; without one it is the agent's own.

    A container may name its user by a number: that has to be allowed as it is written, and by the user's name.
    """
    return all(authorizer.allows(principal, action, name) for name in _names(user or str(os.geteuid())))


def _names(user: str) -> list[str]:
    number, _, group = user.partition(":")
    if number.isdecimal():
        with contextlib.suppress(KeyError, OverflowError, ValueError):  # Nobody has that number.
            name = pwd.getpwuid(int(number)).pw_name
            return [name] if user == str(os.geteuid()) else [user, name]
    return [user]
