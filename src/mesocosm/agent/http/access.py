"""What a principal may do with which container, as answers to requests."""

from __future__ import annotations

from http import HTTPStatus

from mesocosm.agent.authorization import Action, Authorizer
from mesocosm.agent.http.reply import RequestError
from mesocosm.container import ContainerID


class Access:
    """The access control lists, asked on behalf of requests."""

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    def allows(self, principal: str | None, action: Action, value: str | None = None) -> bool:
        """Whether it is allowed."""
        return self._authorizer.allows(principal, action, value)

    def require(self, principal: str | None, action: Action, value: str | None = None) -> None:
        """Raises RequestError, 403, for what is not allowed."""
        if not self.allows(principal, action, value):
            raise RequestError(HTTPStatus.FORBIDDEN)

    def require_on(self, principal: str | None, verb: str, container_id: ContainerID, user: str | None) -> None:
        """The same for a `verb`, such as "kill", on a container; `user` is whose it is, or is to be.

        The lists for launches below another container are in two: by the user of the command and of that container.
        """
        if container_id.parent is None:
            self.require(principal, Action(f"{verb}_standalone_containers"))
        elif verb == "launch":
            self.require(principal, Action.LAUNCH_NESTED_CONTAINERS_AS_USER, user)
            self.require(principal, Action.LAUNCH_NESTED_CONTAINERS_UNDER_PARENT_WITH_USER, user)
        else:
            self.require(principal, Action(f"{verb}_nested_containers"), user)
