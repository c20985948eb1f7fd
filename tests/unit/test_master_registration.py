"""What an agent says of itself, and when it may be another than before."""

from __future__ import annotations

import pytest

from mesocosm.api import internal, v1
from mesocosm.api.value_text import parse_attributes, parse_resources
from mesocosm.errors import FlagError
from mesocosm.master.registration import capabilities, check_reconfiguration, slave_info
from tests.unit.exchange import messages

RECORDED = next(
    internal.RegisterSlaveMessage.FromString(each.body)
    for each in messages()
    if each.name == "mesos.internal.RegisterSlaveMessage"
)
RESOURCES = "cpus:2;mem:4096;disk:10000;ports:[31000-32000]"
_DISK = '{"name": "disk", "type": "SCALAR", "scalar": {"value": 868000}}'
DISKS = f"""[{_DISK}, {{"name": "disk", "type": "SCALAR", "scalar": {{"value": 1830000}},
    "disk": {{"source": {{"type": "MOUNT", "mount": {{"root": "/srv/volumes/a"}}}}}}}}]"""


def agent(
    resources: str = RESOURCES, attributes: str = "rack:r1;zone:z", *, port: int = 5061, region: str | None = None
) -> internal.SlaveInfo:
    domain = None
    if region is not None:
        domain = v1.DomainInfo(fault_domain={"region": {"name": region}, "zone": {"name": "a"}})
    return slave_info("127.0.0.1", port, parse_resources(resources), parse_attributes(attributes), domain)


def test_it_says_what_a_real_agent_says() -> None:
    assert agent() == RECORDED.slave


def test_reserved_resources_are_written_as_for_older_masters() -> None:
    sent = agent("cpus(web):1;cpus:1").resources
    assert [(resource.role, len(resource.reservations)) for resource in sent[:2]] == [("web", 0), ("*", 0)]


def test_capabilities_are_those_of_what_is_handled() -> None:
    assert capabilities([internal.ApplyOperationMessage, internal.DrainSlaveMessage, internal.RunTaskMessage]) == tuple(
        RECORDED.agent_capabilities
    )
    assert [capability.type for capability in capabilities([])] == [1, 2, 3]


@pytest.mark.parametrize("resources", [RESOURCES, DISKS])
@pytest.mark.parametrize("policy", ["equal", "additive"])
def test_an_agent_may_stay_as_it_is(policy: str, resources: str) -> None:
    before = agent(resources, region="x")
    before.id.value = "S0"
    check_reconfiguration(policy, before, agent(resources, region="x"))


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (agent(), agent("cpus:3;mem:4096;disk:10000;ports:[31000-32000]")),
        (agent(), agent("cpus:2;mem:4096;disk:10000;ports:[30000-31500,31501-33000]")),
        (agent(), agent(RESOURCES + ";gpus:1;cpus(web):1")),
        (agent("cpus:1;cpus:1"), agent("cpus:2")),
        (agent(f"[{_DISK}]"), agent(DISKS)),
        (agent("disks:{a,b}"), agent("disks:{b,a,c}")),
        (agent(), agent(attributes="rack:r1;zone:z;more:1")),
        (agent(attributes="ports:[1-5]"), agent(attributes="ports:[1-6]")),
        (agent(), agent(region="x")),
    ],
)
def test_an_agent_may_be_more(before: internal.SlaveInfo, now: internal.SlaveInfo) -> None:
    check_reconfiguration("additive", before, now)
    with pytest.raises(FlagError, match="--reconfiguration_policy=equal"):
        check_reconfiguration("equal", before, now)


@pytest.mark.parametrize(
    ("before", "now", "reason"),
    [
        (agent(), agent(port=5062), "the port of the agent was 5061, and is 5062"),
        (agent(), agent("cpus:1;mem:4096;disk:10000;ports:[31000-32000]"), "the resource cpus:2 has gone, or is less"),
        (agent(), agent("cpus:2;mem:4096;disk:10000;ports:[31000-31999]"), "ports:[31000-32000]"),
        (agent("cpus(web):1"), agent("cpus:9"), "cpus(web):1"),
        (agent("disks:{a,b}"), agent("disks:{a}"), "disks:{a, b}"),
        (agent(), agent(attributes="rack:r1"), "the attribute zone:z has gone"),
        (agent(attributes="n:1"), agent(attributes="n:2"), "n:1"),
        (agent(region="x"), agent(region="y"), "the domain of the agent was"),
        (agent(region="x"), agent(), "and is none"),
    ],
)
def test_an_agent_may_not_be_less(before: internal.SlaveInfo, now: internal.SlaveInfo, reason: str) -> None:
    with pytest.raises(FlagError) as caught:
        check_reconfiguration("additive", before, now)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(FlagError):
        check_reconfiguration("equal", before, now)
