"""What a principal may do: the access control lists of `--acls` (`ACLs` of Mesos's `acls.proto`)."""

from __future__ import annotations

import difflib
import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mesocosm.errors import FlagError


class Action(enum.Enum):
    """What the agent asks about. The value is the name of its list; the object is what the comment says."""

    GET_ENDPOINTS = "get_endpoints"  # The path, one of AUTHORIZABLE_ENDPOINTS.
    VIEW_ROLES = "view_roles"  # The role.
    # The user of the task, the executor or the framework.
    RUN_TASKS = "run_tasks"
    VIEW_FRAMEWORKS = "view_frameworks"
    VIEW_EXECUTORS = "view_executors"
    VIEW_TASKS = "view_tasks"
    ACCESS_SANDBOXES = "access_sandboxes"
    # The user of the top-level container; for those that end in AS_USER that of the command.
    VIEW_CONTAINERS = "view_containers"
    LAUNCH_NESTED_CONTAINERS_AS_USER = "launch_nested_containers_as_user"
    LAUNCH_NESTED_CONTAINERS_UNDER_PARENT_WITH_USER = "launch_nested_containers_under_parent_with_user"
    LAUNCH_NESTED_CONTAINER_SESSIONS_AS_USER = "launch_nested_container_sessions_as_user"
    LAUNCH_NESTED_CONTAINER_SESSIONS_UNDER_PARENT_WITH_USER = "launch_nested_container_sessions_under_parent_with_user"
    ATTACH_CONTAINERS_INPUT = "attach_containers_input"
    ATTACH_CONTAINERS_OUTPUT = "attach_containers_output"
    KILL_NESTED_CONTAINERS = "kill_nested_containers"
    WAIT_NESTED_CONTAINERS = "wait_nested_containers"
    REMOVE_NESTED_CONTAINERS = "remove_nested_containers"
    # None: there is only one, or all of them are meant.
    LAUNCH_STANDALONE_CONTAINERS = "launch_standalone_containers"
    KILL_STANDALONE_CONTAINERS = "kill_standalone_containers"
    WAIT_STANDALONE_CONTAINERS = "wait_standalone_containers"
    REMOVE_STANDALONE_CONTAINERS = "remove_standalone_containers"
    VIEW_STANDALONE_CONTAINERS = "view_standalone_containers"
    ACCESS_MESOS_LOGS = "access_mesos_logs"
    VIEW_FLAGS = "view_flags"
    SET_LOG_LEVEL = "set_log_level"
    PRUNE_IMAGES = "prune_images"
    MODIFY_RESOURCE_PROVIDER_CONFIGS = "modify_resource_provider_configs"
    MARK_RESOURCE_PROVIDERS_GONE = "mark_resource_providers_gone"
    VIEW_RESOURCE_PROVIDERS = "view_resource_providers"


AUTHORIZABLE_ENDPOINTS = frozenset(
    {
        "/containers",
        "/containerizer/debug",
        "/files/debug",
        "/logging/toggle",
        "/metrics/snapshot",
        "/monitor/statistics",
    }
)
"""The paths that `get_endpoints` is about. Other endpoints have actions of their own, or none."""

# How a rule of each list names its objects, also for the master, which may be given the same file.
_WITH_VALUES = {
    "paths": ("get_endpoints",),
    "users": (
        *("run_tasks", "view_frameworks", "view_executors", "view_tasks", "access_sandboxes", "view_containers"),
        *("launch_nested_containers_as_user", "launch_nested_containers_under_parent_with_user"),
        *("launch_nested_container_sessions_as_user", "launch_nested_container_sessions_under_parent_with_user"),
        *("attach_containers_input", "attach_containers_output"),
        *("kill_nested_containers", "wait_nested_containers", "remove_nested_containers"),
    ),
    "roles": (
        *("view_roles", "register_frameworks", "reserve_resources", "update_weights", "get_quotas", "update_quotas"),
        *("create_volumes", "resize_volumes", "create_block_disks", "destroy_block_disks"),
        *("create_mount_disks", "destroy_mount_disks", "destroy_raw_disks"),
    ),
    "framework_principals": ("teardown_frameworks",),
    "reserver_principals": ("unreserve_resources",),
    "creator_principals": ("destroy_volumes",),
    "agents": ("mark_agents_gone",),
}
_ANY_OR_NONE = {
    "users": tuple(f"{verb}_standalone_containers" for verb in ("launch", "kill", "wait", "remove", "view")),
    "logs": ("access_mesos_logs",),
    "flags": ("view_flags",),
    "level": ("set_log_level",),
    "images": ("prune_images",),
    "resource_providers": (
        *("modify_resource_provider_configs", "mark_resource_providers_gone", "view_resource_providers"),
    ),
    "agents": ("register_agents", "drain_agents", "deactivate_agents", "reactivate_agents"),
    "machines": (
        *("update_maintenance_schedules", "get_maintenance_schedules", "get_maintenance_statuses"),
        *("start_maintenances", "stop_maintenances"),
    ),
}
_OBJECTS = {
    name: objects for table in (_WITH_VALUES, _ANY_OR_NONE) for objects, names in table.items() for name in names
}
_IMPLICIT = frozenset(name for names in _ANY_OR_NONE.values() for name in names)

