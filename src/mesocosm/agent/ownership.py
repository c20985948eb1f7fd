"""Whose a container is to the access control lists, which know users by their names."""

from __future__ import annotations

import os

from mesocosm.agent.authorization import Action, Authorizer
from mesocosm.users import name_of

_DIGITS = 10
"""That the number of a user has at most."""


def allows(authorizer: Authorizer, principal: str | None, action: Action, user: str | None) -> bool:
    """Whether `principal` may do `action` to what is the `user`'s, which is the agent's own if there is none.

    A user can be given as `UID` or `UID:GID`. That has to be allowed as it is written and by the name: lists that
    forbid what is root's mean 0, too, and lists that allow a user mean his groups.
    """
    return all(authorizer.allows(principal, action, name) for name in _names(user))


def _names(user: str | None) -> set[str]:
    if not user:
        return {name_of(os.geteuid())}
    number = user.partition(":")[0]
    return {user, name_of(int(number))} if number.isdecimal() and len(number) <= _DIGITS else {user}
