"""Access control lists: which rule counts, and which lists are refused."""

from __future__ import annotations

from typing import Any

import pytest

from mesocosm.agent.authorization import _OBJECTS, AUTHORIZABLE_ENDPOINTS, Action, Authorizer
from mesocosm.errors import FlagError

ANY = {"type": "ANY"}
NONE = {"type": "NONE"}


def some(*values: str) -> dict[str, Any]:
    return {"values": list(values)}


def rule(principals: dict[str, Any], objects: dict[str, Any], name: str = "users") -> dict[str, Any]:
    return {"principals": principals, name: objects}


def sandboxes(*rules: dict[str, Any], permissive: bool = True) -> Authorizer:
    return Authorizer({"permissive": permissive, "access_sandboxes": list(rules)})


def decisions(authorizer: Authorizer) -> list[bool]:
    """Of foo and bar as alice and as root, and of nobody as alice."""
    asked = [("foo", "alice"), ("foo", "root"), ("bar", "alice"), ("bar", "root"), (None, "alice")]
    return [authorizer.allows(principal, Action.ACCESS_SANDBOXES, user) for principal, user in asked]


def test_without_lists_everything_is_allowed() -> None:
    for authorizer in (Authorizer(), Authorizer({})):
        assert all(authorizer.allows(None, action) for action in Action)
        assert all(authorizer.allows("foo", action, "root") for action in Action)


def test_not_permissive() -> None:
    authorizer = Authorizer({"permissive": False})
    assert not any(authorizer.allows("foo", action, "root") for action in Action)


@pytest.mark.parametrize(
    ("rules", "permissive", "expected"),
    [
        # The examples of Mesos's docs/authorization.md, for another action.
        ([rule(some("foo"), some("alice"))], False, [True, False, False, False, False]),
        ([rule(some("foo"), some("alice")), rule(NONE, some("alice"))], True, [True, True, False, True, False]),
        ([rule(some("foo"), some("alice")), rule(some("foo"), NONE)], True, [True, False, True, True, True]),
        ([rule(ANY, some("alice", "guest"))], False, [True, False, True, False, True]),
        ([rule(NONE, some("root"))], True, [True, False, True, False, True]),
        ([rule(NONE, ANY), rule(some("foo"), ANY)], True, [False, False, False, False, False]),
        ([rule(some("foo"), ANY), rule(NONE, ANY)], True, [True, True, False, False, False]),
        ([rule(some("foo"), NONE)], True, [False, False, True, True, True]),
        (
            [rule(some("foo"), some("alice")), rule(some("foo"), NONE), rule(ANY, ANY)],
            False,
            [True, False, True, True, True],
        ),
        ([rule(some(), some())], True, [True] * 5),
        (
            [rule({"type": "SOME", "values": ["foo"]}, {"type": "ANY", "values": ["x"]})],
            False,
            [True, True] + [False] * 3,
        ),
    ],
)
def test_the_first_rule_that_is_about_it_counts(
    rules: list[dict[str, Any]], permissive: bool, expected: list[bool]
) -> None:
    assert decisions(sandboxes(*rules, permissive=permissive)) == expected


def test_no_certain_object_is_allowed_by_a_rule_for_all_only() -> None:
    some_user = sandboxes(rule(some("foo"), some("alice")), permissive=False)
    any_user = sandboxes(rule(some("foo"), ANY), permissive=False)
    assert not some_user.allows("foo", Action.ACCESS_SANDBOXES)
    assert any_user.allows("foo", Action.ACCESS_SANDBOXES)
    assert not any_user.allows(None, Action.ACCESS_SANDBOXES)


def test_actions_have_lists_of_their_own() -> None:
    authorizer = sandboxes(rule(NONE, ANY))
    assert not authorizer.allows("foo", Action.ACCESS_SANDBOXES, "alice")
    assert authorizer.allows("foo", Action.VIEW_TASKS, "alice")


