"""What a principal may do with which container, as answers to requests."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from mesocosm.agent import ownership
from mesocosm.agent.agent import Observed
from mesocosm.agent.authorization import Action, Authorizer
from mesocosm.agent.http.reply import RequestError, bad_request
from mesocosm.agent.tokens import ExecutorName
from mesocosm.api import convert
from mesocosm.api.v1 import ContainerID as ContainerIDMessage
from mesocosm.container import ContainerID
from mesocosm.errors import ContainerError


class Access:
    """The access control lists, asked on behalf of requests."""

    def __init__(self, authorizer: Authorizer, user_of: Callable[[ContainerID], str | None]) -> None:
        """`user_of` tells as whom the command of a top-level container runs."""
        self._authorizer = authorizer
        self._user_of = user_of

    def allows(self, principal: str | None, action: Action, value: str | None = None) -> bool:
        """Whether it is allowed. An executor may do nothing but what is about its own containers."""
        if isinstance(principal, ExecutorName):
            return False
        return self._authorizer.allows(principal, action, value)

    def shows(self, principal: str | None, observed: Observed) -> bool:
        """Whether a principal may see a container: one of an executor by its user, any other if it may see others."""
        if observed.of_executor:
            user = self._user_of(observed.container_id.root)
            return ownership.allows(self._authorizer, principal, Action.VIEW_CONTAINERS, user)
        return self.allows(principal, Action.VIEW_STANDALONE_CONTAINERS)

    def require(self, principal: str | None, action: Action, value: str | None = None) -> None:
        """Raises RequestError, 403, for what is not allowed."""
        if not self.allows(principal, action, value):
            raise RequestError(HTTPStatus.FORBIDDEN)

    def require_on(self, principal: str | None, verb: str, container_id: ContainerID, user: str | None = None) -> None:
        """The same for a `verb`, such as "kill", on a container; `user` is as whom a command to launch shall run.

        The lists for launches below another container are in two: by that user, and by that of the top-level one.
        """
        if isinstance(principal, ExecutorName):
            return
        owner = self._user_of(container_id.root)
        if container_id.parent is None:
            self.require(principal, Action(f"{verb}_standalone_containers"))
        elif verb == "launch":
            self._require_of(principal, Action.LAUNCH_NESTED_CONTAINERS_AS_USER, user)
            self._require_of(principal, Action.LAUNCH_NESTED_CONTAINERS_UNDER_PARENT_WITH_USER, owner)
        else:
            self._require_of(principal, Action(f"{verb}_nested_containers"), owner)

    def require_session(self, principal: str | None, container_id: ContainerID, user: str | None) -> None:
        """The same for a session below a container, whose command shall run as `user`."""
        if isinstance(principal, ExecutorName):
            return
        owner = self._user_of(container_id.root)
        self._require_of(principal, Action.LAUNCH_NESTED_CONTAINER_SESSIONS_AS_USER, user)
        self._require_of(principal, Action.LAUNCH_NESTED_CONTAINER_SESSIONS_UNDER_PARENT_WITH_USER, owner)

    def require_attach(self, principal: str | None, stream: str, container_id: ContainerID) -> None:
        """The same for who wants to attach to a `stream` of a container, "input" or "output"."""
        if not isinstance(principal, ExecutorName):
            self._require_of(principal, Action(f"attach_containers_{stream}"), self._user_of(container_id.root))

    def _require_of(self, principal: str | None, action: Action, user: str | None) -> None:
        if not ownership.allows(self._authorizer, principal, action, user):
            raise RequestError(HTTPStatus.FORBIDDEN)


def named(asked: ContainerIDMessage) -> ContainerID:
    """The container that a request names. Raises RequestError for a name that Mesos may have, but not we."""
    try:
        return convert.container_id(asked)
    except ContainerError as error:
        raise bad_request(str(error)) from None