_BELOW = "/%"
"""The end of a role that means all roles below it."""


class _Type(enum.Enum):
    SOME = "SOME"
    ANY = "ANY"
    NONE = "NONE"


@dataclass(frozen=True, slots=True)
class _Entity:
    """Principals or objects. NONE is about all of them, as ANY is, but forbids."""

    type: _Type
    values: tuple[str, ...] = ()

    def is_about(self, value: str | None) -> bool:
        """Whether `value` is meant. Without one only a rule about all of them is."""
        return self.type is not _Type.SOME or value in self.values

    def has_below(self, role: str) -> bool:
        """Whether `role` is below one of these."""
        return any(value.endswith(_BELOW) and role.startswith(value[:-1]) for value in self.values)


@dataclass(frozen=True, slots=True)
class _Rule:
    principals: _Entity
    objects: _Entity

    @property
    def allows(self) -> bool:
        return _Type.NONE not in (self.principals.type, self.objects.type)


class Authorizer:
    """Decides by lists of rules: the first one that is about a request counts, else `permissive`."""

    def __init__(self, acls: Mapping[str, Any] | None = None) -> None:
        """Without lists everything is allowed. Raises FlagError for lists that cannot be understood."""
        acls = acls or {}
        self._permissive = acls.get("permissive", True)
        if not isinstance(self._permissive, bool):
            raise FlagError("--acls: 'permissive' is neither true nor false")
        rules = {name: tuple(_rules(name, value)) for name, value in acls.items() if name != "permissive"}
        self._rules = {action: rules.get(action.value, ()) for action in Action}

    def allows(self, principal: str | None, action: Action, value: str | None = None) -> bool:
        """Whether `principal` may do `action` to the object `value`. None: nobody known, or no certain object."""
        for rule in self._rules[action]:
            if rule.principals.is_about(principal) and (
                rule.objects.is_about(value)
                or (action is Action.VIEW_ROLES and value is not None and rule.objects.has_below(value))
            ):
                return rule.allows
        return bool(self._permissive)


def _rules(name: str, value: Any) -> Iterator[_Rule]:
    if name not in _OBJECTS:
        near = difflib.get_close_matches(name, [*_OBJECTS, "permissive"], n=1)
        raise FlagError(f"--acls: there is no action {name!r}", f"did you mean {near[0]!r}?" if near else None)
    if not isinstance(value, list):
        raise FlagError(f"--acls: {name} is no list of rules")
    names = ("principals", _OBJECTS[name])
    for number, rule in enumerate(value):
        place = f"{name}[{number}]"
        if not isinstance(rule, dict) or rule.keys() != set(names):
            raise FlagError(f"--acls: {place} does not consist of {names[0]!r} and {names[1]!r}")
        principals, objects = (_entity(f"{place}.{part}", rule[part]) for part in names)
        if name in _IMPLICIT and objects.type is _Type.SOME:
            raise FlagError(f"--acls: {place}.{names[1]} cannot have values", "give it the type ANY or NONE")
        if name == Action.GET_ENDPOINTS.value and objects.type is _Type.SOME:
            for path in set(objects.values) - AUTHORIZABLE_ENDPOINTS:
                known = ", ".join(sorted(AUTHORIZABLE_ENDPOINTS))
                raise FlagError(f"--acls: {place}: access to {path!r} cannot be listed", f"there are {known}")
        yield _Rule(principals, objects)


def _entity(place: str, value: Any) -> _Entity:
    if not isinstance(value, dict) or not value or value.keys() - {"type", "values"}:
        raise FlagError(f"--acls: {place} does not consist of 'values' or a 'type'")
    try:
        kind = _Type(value.get("type", "SOME"))
    except ValueError:
        raise FlagError(
            f"--acls: {place}: {value['type']!r} is no type", "use ANY, NONE, or 'values' without a type"
        ) from None
    values = value.get("values", [])
    if not isinstance(values, list) or not all(isinstance(item, str) for item in values):
        raise FlagError(f"--acls: {place}.values is no list of texts")
    return _Entity(kind, tuple(values) if kind is _Type.SOME else ())