def test_endpoints() -> None:
    authorizer = Authorizer(
        {
            "permissive": False,
            "get_endpoints": [
                rule(some("ops"), ANY, "paths"),
                rule(some("foo"), some("/logging/toggle", "/monitor/statistics"), "paths"),
            ],
        }
    )
    allowed = {path for path in AUTHORIZABLE_ENDPOINTS if authorizer.allows("foo", Action.GET_ENDPOINTS, path)}
    assert allowed == {"/logging/toggle", "/monitor/statistics"}
    assert all(authorizer.allows("ops", Action.GET_ENDPOINTS, path) for path in AUTHORIZABLE_ENDPOINTS)


def test_roles_below_others() -> None:
    authorizer = Authorizer({"permissive": False, "view_roles": [rule(ANY, some("eng/%", "ops"), "roles")]})
    allowed = [
        role
        for role in ("eng", "eng/a", "eng/a/b", "engine", "ops", "ops/x")
        if authorizer.allows("foo", Action.VIEW_ROLES, role)
    ]
    assert allowed == ["eng/a", "eng/a/b", "ops"]
    assert not authorizer.allows("foo", Action.VIEW_ROLES)


def test_implicit_objects() -> None:
    authorizer = Authorizer({"view_flags": [rule(some("ops"), ANY, "flags"), rule(ANY, NONE, "flags")]})
    assert authorizer.allows("ops", Action.VIEW_FLAGS)
    assert not authorizer.allows("foo", Action.VIEW_FLAGS)
    assert not authorizer.allows(None, Action.VIEW_FLAGS)


def test_every_action_can_be_listed() -> None:
    for action in Action:
        authorizer = Authorizer({action.value: [rule(NONE, ANY, _OBJECTS[action.value])]})
        assert not authorizer.allows("foo", action)


def test_lists_for_the_master_are_accepted() -> None:
    authorizer = Authorizer(
        {
            "register_frameworks": [rule(some("foo"), some("analytics"), "roles")],
            "teardown_frameworks": [rule(some("ops"), ANY, "framework_principals")],
            "drain_agents": [rule(NONE, ANY, "agents")],
        }
    )
    assert all(authorizer.allows("bar", action, "x") for action in Action)


@pytest.mark.parametrize(
    ("acls", "complaint"),
    [
        ({"permissive": "false"}, "'permissive' is neither true nor false"),
        ({"permisive": False}, r"no action 'permisive'; did you mean 'permissive'\?"),
        ({"view_task": []}, r"no action 'view_task'; did you mean 'view_tasks'\?"),
        ({"xyz": []}, r"no action 'xyz'$"),
        ({"view_tasks": {}}, "view_tasks is no list"),
        ({"view_tasks": [[]]}, r"view_tasks\[0\] does not consist of 'principals' and 'users'"),
        ({"view_tasks": [rule(ANY, ANY), {"principals": ANY}]}, r"view_tasks\[1\] does not consist"),
        ({"view_tasks": [rule(ANY, ANY, "user")]}, r"view_tasks\[0\] does not consist"),
        ({"view_tasks": [rule(ANY, ANY) | {"comment": "x"}]}, r"view_tasks\[0\] does not consist"),
        ({"view_tasks": [rule({}, ANY)]}, r"view_tasks\[0\].principals does not consist of"),
        ({"view_tasks": [rule({"value": ["x"]}, ANY)]}, r"view_tasks\[0\].principals does not consist of"),
        ({"view_tasks": [rule(ANY, {"values": "root"})]}, r"view_tasks\[0\].users.values is no list of texts"),
        ({"view_tasks": [rule(ANY, {"values": [0]})]}, r"view_tasks\[0\].users.values is no list of texts"),
        ({"view_tasks": [rule({"type": "admin"}, ANY)]}, r"view_tasks\[0\].principals: 'admin' is no type; use ANY"),
        ({"view_flags": [rule(ANY, some("x"), "flags")]}, r"view_flags\[0\].flags cannot have values"),
        ({"launch_standalone_containers": [rule(ANY, some("root"))]}, r"\[0\].users cannot have values; give it"),
        (
            {"get_endpoints": [rule(ANY, some("/state"), "paths")]},
            "access to '/state' cannot be listed; there are /cont",
        ),
    ],
)
def test_malformed_lists(acls: dict[str, Any], complaint: str) -> None:
    with pytest.raises(FlagError, match=complaint) as refused:
        Authorizer(acls)
    assert str(refused.value).startswith("--acls: ")
    assert "\n" not in str(refused.value)
